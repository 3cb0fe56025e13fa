"""Label images of a bag by camera and stamp, found for frames of another bag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import struct
from typing import NamedTuple

from offroad_seg_core.bags.definitions import header_stamp_ns
from offroad_seg_core.bags.library import Connection
from offroad_seg_core.bags.reading import Bag

# How far ahead of what was read last labels are read towards, instead of jumped to.
_REACH_NS = 2_000_000_000
_MOST_HELD = 32
_BEGINNING = -(2**63)


class Key(NamedTuple):
    """Which frame a label map is of."""

    camera: str
    stamp_ns: int


Stamped = tuple[Key, int, Connection, bytes]
"""Frame, bag time in ns, topic and serialized message."""


class StampedLabels:
    """Label images of an open bag by camera and stamp, whatever the clocks of the cameras say.

    One look through the bag finds them all, so that a frame without labels is known to have none.
    They are best read in about the order of the bag: few are held. Of a stamp that repeats, the
    first message counts.

    Args:
        bag: Has the topics.
        topics: Camera -> topic.

    Attributes:
        times_ns: Frame -> bag time of its labels, in the order of the bag.
    """

    def __init__(self, bag: Bag, topics: Mapping[str, str]) -> None:
        self._bag, self._cameras = bag, _cameras(topics)
        self.times_ns: dict[Key, int] = {}
        for key, time_ns, _, _ in stamped_messages(bag, self._cameras):
            self.times_ns.setdefault(key, time_ns)
        self._messages: Iterator[Stamped] = iter(())
        self._reached_ns = _BEGINNING
        self._held: dict[Key, tuple[str, bytes]] = {}

    def read(self, key: Key) -> tuple[str, bytes] | None:
        """Return type and bytes of a frame's labels, None if there are none."""
        time_ns = self.times_ns.get(key)
        if time_ns is None or key in self._held:
            return self._held.get(key)
        found = None
        if self._reached_ns <= time_ns <= self._reached_ns + _REACH_NS:
            found = self._forward(key, time_ns)
        if found is None:
            self._messages = stamped_messages(self._bag, self._cameras, time_ns)
            found = self._forward(key, time_ns)
        return found

    def _forward(self, key: Key, time_ns: int) -> tuple[str, bytes] | None:
        """Read on until a frame's labels, or until they cannot come any more."""
        for other, reached_ns, entry, data in self._messages:
            self._reached_ns = reached_ns
            if other == key and reached_ns == time_ns:
                return entry.msgtype, data
            if self.times_ns.get(other) == reached_ns:
                self._held[other] = entry.msgtype, data
                if len(self._held) > _MOST_HELD:
                    del self._held[next(iter(self._held))]
            if reached_ns > time_ns:
                break
        return None


def _cameras(topics: Mapping[str, str]) -> dict[str, str]:
    """Return topic -> camera."""
    return {topic: camera for camera, topic in topics.items()}


def stamped_messages(
    bag: Bag, cameras: Mapping[str, str], start_ns: int | None = None
) -> Iterator[Stamped]:
    """Yield the messages of image topics that are long enough to have a stamp.

    Args:
        bag: Open.
        cameras: Topic -> camera.
        start_ns: Bag time to begin at; None: the beginning.
    """
    wanted = [entry for entry in bag.connections if entry.topic in cameras]
    for entry, time_ns, data in bag.messages(wanted, start_ns) if wanted else ():
        try:
            stamp_ns = header_stamp_ns(data)
        except (struct.error, IndexError):  # cut off
            continue
        yield Key(cameras[entry.topic], stamp_ns), time_ns, entry, data
