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
from offroad_seg_core.evaluation.sources.frame import LABELS_LEFT_OUT, Frame, file_identity
from offroad_seg_core.evaluation.sources.pictures import stamp_in_name
from offroad_seg_core.evaluation.stamped_labels import Key, StampedLabels

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

    def attach(self, key: str, frames: Frames) -> Frames:
        """Yield the frames, those that have a label map with it as ``maps[key]``.

        Args:
            key: See Frame.
            frames: In their order.
        """

    def identity(self) -> dict[str, Any]:
        """Return plain data that differ when the labels may differ."""


@dataclass(frozen=True)
class LabelTopics:
    """Label images of another bag than the frames.

    Attributes:
        path: The bag.
        topics: Camera -> topic.
        reader: Makes the class ids wanted of stored ids; None: they are these already.
        told: Notes of each time that the bag was opened.
        needs_date: Whether only stamps count that tell a date, as it may hold labels of any of
            several drives: those of simulations all begin at zero.
    """

    path: Path
    topics: Mapping[str, str]
    reader: MaskReader | None
    told: list[list[str]] = field(default_factory=list, compare=False)
    needs_date: bool = False

    @property
    def notes(self) -> list[str]:
        """See LabelSource."""
        return list(dict.fromkeys(note for notes in self.told for note in notes))

    def attach(self, key: str, frames: Frames) -> Frames:
        """Yield frames with their labels, see LabelSource."""
        with open_bag(self.path) as bag:
            doubtful: list[str] = []
            self.told.extend([bag.notes, doubtful])  # which grow
            stamped = StampedLabels(bag, self.topics)
            for part, frame in frames:
                of_frame = Key(frame.camera, frame.stamp_ns)
                # Without stamps all frames would look like one.
                found = stamped.read(of_frame) if frame.stamp_ns > 0 else None
                if found and self.needs_date and stamp_in_name(str(frame.stamp_ns)) is None:
                    why = 'their stamps tell no date, so they may be of any of several drives'
                    fix = 'give a folder with a bag for each drive, of its name'
                    doubtful[:] = [f'{self.path}{LABELS_LEFT_OUT}{why}; fix: {fix}']
                    found = None
                load = partial(decode_class_ids, self.reader, *found) if found else None
                yield part, with_map(frame, key, load) if load else frame

    def identity(self) -> dict[str, Any]:
        """Return what the labels depend on."""
        return {
            'files': file_identity(self.path),
            'topics': dict(self.topics),
            'reader': self.reader and self.reader.identity(),
            'needs_date': self.needs_date,
        }


@dataclass(frozen=True)
class LabelsBeside:
    """Label images of the bag that the frames are of: BagFrames reads both in one pass.

    Attributes:
        topics: Camera -> topic.
        reader: Makes the class ids wanted of stored ids.
    """

    topics: Mapping[str, str]
    reader: MaskReader

    def identity(self) -> dict[str, Any]:
        """Return what the labels depend on beside the bag."""
        return {'topics': dict(self.topics), 'reader': self.reader.identity()}


def decode_class_ids(reader: MaskReader | None, kind: str, data: bytes) -> np.ndarray:
    """Return the class ids of a label image, ``(H, W)`` uint8.

    Args:
        reader: Makes them of stored ids; None: they are these already.
        kind: Message type.
        data: Serialized message.

    Raises:
        ValueError: It holds no label map.
    """
    stored = decode_labels(kind, data)
    return reader.encode(stored) if reader else stored.astype(np.uint8, copy=False)


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

    Where several have the same camera, as of several robots, it is `<robot>/<camera>`.
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
