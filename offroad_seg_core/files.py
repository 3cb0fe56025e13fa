"""Write files so that a reader never sees half of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
import errno
import fcntl
import glob
import hashlib
import logging
import os
from pathlib import Path
import re
import shutil
import socket
import tempfile
import uuid

log = logging.getLogger(__name__)

_SCRATCH = '.offroad_seg_scratch_'
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What network file systems without locks say."""


class ProcessAtWorkError(Exception):
    """Another process holds what this one wants; the message is who that is."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends well.

    The temporary file keeps the suffix (writers such as OpenCV choose the format by it). It is
    flushed to disk before the rename, so that a crash leaves the old file or the new one. When
    the block raises, the temporary file is removed and ``path`` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}')
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(folder: Path, place: Path) -> None:
    """Give a folder a place beside it, where an older one goes.

    An older one that cannot be removed, as that of another user, is left under a hidden name, and
    a warning says which.

    Raises:
        OSError: A folder cannot be renamed; then the older one has its place.
    """
    hidden = f'.{place.name}.older_'
    older = place.with_name(hidden + uuid.uuid4().hex[:8])
    try:
        if place.exists():
            place.rename(older)
        folder.rename(place)
    except OSError:
        if older.exists():
            older.rename(place)
        raise
    for left in place.parent.glob(glob.escape(hidden) + '?' * 8):
        shutil.rmtree(left, ignore_errors=True)
        if left.exists():
            fix = 'remove it as its owner'
            log.warning('%s: this older %s cannot be removed; fix: %s', left, place.name, fix)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder for temporary files; it is removed when the block ends.

    Where a process was killed in its block, the folder stays until this is called again on that
    host, which removes every folder whose process is gone.
    """
    # Of folders on a network file system hosts do not see each other's locks. No host has a "_".
    prefix = f'{_SCRATCH}{re.sub("[^A-Za-z0-9.-]", "-", socket.gethostname())}_'
    for place in Path(tempfile.gettempdir()).glob(f'{prefix}*'):
        with suppress(OSError), _locked(place, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(place)
    made = Path(tempfile.mkdtemp())
    with _locked(made, fcntl.LOCK_SH):
        place = made.rename(made.with_name(prefix + made.name))  # locked before others find it
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def only_process(path: Path) -> Iterator[None]:
    """Hold a file that lets one process at a time into its block, and says which one it is.

    The file goes with the block. After ``kill -9`` it stays and holds nobody off. Where the file
    system has no locks everybody is let in.

    Raises:
        ProcessAtWorkError: Another process is in its block.
        OSError: The file cannot be opened or locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock_file(path)
    try:
        with suppress(OSError):  # these are words for people: a full disk is told by who needs it
            os.truncate(descriptor, 0)
            os.write(descriptor, f'process {os.getpid()} on {socket.gethostname()}'.encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _lock_file(path: Path) -> int:
    """Return a descriptor of a file that is locked, at its path until this process removes it."""
    while True:
        with ExitStack() as stack:
            descriptor, can_write = _open_to_lock(path)
            stack.callback(os.close, descriptor)
            _lock(descriptor)
            is_there = os.fstat(descriptor).st_nlink  # or removed by another process in between
            if is_there and can_write:
                stack.pop_all()
                return descriptor
            if is_there:
                path.unlink()  # of another user, whose process is gone: it would still be named


def _open_to_lock(path: Path) -> tuple[int, bool]:
    """Return a file's descriptor, and whether it can be written: a lock does not need that."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), True
    except PermissionError:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY), False
        raise


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # the latter from SMB
        owner = b''
        with suppress(OSError):  # SMB may keep what is locked from being read
            owner = os.read(descriptor, 1000)
        raise ProcessAtWorkError(owner.decode() or 'another process') from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    """Hold a lock on a folder; it ends with this process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: str | Path) -> str:
    """Return the hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def user_cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/offroad_seg``: results that can be computed again."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'offroad_seg'
