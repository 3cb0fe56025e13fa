"""Files of a bag that were compressed as a whole: on the disk while they are read, once a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
import errno
from pathlib import Path
import shutil
import tempfile
import threading
from typing import Any

from offroad_seg_core.bags.library import zstd
from offroad_seg_core.files import scratch_folder

COMPRESSED = '.zstd'
_BLOCK_BYTES = 1 << 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What nobody reads at the moment is kept while it takes less than this share of the free space:
# in many places that is memory, and other programs need it too.
_KEPT_SHARE = 0.25


class StoppedError(Exception):
    """Nobody waits any more for what was being unpacked."""


def never() -> bool:
    """Return False: it is waited for."""
    return False


def is_compressed(bag: Path) -> bool:
    """Return whether a bag has files that were compressed as a whole, or is one."""
    return any(bag.glob(f'*{COMPRESSED}')) if bag.is_dir() else bag.suffix == COMPRESSED


@dataclass
class _Content:
    """What a file holds, unpacked.

    Attributes:
        path: Where it is.
        num_bytes: How large it is.
        is_cut: Whether its end is missing.
        remove: Removes it.
        num_readers: Who reads it now.
    """

    path: Path
    num_bytes: int
    is_cut: bool
    remove: Callable[[], object]
    num_readers: int = 0


class _Shelf:
    """What this process has unpacked: kept for the next reader, removed where room is needed."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._contents: dict[tuple[Path, int, int], _Content] = {}  # the last one was used last
        self._num_keepers = 0

    @contextmanager
    def keeping(self) -> Iterator[None]:
        with self._lock:
            self._num_keepers += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_keepers -= 1
                # Nobody is to read any more, but of generators that an exception keeps alive.
                while self._contents and not self._num_keepers:
                    self._contents.popitem()[1].remove()

    @contextmanager
    def reading(self, file: Path, is_stopped: Callable[[], bool]) -> Iterator[_Content]:
        """Yield what a file holds, inside of a block of ``keeping``."""
        with self._lock:
            content = self._take(file, is_stopped)
            content.num_readers += 1
        try:
            yield content
        finally:
            with self._lock:
                content.num_readers -= 1

    def _take(self, file: Path, is_stopped: Callable[[], bool]) -> _Content:
        about = file.stat()
        key = file.absolute(), about.st_size, about.st_mtime_ns
        content = self._contents.pop(key, None)
        if content and not content.path.is_file():  # removed by a cleaner of temporary folders
            content.remove()
            content = None
        self._contents[key] = content or self._unpack(file, is_stopped)
        return self._contents[key]

    def _unpack(self, file: Path, is_stopped: Callable[[], bool]) -> _Content:
        """Unpack a file, if need be in the place of what nobody reads."""
        folder = tempfile.gettempdir()
        self.remove_unread(_KEPT_SHARE * shutil.disk_usage(folder).free)
        while True:
            try:
                return _unpack(file, is_stopped)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                if not self.remove_unread():
                    raise OSError(
                        f'{file}: got "{error.strerror}" while it was unpacked into {folder}, '
                        f'expected room for {_content_bytes(file) / 1e6:,.1f} MB; fix: set TMPDIR '
                        'to a folder on a larger disk and repeat the command'
                    ) from error

    def remove_unread(self, kept_bytes: float = 0) -> bool:
        """Remove what nobody reads until less is left, the oldest first; tell if there was any."""
        with self._lock:
            unread = [item for item in self._contents.items() if not item[1].num_readers]
            left_bytes, is_any = sum(entry.num_bytes for _, entry in unread), False
            for key, entry in unread:
                if left_bytes < kept_bytes:
                    break
                del self._contents[key]
                entry.remove()
                left_bytes, is_any = left_bytes - entry.num_bytes, True
            return is_any


_SHELF = _Shelf()


def keeping_unpacked() -> AbstractContextManager[None]:
    """Keep what is unpacked in the block for whoever reads it again there, as far as room allows.

    At the end of the outermost of such blocks it is removed. An open bag is one.
    """
    return _SHELF.keeping()


def remove_unread() -> None:
    """Remove what is kept and nobody reads now: other processes need the room."""
    _SHELF.remove_unread()


class PackedStorage:
    """A compressed file of a bag; opened, it is the storage that was compressed.

    Args:
        file: Compressed as a whole.
        open_plain: Opens what was in it until the stack is closed; tells whether its end is
            missing, too.

    Raises:
        BagError: Nothing in it can be read.
        OSError: There is no room to unpack it.

    Attributes:
        connections: See the storage.
        metadata: See the storage.
        is_cut: Whether its end is missing.
    """

    def __init__(
        self, file: Path, open_plain: Callable[[Path, ExitStack], tuple[Any, bool]]
    ) -> None:
        self._file, self._open_plain = file, open_plain
        with self._opened() as (storage, is_cut):
            # Closed storages forget what they are asked for here.
            self.connections = [entry._replace(owner=self) for entry in storage.connections]
            self.metadata, self.is_cut = storage.metadata, is_cut

    @contextmanager
    def opened(self, is_stopped: Callable[[], bool] = never) -> Iterator[Any]:
        """Yield the storage, open; errors: see the class.

        Args:
            is_stopped: Asked again and again while it is unpacked; a StoppedError follows if so.
        """
        with self._opened(is_stopped) as (storage, _):
            yield storage

    @contextmanager
    def _opened(self, is_stopped: Callable[[], bool] = never) -> Iterator[tuple[Any, bool]]:
        with _SHELF.reading(self._file, is_stopped) as content, ExitStack() as stack:
            storage, is_cut = self._open_plain(content.path, stack)
            yield storage, is_cut or content.is_cut

    def is_outside(self, start: int | None, stop: int | None) -> bool:
        """Return whether none of its messages is at or after ``start`` and before ``stop``, ns."""
        is_before = start is not None and self.metadata.end_time <= start
        is_behind = stop is not None and self.metadata.start_time >= stop
        return self.metadata.message_count > 0 and (is_before or is_behind)


def _unpack(file: Path, is_stopped: Callable[[], bool]) -> _Content:
    """Return the file's content as far as it goes."""
    with ExitStack() as stack:
        path, is_cut = stack.enter_context(scratch_folder()) / file.stem, False
        with zstd.open(file, 'rb') as source, path.open('wb') as target:
            try:
                while block := source.read1(_BLOCK_BYTES):
                    if is_stopped():
                        raise StoppedError
                    target.write(block)
            except (EOFError, zstd.ZstdError):
                is_cut = True
        return _Content(path, path.stat().st_size, is_cut, stack.pop_all().close)


def _content_bytes(file: Path) -> int:
    num_bytes = 0
    with suppress(EOFError, zstd.ZstdError), zstd.open(file, 'rb') as source:
        while block := source.read1(_BLOCK_BYTES):
            num_bytes += len(block)
    return num_bytes
