"""Frames of a bag's cameras."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import copy
from functools import partial
from pathlib import Path
import struct
from typing import Any

from offroad_seg_core.bags.camera_topics import CameraTopic
from offroad_seg_core.bags.definitions import header_frame_id, header_stamp_ns
from offroad_seg_core.bags.pictures import choose_cameras, decode_picture
from offroad_seg_core.bags.reading import Bag, BagError, contents, open_bag
from offroad_seg_core.bags.unpacking import is_compressed
from offroad_seg_core.evaluation.labels_beside import Beside, PicturesWithLabels
from offroad_seg_core.evaluation.recorded_labels import LabelsBeside, decode_class_ids
from offroad_seg_core.evaluation.sources.frame import (
    FRAMES_A_PART,
    Frame,
    UniqueNames,
    file_identity,
)


class BagFrames:
    """The frames of a bag's cameras in the order of their recording.

    Its parts are equal spans of bag time.

    Args:
        path: A rosbag2 folder, or one of its files; need not be whole, see ``open_bag``.
        topics: Of pictures; empty: every camera's.
        duration_s: Only the frames of so much bag time from its beginning; None: all.

    Raises:
        BagError: It cannot be read, has no camera or lacks a topic, or its cameras have no frame.

    Attributes:
        path: As given.
        types: Topic -> type of the whole bag.
        num_frames: Messages of the cameras.
        num_parts: See ``Source``.
        can_seek: See ``Source``.
        cameras: Topic -> camera.
        start_ns: Bag time of the first message.
        custom_data: Texts that the recorder stored.
    """

    def __init__(
        self, path: str | Path, topics: Sequence[str] = (), duration_s: float | None = None
    ) -> None:
        self.path = Path(path)
        with open_bag(path) as bag:
            self.cameras = choose_cameras(bag, topics)
            counts = _counts(bag, self.cameras)
            self.num_frames = sum(counts.values())
            if not self.num_frames:
                got = f'no message on {", ".join(self.cameras)}'
                raise BagError(
                    f'{path}: got {got}, expected pictures; it holds {contents(bag)}; fix: name '
                    'other topics, or record again'
                )
            self._counts = counts
            self.start_ns, self._end_ns = bag.start_time, bag.end_time
            if duration_s is not None:
                length_ns = self._end_ns - self.start_ns
                self._end_ns = min(self._end_ns, self.start_ns + round(duration_s * 1e9))
                kept = (self._end_ns - self.start_ns) / length_ns
                self.num_frames = max(1, round(kept * self.num_frames))  # about
            self.custom_data = bag.custom_data
            self._notes = list(bag.notes)
            self._labels: Mapping[str, LabelsBeside] = {}
            self.types = {entry.topic: entry.msgtype for entry in bag.connections}
        self.num_parts = -(-self.num_frames // FRAMES_A_PART)
        # Damage may hide what is behind it; a file that was compressed is decompressed as a whole.
        self.can_seek = not (self._notes or is_compressed(self.path))

    @property
    def notes(self) -> list[str]:
        """What could not be read, as far as reading has come."""
        return self._notes

    def with_labels(self, labels: Mapping[str, LabelsBeside]) -> BagFrames:
        """Return these frames with the label maps that the bag has of them.

        Args:
            labels: Key of Frame.maps -> where the maps are.
        """
        other = copy.copy(self)
        other._labels, other._notes = labels, list(self._notes)
        return other

    def _part_start_ns(self, part: int) -> int:
        """Return the bag time at which a part begins."""
        return self.start_ns + (self._end_ns - self.start_ns) * part // self.num_parts

    def frames(self, first_part: int, names: UniqueNames) -> Iterator[tuple[int, Frame]]:
        """Yield (part, frame), see ``Source``."""
        part = first_part
        with open_bag(self.path) as bag:
            for entry, time_ns, data, labels in self._noting(bag, self._part_start_ns(part)):
                while part + 1 < self.num_parts and time_ns >= self._part_start_ns(part + 1):
                    part += 1
                camera = self.cameras[entry.topic].name
                stamp_ns, frame_id = _header(data)
                yield (
                    part,
                    Frame(
                        camera=camera,
                        name=names.name(camera, stamp_ns, time_ns),
                        stamp_ns=stamp_ns,
                        time_ns=time_ns,
                        load=partial(decode_picture, entry.msgtype, data),
                        frame_id=frame_id,
                        environment=camera,
                        maps={
                            key: partial(decode_class_ids, self._labels[key].reader, *found)
                            for key, found in labels.items()
                        },
                    ),
                )

    def _noting(self, bag: Bag, start_ns: int) -> Iterator[Beside]:
        """Yield pictures; what could not be read before one is in the notes when it comes."""
        if self._labels:
            topics = {topic: camera.name for topic, camera in self.cameras.items()}
            beside = {
                key: {topic: camera for camera, topic in maps.topics.items()}
                for key, maps in self._labels.items()
            }
            found = PicturesWithLabels(bag, topics, beside, start_ns, self._end_ns)
            pictures, told = iter(found), [bag.notes, found.notes]
        else:
            pictures, told = self._pictures(bag, start_ns), [bag.notes]
        try:
            for picture in pictures:
                self._note(told)
                yield picture
        finally:
            self._note(told)

    def _pictures(self, bag: Bag, start_ns: int) -> Iterator[Beside]:
        wanted = [entry for entry in bag.connections if entry.topic in self.cameras]
        for message in bag.messages(wanted, start_ns, self._end_ns):
            yield Beside(*message, {})

    def _note(self, told: Sequence[Sequence[str]]) -> None:
        for notes in told:
            self._notes += [note for note in notes if note not in self._notes]

    def identity(self) -> dict[str, Any]:
        """Return what the frames depend on."""
        topics = {topic: camera.name for topic, camera in self.cameras.items()}
        end_ns = self._end_ns
        files = file_identity(self.path)
        return {'kind': 'bag', 'files': files, 'topics': topics, 'end_ns': end_ns}

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the bag."""
        return {
            'kind': 'bag',
            'path': str(self.path),
            'start_ns': self.start_ns,
            'duration_s': (self._end_ns - self.start_ns) / 1e9,
            'cameras': {
                camera.name: {'topic': topic, 'num_messages': self._counts[topic]}
                for topic, camera in self.cameras.items()
            },
        }


def _header(data: bytes) -> tuple[int, str]:
    try:
        return header_stamp_ns(data), header_frame_id(data)
    except (struct.error, IndexError):  # cut off; decoding will say so
        return 0, ''


def _counts(bag: Bag, cameras: dict[str, CameraTopic]) -> dict[str, int]:
    counts = dict.fromkeys(cameras, 0)
    for entry in bag.connections:
        if entry.topic in counts:
            counts[entry.topic] += entry.msgcount
    return counts
