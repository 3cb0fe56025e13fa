"""Label maps that somebody recorded or drew, put beside the frames that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
import re
from typing import Any, Protocol

import numpy as np

from offroad_seg_core.bags.camera_topics import IMAGE_TYPE, TRANSPORTS, CameraTopic, sibling
from offroad_seg_core.bags.label_images import decode_labels
from offroad_seg_core.bags.reading import Bag, BagError, contents, open_bag
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.evaluation.sources.frame import Frame, SourceError, file_identity
from offroad_seg_core.evaluation.sources.pictures import stamp_in_name
from offroad_seg_core.evaluation.stamped_labels import Key, NearbyLabels, StampedLabels

Frames = Iterator[tuple[int, Frame]]

# Names of topics that hold class ids, and of those that hold something else.
_CLASSES, _NO_CLASSES = re.compile('label|semantic'), re.compile('depth|instance')


class LabelSource(Protocol):
    """Label maps by camera and stamp.

    Attributes:
        notes: What could not be read, as sentences; grows while maps are attached.
    """

    @property
    def notes(self) -> Sequence[str]:
        """See above."""

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
        reader: Makes the class ids wanted of stored ids; None: they are these already.
        pictures: Topic -> camera, where the frames are of the same bag, so that bag times compare.
        told: Notes of each time that the bag was opened.
    """

    path: Path
    topics: Mapping[str, str]
    reader: MaskReader | None
    pictures: Mapping[str, str] | None = None
    told: list[list[str]] = field(default_factory=list, compare=False)

    @property
    def notes(self) -> list[str]:
        """See LabelSource."""
        return list(dict.fromkeys(note for notes in self.told for note in notes))

    def attach(self, key: str, frames: Frames, start_ns: int | None) -> Frames:
        """Yield frames with their labels, see LabelSource."""
        with open_bag(self.path) as bag:
            self.told.append(bag.notes)  # which grows
            find = self._finder(bag, start_ns)
            for part, frame in frames:
                found = find(frame)
                yield part, with_map(frame, key, partial(self._decode, *found)) if found else frame

    def _finder(
        self, bag: Bag, start_ns: int | None
    ) -> Callable[[Frame], tuple[str, bytes] | None]:
        """Return what finds type and bytes of a frame's labels; frames come in their order."""
        if self.pictures is None:  # times are of another bag: wherever the labels lie in theirs
            stamped = StampedLabels(bag, self.topics)
            # Without stamps all frames would look like one.
            return lambda frame: stamped.read(_key(frame)) if frame.stamp_ns > 0 else None
        near = NearbyLabels(bag, self.topics, self.pictures, start_ns)
        self.told.append(near.notes)  # which grow, too
        return lambda frame: near.read(_key(frame), frame.time_ns)

    def _decode(self, kind: str, data: bytes) -> np.ndarray:
        stored = decode_labels(kind, data)
        return (
            stored.astype(np.uint8, copy=False) if not self.reader else self.reader.encode(stored)
        )

    def identity(self) -> dict[str, Any]:
        """Return what the labels depend on."""
        return {
            'files': file_identity(self.path),
            'topics': dict(self.topics),
            'reader': self.reader and self.reader.identity(),
        }


class LabelFolder:
    """Label files, matched by the frame's name or by a stamp in theirs.

    Args:
        folder: Holds PNG files; those of each camera in a folder of its name, if there are such.
        reader: Reads a file as class ids.

    Raises:
        SourceError: There are none.
    """

    notes: Sequence[str] = ()

    def __init__(self, folder: str | Path, reader: MaskReader) -> None:
        self._folder, self._reader = Path(folder), reader
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
            yield part, with_map(frame, key, partial(self._reader.read, file)) if file else frame

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
        return {'files': files, 'reader': self._reader.identity()}


def _key(frame: Frame) -> Key:
    return Key(frame.camera, frame.stamp_ns)


def with_map(frame: Frame, key: str, load: Callable[[], np.ndarray]) -> Frame:
    """Return a frame that comes with one more map."""
    return replace(frame, maps={**frame.maps, key: load})


def truth_topics(types: Mapping[str, str], cameras: Mapping[str, CameraTopic]) -> dict[str, str]:
    """Return camera -> topic of exact label maps: one below `<camera>/ground_truth`.

    Of several, one that is called label_map, labels or semantic is taken before others, and those
    of depth and instances after others.

    Args:
        types: Topic -> type of a bag.
        cameras: Topic -> camera.
    """
    found = {}
    for camera in cameras.values():
        prefix = sibling(camera.info_topic, 'ground_truth')
        beside = [t for t, kind in types.items() if kind == IMAGE_TYPE and t.startswith(prefix)]
        if beside:
            found[camera.name] = min(beside, key=partial(_truth_rank, prefix=prefix))
    return found


def _truth_rank(topic: str, prefix: str) -> tuple[bool, bool, str]:
    name = topic.removeprefix(prefix)
    return bool(_NO_CLASSES.search(name)), not _CLASSES.search(name), topic


def output_topics(types: Mapping[str, str], output: str) -> dict[str, str]:
    """Return camera -> topic of what the node said: `.../<camera>/segmentation/<output>`.

    Where several have the same camera, as of several drives, it is `<drive>/<camera>`.
    """
    ending = f'/segmentation/{output}'
    topics = [t for t, kind in types.items() if kind in TRANSPORTS and t.endswith(ending)]
    places = [topic.removesuffix(ending).strip('/') for topic in topics]
    cameras = [place.rpartition('/')[2] for place in places]
    is_unique = len(set(cameras)) == len(cameras)
    return dict(zip(cameras if is_unique else places, topics, strict=True))


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
