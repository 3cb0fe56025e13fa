"""Extract archives so that an interruption leaves no half-written file and can be gone on from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
import errno
import os
from pathlib import Path
import zlib

from tqdm import tqdm

from offroad_seg_core.datasets.acquisition.archives import BROKEN, Archive, ArchiveError, Member

_CHUNK_BYTES = 1 << 20


def extract(
    archive: Archive,
    root: Path,
    files: Iterable[tuple[Member, str]],
    show_progress: bool = True,
) -> int:
    """Write members of an archive below a folder; skip those that are there already.

    What else is at their paths is replaced; ``refuse_foreign`` looks before. Every file is
    written under a temporary name first. Files are not flushed one by one, which
    would take hours for 100,000 of them: a caller that notes the work as done calls ``os.sync``
    before.

    Args:
        archive: Where they come from.
        root: The folder that nothing may leave.
        files: Members and their paths relative to ``root``.
        show_progress: Draw a bar on terminals.

    Returns:
        The number of files that were written.

    Raises:
        ArchiveError: The archive is broken, the disk is full, or a path leads out of ``root``
            through a link.
    """
    files = list(files)
    total = sum(member.size for member, _ in files)
    bar = tqdm(
        total=total, desc=f'extract {archive.path.name}', unit='B', unit_scale=True,
        disable=None if show_progress else True,
    )  # fmt: skip
    resolved, checked, num_written = root.resolve(), set[Path](), 0
    with bar, _disk_errors(root):
        for member, relative in files:
            path = root / relative
            if path.parent not in checked:
                _make_folder(path.parent, resolved)
                checked.add(path.parent)
            if not holds(path, member):
                _write(archive, member, path)
                num_written += 1
            bar.update(member.size)
    return num_written


def refuse_foreign(
    root: Path, files: Iterable[tuple[Member, str]], ours: Collection[str] = ()
) -> None:
    """Raise ArchiveError where a path holds another file that did not come from us.

    Args:
        root: The folder to extract to.
        files: Members and their paths relative to ``root``.
        ours: Paths that an earlier extraction wrote; they may hold an older version.
    """
    for member, relative in files:
        path = root / relative
        if relative not in ours and os.path.lexists(path) and not holds(path, member):
            raise ArchiveError(
                f'{path}: is there already, but is not {member.name} of the archive; delete it '
                'or move it away'
            )


def holds(path: Path, member: Member) -> bool:
    """Say whether a file has the size and CRC of a member; tar has no CRC, so never."""
    if member.crc is None or path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == member.size and crc_of(path) == member.crc


def crc_of(path: Path) -> int:
    """Return the CRC-32 of a file's content."""
    crc = 0
    with open(path, 'rb') as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = 'make room and run again' if error.errno == errno.ENOSPC else 'check the disk'
        raise ArchiveError(
            f'{error.filename or root}: {error.strerror}; {advice}: what is extracted is kept'
        ) from error


def _make_folder(folder: Path, root: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not folder.resolve().is_relative_to(root):
        raise ArchiveError(f'{folder}: is a link that leads out of {root}; remove it')


def _write(archive: Archive, member: Member, path: Path) -> None:
    # One name for all attempts: what a crash leaves, the next run overwrites.
    temporary = path.with_name(f'.{path.name}.part')
    temporary.unlink(missing_ok=True)
    try:
        _copy(archive, member, temporary)
        os.replace(temporary, path)
    except (*BROKEN, NotImplementedError) as error:
        raise ArchiveError(
            f'{archive.path}: {member.name!r} cannot be read: {error}; delete the archive and '
            'download it again'
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _copy(archive: Archive, member: Member, target: Path) -> None:
    num_bytes = 0
    # 'x': never through a link that somebody put there.
    with archive.open_member(member) as source, open(target, 'xb') as stream:
        while chunk := source.read(_CHUNK_BYTES):
            num_bytes += len(chunk)
            if num_bytes > member.size:
                break
            stream.write(chunk)
    if num_bytes != member.size:
        raise ArchiveError(
            f'{archive.path}: {member.name!r} does not have the {member.size} bytes it declares'
        )
