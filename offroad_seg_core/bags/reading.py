"""Open rosbag2 bags, whole or not: folders and single files, mcap and sqlite3, raw and zstd."""

from __future__ import annotations

from collections import deque
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, contextmanager, nullcontext, suppress
import copy
import heapq
import logging
from pathlib import Path
import sqlite3
import struct
from typing import Any, NamedTuple

from offroad_seg_core.bags.library import (
    Connection,
    McapReader,
    Reader,
    ReaderError,
    apsw,
    zstd,
)
from offroad_seg_core.bags.loose_mcap import LooseMcap
from offroad_seg_core.bags.unpacking import (
    PackedStorage,
    StoppedError,
    is_compressed,
    keeping_unpacked,
    never,
)

log = logging.getLogger(__name__)

_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
READ_ERRORS = (
    ReaderError, OSError, ValueError, TypeError, LookupError, EOFError, struct.error,
    zstd.ZstdError, sqlite3.Error, apsw.Error,
    RuntimeError,  # of lz4
    OverflowError, MemoryError,  # of lengths that are garbage
)  # fmt: skip
"""What the libraries raise for files that are not what they should be."""


_Message = tuple[Connection, int, bytes]


class _Piece(NamedTuple):
    """What of a file can be read though the rest of it is damaged: a chunk, or all of it.

    Attributes:
        start_time: Of its first message, ns.
        storage: Its reader.
        own: The topics wanted that are in the file.
        merged: Id of a topic in the file -> the bag's topic.
    """

    start_time: int
    storage: Any
    own: list[Connection]
    merged: Mapping[int, Connection]


class BagError(ValueError):
    """A bag cannot be read or written, or does not hold what is needed."""


