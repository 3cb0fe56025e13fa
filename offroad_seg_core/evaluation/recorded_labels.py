"""Label maps that somebody recorded or drew, put beside the frames that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from offroad_seg_core.bags.camera_topics import IMAGE_TYPE, TRANSPORTS, CameraTopic, sibling
from offroad_seg_core.bags.definitions import header_stamp_ns
from offroad_seg_core.bags.label_images import decode_labels
from offroad_seg_core.bags.reading import Bag, BagError, contents, open_bag
from offroad_seg_core.evaluation.sources.frame import Frame, SourceError, file_identity
from offroad_seg_core.evaluation.sources.pictures import stamp_in_name

Frames = Iterator[tuple[int, Frame]]
Encode = Callable[[np.ndarray], np.ndarray]

# How far apart, at most, a frame and its labels lie in the bag that holds both, and how far a
# separate bag's stamps run ahead before what is left of a frame's labels is given up.
_REACH_NS = 2_000_000_000


class LabelSource(Protocol):
    """Label maps by camera and stamp."""

    def attach(self, key: str, frames: Frames, start_ns: int | None) -> Frames:
        """Yield the frames, those that have a label map with it as ``maps[key]``.

        Args:
            key: See Frame.
            frames: In their order.
            start_ns: Bag time of the first of them; None: from the beginning.
        """

    def identity(self) -> dict[str, Any]:
        """Return plain data that differ when the labels may differ."""


@dataclass(frozen=True)
class LabelTopics:
    """Label images of a bag.

    Attributes:
        path: The bag.
        topics: Camera -> topic.
        encode: From stored ids to the class ids wanted, ``(H, W)`` uint8.
        beside_frames: Whether the frames are of the same bag, so that bag times compare.
    """

    path: Path
    topics: Mapping[str, str]
    encode: Encode
    beside_frames: bool

    def attach(self, key: str, frames: Frames, start_ns: int | None) -> Frames:
        """Yield frames with their labels, see LabelSource."""
        cameras = {topic: camera for camera, topic in self.topics.items()}
        first_ns = start_ns - _REACH_NS if start_ns is not None and self.beside_frames else None
        with open_bag(self.path) as bag:
            wanted = [entry for entry in bag.connections if entry.topic in cameras]
            messages = bag.messages(wanted, first_ns) if wanted else iter(())
            pending: dict[tuple[str, int], tuple[int, Callable[[], np.ndarray]]] = {}
            reached_ns = -(2**63)
            for part, frame in frames:
                now_ns = frame.time_ns if self.beside_frames else frame.stamp_ns
                while reached_ns <= now_ns + _REACH_NS:
                    message = next(messages, None)
                    if message is None:
                        break
                    entry, time_ns, data = message
                    stamp_ns = header_stamp_ns(data)
                    reached_ns = time_ns if self.beside_frames else stamp_ns
                    if reached_ns >= now_ns - _REACH_NS:
                        load = partial(self._decode, entry.msgtype, data)
                        pending[cameras[entry.topic], stamp_ns] = reached_ns, load
                pending = {k: e for k, e in pending.items() if e[0] >= now_ns - _REACH_NS}
                found = pending.pop((frame.camera, frame.stamp_ns), None)
                yield part, with_map(frame, key, found[1]) if found else frame

    def _decode(self, kind: str, data: bytes) -> np.ndarray:
        return self.encode(decode_labels(kind, data))

    def identity(self) -> dict[str, Any]:
        """Return what the labels depend on."""
        return {'files': file_identity(self.path), 'topics': dict(self.topics)}


class LabelFolder:
    """Label files, matched by the frame's name or by a stamp in theirs.

    Args:
        folder: Holds PNG files; those of each camera in a folder of its name, if there are such.
        read: Reads a file as class ids, ``(H, W)`` uint8.

    Raises:
        SourceError: There are none.
    """

    def __init__(self, folder: str | Path, read: Callable[[Path], np.ndarray]) -> None:
        self._folder, self._read = Path(folder), read
        files = sorted(self._folder.rglob('*.png'))
        if not files:
            raise SourceError(f'{folder}: got no .png files, expected label maps; check the path')
        self._by_name: dict[tuple[str, str], Path] = {}
        self._by_stamp: dict[tuple[str, int], Path] = {}
        for file in files:
            place = '' if file.parent == self._folder else file.parent.name
            self._by_name[place, file.stem] = file
            stamp_ns = stamp_in_name(file.stem)
            if stamp_ns is not None:
                self._by_stamp.setdefault((place, stamp_ns), file)

    def attach(self, key: str, frames: Frames, start_ns: int | None) -> Frames:
        """Yield frames with their labels, see LabelSource."""
        del start_ns  # files are found by name
        for part, frame in frames:
            file = self._find(frame)
            yield part, with_map(frame, key, partial(self._read, file)) if file else frame

    def _find(self, frame: Frame) -> Path | None:
        for place in (frame.camera, ''):
            file = self._by_name.get((place, frame.name))
            file = file or self._by_stamp.get((place, frame.stamp_ns))
            if file:
                return file
        return None

    def identity(self) -> dict[str, Any]:
        """Return what the labels depend on."""
        files = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in self._by_name.values()]
        return {'files': files}


def with_map(frame: Frame, key: str, load: Callable[[], np.ndarray]) -> Frame:
    """Return a frame that comes with one more map."""
    return replace(frame, maps={**frame.maps, key: load})


def truth_topics(types: Mapping[str, str], cameras: Mapping[str, CameraTopic]) -> dict[str, str]:
    """Return camera -> topic of exact label maps: the first one below `<camera>/ground_truth`.

    Args:
        types: Topic -> type of a bag.
        cameras: Topic -> camera.
    """
    found = {}
    for camera in cameras.values():
        prefix = sibling(camera.info_topic, 'ground_truth')
        topics = [t for t, kind in sorted(types.items()) if kind == IMAGE_TYPE]
        beside = [topic for topic in topics if topic.startswith(prefix)]
        if beside:
            found[camera.name] = beside[0]
    return found


def output_topics(types: Mapping[str, str], output: str) -> dict[str, str]:
    """Return camera -> topic of what the node said: `.../<camera>/segmentation/<output>`."""
    ending = f'/segmentation/{output}'
    topics = [topic for topic, kind in types.items() if kind in TRANSPORTS]
    return {
        topic.removesuffix(ending).rpartition('/')[2]: topic
        for topic in topics
        if topic.endswith(ending)
    }


def check_topics(bag: Bag, topics: Mapping[str, str]) -> None:
    """Refuse topics that a bag does not have as images.

    Raises:
        BagError: Naming them and what there is.
    """
    types = {entry.topic: entry.msgtype for entry in bag.connections}
    wrong = [topic for topic in topics.values() if types.get(topic) not in TRANSPORTS]
    if wrong:
        raise BagError(
            f'{bag.path}: got label topics {", ".join(wrong)}, expected topics of '
            f'sensor_msgs/Image or CompressedImage; it holds {contents(bag)}'
        )
