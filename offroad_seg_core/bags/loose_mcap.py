"""Mcap files without an index, as rosbag2's ``fastwrite`` preset leaves them, in time order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
import struct
from typing import Any, NamedTuple

from offroad_seg_core.bags.library import Connection, McapReader, ReaderError

_HEAD = struct.Struct('<BQ')
_MESSAGE_HEAD = struct.Struct('<HIQQ')
_MESSAGE, _CHUNK = 0x05, 0x06


class _Place(NamedTuple):
    time_ns: int
    offset: int
    num_bytes: int
    channel_id: int


class LooseMcap:
    """The messages of a file without an index, whatever order they were written in.

    Only their places are held in memory. A file whose messages lie in chunks that nothing indexes
    is read in the order of the file: rosbags refuses it where that is not the order of time.

    Args:
        storage: Open, without chunks that it knows of.
    """

    def __init__(self, storage: McapReader) -> None:
        self._storage = storage

    def messages(
        self, connections: Collection[Connection], start: int | None, stop: int | None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield (connection, time ns, serialized message) from ``start`` to before ``stop``.

        Raises:
            ReaderError: Behind the whole ones there is something damaged.
        """
        places, end = self._places()
        if places is None:
            yield from self._storage.messages(connections, start, stop)
            return
        wanted = {connection.id: connection for connection in connections}
        stream: Any = self._storage.bio
        for place in sorted(places):
            is_inside = (start is None or place.time_ns >= start) and (
                stop is None or place.time_ns < stop
            )
            if is_inside and place.channel_id in wanted:
                stream.seek(place.offset)
                yield wanted[place.channel_id], place.time_ns, stream.read(place.num_bytes)
        if end != self._storage.data_end:
            raise ReaderError(f'the record at byte {end} has no valid length')

    def _places(self) -> tuple[list[_Place] | None, int]:
        """Return where whole messages are, None if some are in chunks; and where they end."""
        stream: Any = self._storage.bio
        end, found = self._storage.data_start, []
        while end < self._storage.data_end:
            stream.seek(end)
            opcode, length = _HEAD.unpack(stream.read(_HEAD.size))
            if opcode == _CHUNK:
                return None, end
            if end + _HEAD.size + length > self._storage.data_end:
                break
            if opcode == _MESSAGE:
                head = stream.read(_MESSAGE_HEAD.size)
                channel_id, _, time_ns, _ = _MESSAGE_HEAD.unpack(head)
                num_bytes = length - _MESSAGE_HEAD.size
                found.append(_Place(time_ns, stream.tell(), num_bytes, channel_id))
            end += _HEAD.size + length
        return found, end
