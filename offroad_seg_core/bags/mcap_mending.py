"""Read mcap files whose recording was cut off: the whole part, with the index they never got."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
import io
from pathlib import Path
import struct
from typing import Any

from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    Footer,
    Message,
    MessageIndex,
    Schema,
    Statistics,
)
from mcap.stream_reader import breakup_chunk

_MAGIC = b'\x89MCAP0\r\n'
_HEAD = struct.Struct('<BQ')
_INDEX_HEAD_BYTES, _INDEX_ENTRY_BYTES = 15, 16


@dataclass
class _Contents:
    """What a file holds, from its records.

    Attributes:
        end: Offset behind the last whole record.
        chunks: Where messages are.
        counts: Messages of each chunk by channel, parallel to ``chunks``.
        schemas: By id.
        channels: By id.
        has_loose_messages: Whether messages lie outside of chunks.
    """

    end: int
    chunks: list[ChunkIndex] = field(default_factory=list)
    counts: list[Counter[int]] = field(default_factory=list)
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    has_loose_messages: bool = False


class MendedMcap:
    """An mcap file without its end, in the form in which rosbags opens files.

    Opened, it is the file up to its last whole record, and behind it the summary that a complete
    recording would have written there. Nothing on the disk is changed.

    Args:
        path: The file.

    Raises:
        ValueError: It does not begin as an mcap file does.

    Attributes:
        missing_bytes: What was left out at the end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        size = path.stat().st_size
        with path.open('rb') as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise ValueError('it does not begin as an mcap file does')
            found = _scan(stream, size)
        self._whole_bytes = found.end
        self._tail = _summary(found)
        self.missing_bytes = size - found.end

    def open(self, mode: str) -> io.BufferedReader:
        """Return the whole part and the summary as one stream; ``mode`` is 'rb'."""
        raw = _Joined(self._path.open(mode), self._whole_bytes, self._tail)
        return io.BufferedReader(raw)  # type: ignore[type-var]


class _Joined(io.RawIOBase):
    """The first bytes of a file, and bytes of memory behind them."""

    def __init__(self, file: Any, length: int, tail: bytes) -> None:
        self._file, self._length, self._tail = file, length, tail
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        total = self._length + len(self._tail)
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: total}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        room = len(buffer)
        if self._position < self._length:
            self._file.seek(self._position)
            data = self._file.read(min(room, self._length - self._position))
        else:
            first = self._position - self._length
            data = self._tail[first : first + room]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _scan(stream: Any, size: int) -> _Contents:
    """Walk over the records, without decompressing more than is needed to know the channels."""
    found = _Contents(stream.tell())
    while found.end + _HEAD.size <= size:
        opcode, length = _HEAD.unpack(stream.read(_HEAD.size))
        start, end = found.end, found.end + _HEAD.size + length
        is_known = Opcode.HEADER <= opcode <= Opcode.DATA_END
        if end > size or not is_known or opcode in (Opcode.DATA_END, Opcode.FOOTER):
            break
        if opcode == Opcode.CHUNK:
            found.chunks.append(_read_chunk_head(stream, start, end))
            found.counts.append(Counter())
        elif opcode == Opcode.MESSAGE_INDEX and found.chunks:
            index = MessageIndex.read(ReadDataStream(stream))
            found.counts[-1][index.channel_id] += len(index.records)
        elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
            kind = Schema if opcode == Opcode.SCHEMA else Channel
            _register(found, kind.read(ReadDataStream(stream)))
        found.has_loose_messages |= opcode == Opcode.MESSAGE
        stream.seek(end)
        found.end = end
    _complete(found, stream)
    return found


def _read_chunk_head(stream: Any, start: int, end: int) -> ChunkIndex:
    first_ns, last_ns, uncompressed_bytes, _, name_bytes = struct.unpack('<QQQII', stream.read(32))
    compression = stream.read(name_bytes).decode()
    (compressed_bytes,) = struct.unpack('<Q', stream.read(8))
    return ChunkIndex(
        chunk_length=end - start,
        chunk_start_offset=start,
        compression=compression,
        compressed_size=compressed_bytes,
        message_end_time=last_ns,
        message_index_length=0,
        message_index_offsets={},
        message_start_time=first_ns,
        uncompressed_size=uncompressed_bytes,
    )


def _register(found: _Contents, record: Any) -> None:
    if isinstance(record, Schema):
        found.schemas[record.id] = record
    elif isinstance(record, Channel):
        found.channels[record.id] = record


def _complete(found: _Contents, stream: Any) -> None:
    """Look into the chunks that bring new channels or lack an index; drop unreadable ones."""
    readable = []
    for chunk, counts in zip(found.chunks, found.counts, strict=True):
        # The cut may lie among the last chunk's indices: one for each channel.
        is_last = chunk is found.chunks[-1]
        if is_last or not counts or set(counts) - set(found.channels):
            stream.seek(chunk.chunk_start_offset + _HEAD.size)
            try:
                records = breakup_chunk(Chunk.read(ReadDataStream(stream)), validate_crc=True)
            except Exception:  # each decompressor has errors of its own
                continue
            counts.clear()
            counts.update(r.channel_id for r in records if isinstance(r, Message))
            for record in records:
                _register(found, record)
        if counts:
            readable.append((chunk, counts))
    found.chunks = [chunk for chunk, _ in readable]
    found.counts = [counts for _, counts in readable]


def _summary(found: _Contents) -> bytes:
    """Return the summary section, footer and magic that belong behind the whole part."""
    builder = RecordBuilder()
    if found.has_loose_messages:  # no index serves those; readers scan the file
        Footer(summary_start=0, summary_offset_start=0, summary_crc=0).write(builder)
        return builder.end() + _MAGIC
    for record in (*found.schemas.values(), *found.channels.values()):
        record.write(builder)
    totals: Counter[int] = Counter()
    for chunk, counts in zip(found.chunks, found.counts, strict=True):
        # Readers take the number of messages from the distances of these offsets.
        place = chunk.chunk_start_offset + chunk.chunk_length
        for channel_id, count in sorted(counts.items()):
            chunk.message_index_offsets[channel_id] = place
            place += _INDEX_HEAD_BYTES + _INDEX_ENTRY_BYTES * count
        start = chunk.chunk_start_offset + chunk.chunk_length
        chunk.message_index_length = place - start
        chunk.write(builder)
        totals.update(counts)
    Statistics(
        attachment_count=0,
        channel_count=len(found.channels),
        channel_message_counts=dict(totals),
        chunk_count=len(found.chunks),
        message_count=totals.total(),
        message_end_time=max((c.message_end_time for c in found.chunks), default=0),
        message_start_time=min((c.message_start_time for c in found.chunks), default=0),
        metadata_count=0,
        schema_count=len(found.schemas),
    ).write(builder)
    Footer(summary_start=found.end, summary_offset_start=0, summary_crc=0).write(builder)
    return builder.end() + _MAGIC
