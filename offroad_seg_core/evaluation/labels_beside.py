"""Label images of the bag that the frames are of: one pass through it reads both."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
import struct
from typing import NamedTuple

from offroad_seg_core.bags.definitions import header_stamp_ns
from offroad_seg_core.bags.library import Connection
from offroad_seg_core.bags.reading import Bag, BagError, open_bag
from offroad_seg_core.evaluation.sources.frame import LABELS_LEFT_OUT

# How far apart, at most, a picture and its labels lie in the bag.
_REACH_NS = 2_000_000_000
# Pictures that wait for labels behind them; where they are more, they are read a second time.
_MOST_WAITING_BYTES = 1 << 29
_PICTURE = ''


class Beside(NamedTuple):
    """A picture with the label images recorded beside it.

    Attributes:
        entry: Topic of the picture.
        time_ns: Bag time of the picture.
        data: Serialized message of the picture.
        labels: Key of Frame.maps -> type and serialized message.
    """

    entry: Connection
    time_ns: int
    data: bytes
    labels: Mapping[str, tuple[str, bytes]]


@dataclass
class _Near:
    role: str  # _PICTURE or a key of Frame.maps
    camera: str
    stamp_ns: int
    entry: Connection
    time_ns: int
    data: bytes


class PicturesWithLabels:
    """Pictures of a bag, each with the label images of its stamp.

    Only what was recorded within reach of a picture is held. Where a stamp is unset, or where more
    than one picture or label map within reach have it, nobody can tell which belong together: such
    pictures have no labels.

    Args:
        bag: Open.
        pictures: Topic -> camera.
        labels: Key of Frame.maps -> topic -> camera.
        start_ns: Bag time of the first picture.
        stop_ns: Bag time just after the last one.

    Attributes:
        notes: A sentence where labels were left out; grows.
    """

    def __init__(
        self,
        bag: Bag,
        pictures: Mapping[str, str],
        labels: Mapping[str, Mapping[str, str]],
        start_ns: int,
        stop_ns: int,
    ) -> None:
        self._bag, self._roles = bag, {_PICTURE: pictures, **labels}
        self._start_ns, self._stop_ns = start_ns, stop_ns
        self._near: deque[_Near] = deque()
        self._waiting: deque[_Near] = deque()
        self._waiting_bytes = 0
        self._again: Iterator[_Near] | None = None
        self._stack = ExitStack()
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Beside]:
        """Yield the pictures in the order of the bag; once."""
        with self._stack:
            self._stack.callback(self._forget)
            for item in self._items(self._bag, self._start_ns - _REACH_NS):
                while self._waiting and item.time_ns > self._waiting[0].time_ns + _REACH_NS:
                    yield self._next()
                self._hold(item)
            while self._waiting:
                yield self._next()

    def _forget(self) -> None:
        self._near.clear()
        self._waiting.clear()
        self._again = None  # which knows this object

    def _items(self, bag: Bag, start_ns: int) -> Iterator[_Near]:
        wanted = [e for e in bag.connections if any(e.topic in r for r in self._roles.values())]
        for entry, time_ns, data in bag.messages(wanted, start_ns, self._stop_ns + _REACH_NS):
            for role, cameras in self._roles.items():
                if entry.topic in cameras:
                    stamp_ns = _stamp_ns(data)
                    yield _Near(role, cameras[entry.topic], stamp_ns, entry, time_ns, data)

    def _is_wanted(self, item: _Near) -> bool:
        return item.role == _PICTURE and self._start_ns <= item.time_ns < self._stop_ns

    def _hold(self, item: _Near) -> None:
        """Hold a message; of pictures that nobody waits for, only that they were there."""
        self._near.append(item)
        if item.role != _PICTURE:
            return
        if not self._is_wanted(item):
            item.data = b''
            return
        self._waiting.append(item)
        if self._again is not None:
            item.data = b''
            return
        self._waiting_bytes += len(item.data)
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            self._again = self._read_again()
            for other in self._waiting:
                other.data = b''

    def _read_again(self) -> Iterator[_Near]:
        """Return the pictures from the first one that waits, of a second pass."""
        bag = self._stack.enter_context(open_bag(self._bag.path))
        # Of pictures of one time all wait, or none.
        items = self._items(bag, self._waiting[0].time_ns)
        self._stack.enter_context(closing(items))  # type: ignore[type-var]
        return filter(self._is_wanted, items)

    def _next(self) -> Beside:
        """Return the picture that waits longest, with its labels."""
        picture = self._waiting.popleft()
        while self._near[0].time_ns < picture.time_ns - _REACH_NS:
            self._near.popleft()
        data, picture.data = picture.data, b''
        self._waiting_bytes -= len(data)
        if self._again is not None:
            same = next(self._again, None)
            if same is None or (same.entry.topic, same.time_ns) != (
                picture.entry.topic, picture.time_ns,
            ):  # fmt: skip
                raise BagError(f'{self._bag.path}: changed while it was read; fix: run again')
            data = same.data
        return Beside(picture.entry, picture.time_ns, data, self._labels(picture))

    def _labels(self, picture: _Near) -> dict[str, tuple[str, bytes]]:
        key, found = (picture.camera, picture.stamp_ns), {}
        same = [near for near in self._near if (near.camera, near.stamp_ns) == key]
        is_alone = sum(near.role == _PICTURE for near in same) == 1
        for role in self._roles:
            maps = [near for near in same if near.role == role != _PICTURE]
            if maps and (picture.stamp_ns <= 0 or len(maps) > 1 or not is_alone):
                self.notes[:] = [
                    f'{self._bag.path}{LABELS_LEFT_OUT}their stamp is unset, or is that of others '
                    f'within {_REACH_NS // 1_000_000_000} s; expected one of its own for each '
                    'frame; fix: record with stamps of the camera'
                ]
            elif maps and maps[0].data:
                found[role] = maps[0].entry.msgtype, maps[0].data
                maps[0].data = b''  # asked for once; its stamp is still of use
        return found


def _stamp_ns(data: bytes) -> int:
    """Return the stamp of a message, 0 for one that was cut off."""
    try:
        return header_stamp_ns(data)
    except (struct.error, IndexError):
        return 0