class Bag:
    """An open bag: the messages of all its files. Make one with open_bag.

    Attributes:
        path: What was opened.
        connections: Topics of all files.
        notes: What could not be read, as sentences; grows while messages are read.
        custom_data: Texts that the recorder stored.
    """

    def __init__(
        self,
        path: Path,
        storages: Sequence[Any],
        notes: Sequence[str] = (),
        custom_data: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.notes: list[str] = []
        for note in notes:
            self._note(note)
        # A storage without messages has no times.
        self._storages = sorted(storages, key=lambda storage: storage.metadata.start_time)
        self.connections, self._merged = _merge(self._storages)
        self.custom_data = dict(custom_data or {})

    @property
    def message_count(self) -> int:
        """Messages of all topics."""
        return sum(storage.metadata.message_count for storage in self._storages)

    @property
    def start_time(self) -> int:
        """Time of the first message, ns."""
        return min((s.metadata.start_time for s in self._storages), default=2**63 - 1)

    @property
    def end_time(self) -> int:
        """Time just after the last message, ns."""
        return max((s.metadata.end_time for s in self._storages), default=0)

    def messages(
        self,
        connections: Collection[Connection] = (),
        start: int | None = None,
        stop: int | None = None,
        is_stopped: Callable[[], bool] = never,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yield (connection, bag time ns, serialized message) in the order of bag time.

        Of an indexed mcap file a damaged place costs its chunk, of any other what is behind it;
        either with a note.

        Args:
            connections: Of this bag; empty: all.
            start: Only messages at or after this time, ns.
            stop: Only messages before this time, ns.
            is_stopped: Asked again and again while a file is unpacked; if so the messages end.

        Raises:
            BagError: Nothing can be read any more in a file that was compressed.
            OSError: There is no room to unpack one.
        """
        wanted = connections or self.connections
        parts = [
            (
                storage.metadata.start_time,
                self._of_storage(storage, merged, wanted, start, stop, is_stopped),
            )
            for storage, merged in zip(self._storages, self._merged, strict=True)
        ]
        with suppress(StoppedError):
            yield from _in_order(parts)

    def _of_storage(
        self,
        storage: Any,
        merged: Mapping[int, Connection],
        wanted: Collection[Connection],
        start: int | None,
        stop: int | None,
        is_stopped: Callable[[], bool],
    ) -> Iterator[_Message]:
        """Yield what is wanted of one file; a compressed one is unpacked meanwhile."""
        own = [entry for entry in storage.connections if merged[entry.id] in wanted]
        is_packed = isinstance(storage, PackedStorage)
        if not own or (is_packed and storage.is_outside(start, stop)):
            return
        with storage.opened(is_stopped) if is_packed else nullcontext(storage) as opened:
            parts = [
                (piece.start_time, self._read(piece, start, stop))
                for piece in _pieces(opened, own, merged)
            ]
            yield from _in_order(parts)

    def _read(self, piece: _Piece, start: int | None, stop: int | None) -> Iterator[_Message]:
        """Yield what is wanted of a piece, until its end or a damaged place."""
        reached = piece.start_time
        try:
            for entry, time_ns, data in piece.storage.messages(piece.own, start, stop):
                reached = time_ns
                try:
                    message = _inflate(data)
                except zstd.ZstdError as error:
                    self._note(f'{self.path}: messages that are damaged were left out: {error}')
                    continue
                yield piece.merged[entry.id], time_ns, message
        except READ_ERRORS as error:
            where = f'after {(reached - self.start_time) / 1e9:.1f} s'
            if 'not in timestamp order' in str(error):  # the file is whole
                what = f'not in time order {where}, and without an index; run `mcap recover`'
                self._note(f'{self.path}: {what}')
                return
            self._note(f'{self.path}: damaged {where}, a part was not read: {error}')

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            log.warning(text)


@contextmanager
def open_bag(path: str | Path) -> Iterator[Bag]:
    """Open a bag for reading.

    Without its metadata.yaml, or with files that were cut off, what is whole is read, and
    ``notes`` say what is not. Each way in which nothing can be read becomes a BagError.
    """
    path = Path(path)
    if not path.exists():
        raise BagError(f'{path}: no such bag; fix: give a rosbag2 folder or file')
    with keeping_unpacked(), ExitStack() as stack:
        yield _open(path, stack)


def _open(path: Path, stack: ExitStack) -> Bag:
    try:
        if is_unfinished(path):
            raise ReaderError('its recorder did not close it')
        if is_compressed(path):  # rosbags would unpack all of its files at once, each time
            raise ReaderError('its files were compressed')
        storage = stack.enter_context(Reader(path)).storage
    except READ_ERRORS as error:
        # Here and not above: whole bags need no mcap library.
        from offroad_seg_core.bags.mending import open_files

        return open_files(path, error, stack)
    custom_data = storage.metadata.custom or {}
    # A folder's reader reads its files one after another; here they are merged by time.
    return Bag(path, getattr(storage, 'storages', [storage]), custom_data=custom_data)


def is_unfinished(path: Path) -> bool:
    """Return whether a database has messages in a file beside it, which rosbags leaves out."""
    logs = path.glob('*.db3-wal') if path.is_dir() else [path.with_name(f'{path.name}-wal')]
    return any(log.is_file() and log.stat().st_size for log in logs)


def contents(bag: Bag) -> str:
    """Return the topics and types of an open bag for people to read."""
    topics = {f'{connection.topic} ({connection.msgtype})' for connection in bag.connections}
    return ', '.join(sorted(topics)) or 'no topics at all'


def _pieces(
    storage: Any, own: list[Connection], merged: Mapping[int, Connection]
) -> Iterator[_Piece]:
    """Yield what of a file can be read independently of the rest."""
    chunks = getattr(storage, 'chunks', ())
    for chunk in chunks:
        single = copy.copy(storage)
        single.chunks = [chunk]
        yield _Piece(chunk.message_start_time, single, own, merged)
    if not chunks:
        whole = LooseMcap(storage) if isinstance(storage, McapReader) else storage
        yield _Piece(storage.metadata.start_time, whole, own, merged)


def _in_order(parts: Iterable[tuple[int, Iterator[_Message]]]) -> Iterator[_Message]:
    """Merge messages by their times; no part is begun before the time that is given with it."""
    waiting = deque(enumerate(sorted(parts, key=lambda part: part[0])))
    # The next message of each part that was begun.
    heads: list[tuple[int, int, _Message, Iterator[_Message]]] = []

    def push(rank: int, messages: Iterator[_Message]) -> None:
        message = next(messages, None)
        if message is not None:
            heapq.heappush(heads, (message[1], rank, message, messages))

    while waiting or heads:
        while waiting and (not heads or waiting[0][1][0] <= heads[0][0]):
            rank, (_, messages) = waiting.popleft()
            push(rank, messages)
        if heads:
            _, rank, message, messages = heapq.heappop(heads)
            yield message
            push(rank, messages)


def _inflate(data: bytes) -> bytes:
    # Serialized messages begin with a zero byte: this is one that was compressed by itself, and
    # the metadata that would have said so is missing.
    return zstd.decompress(data) if data[:4] == _ZSTD_MAGIC else data


def _merge(storages: Sequence[Any]) -> tuple[list[Connection], list[dict[int, Connection]]]:
    """Return the topics of all files, and for each file: its id of a topic -> the merged one."""
    keys = [
        {entry.id: (entry.topic, entry.msgtype, repr(entry.ext)) for entry in storage.connections}
        for storage in storages
    ]
    merged: dict[tuple[str, ...], Connection] = {}
    for storage, by_id in zip(storages, keys, strict=True):
        for entry in storage.connections:
            known = merged.get(by_id[entry.id])
            count = entry.msgcount + (known.msgcount if known else 0)
            merged[by_id[entry.id]] = (known or entry)._replace(msgcount=count)
    found = {key: entry._replace(id=index) for index, (key, entry) in enumerate(merged.items(), 1)}
    return list(found.values()), [
        {id_: found[key] for id_, key in by_id.items()} for by_id in keys
    ]
