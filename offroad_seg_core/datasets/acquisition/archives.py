"""List what is in a zip or tar archive, and refuse one that could do harm.

Everything is judged before the first byte is written: an archive with one bad member is not
extracted at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import lzma
from pathlib import Path, PurePosixPath
import re
import stat
import tarfile
from typing import IO
import unicodedata
import zipfile
import zlib

# Image files are compressed already; an archive of them that grows more is a bomb.
MAX_GROWTH = 100.0
# What reading a broken archive raises, beside OSError without a number.
BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)
_WINDOWS_DRIVE = re.compile(r'[A-Za-z]:')


class ArchiveError(ValueError):
    """An archive that is broken, or that must not be extracted."""


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: As the archive spells it; relative, without ``..``.
        size: In bytes, as declared.
        crc: CRC-32 of the content; None in tar archives, which have none.
    """

    name: str
    size: int
    crc: int | None


class Archive:
    """A zip or tar file, opened for reading. Use as a context manager.

    Raises:
        ArchiveError: The file is no archive, is broken, or has a member that is unsafe: an
            absolute path or one with ``..``, a link, a device, an encrypted file, two names that
            are one on some file systems, or far more content than the file could hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._tar: tarfile.TarFile | None = None
        self._tar_infos: dict[str, tarfile.TarInfo] = {}  # tarfile finds names by searching
        try:
            if zipfile.is_zipfile(path):
                self._zip = zipfile.ZipFile(path)
            else:
                self._tar = tarfile.open(path)  # noqa: SIM115
            self.members = tuple(self._list())
        except BaseException as error:
            self.close()
            # Those of the system have a number, those of decompressors have none.
            is_content = isinstance(error, OSError) and error.errno is None
            if not (is_content or isinstance(error, BROKEN)):
                raise
            raise ArchiveError(
                f'{path}: not a whole zip or tar archive ({error}); delete it and run again'
            ) from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        for archive in (self._zip, self._tar):
            if archive is not None:
                archive.close()

    def open_member(self, member: Member) -> IO[bytes]:
        """Return a stream of a member's content."""
        if self._zip is not None:
            return self._zip.open(member.name)
        assert self._tar is not None
        stream = self._tar.extractfile(self._tar_infos[member.name])
        assert stream is not None  # _list lets regular files through only
        return stream

    def _list(self) -> list[Member]:
        if self._zip is not None:
            entries = _zip_entries(self._zip, self.path)
        else:
            assert self._tar is not None
            self._tar_infos = {info.name: info for info in self._tar}
            _check_end(self._tar)
            entries = _tar_entries(self._tar, self.path)
        members = list(entries)
        _check_names(self.path, [member.name for member in members])
        total, held = sum(member.size for member in members), self.path.stat().st_size
        if total > MAX_GROWTH * held:
            raise ArchiveError(
                f'{self.path}: {held} bytes claim to hold {total}; that is no archive of images '
                'but one made to fill the disk'
            )
        return members


def _zip_entries(archive: zipfile.ZipFile, path: Path) -> Iterator[Member]:
    infos = archive.infolist()
    if sum(info.compress_size for info in infos) > path.stat().st_size:
        raise ArchiveError(f'{path}: its members overlap; it was made to fill the disk')
    for info in infos:
        # `filename` is cut at a NUL; the original is what an attacker wrote.
        name = info.orig_filename
        check_name(path, name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError(f'{path}: {name!r} is a link or a device, expected files only')
        if info.flag_bits & 0x1:
            raise ArchiveError(f'{path}: {name!r} is encrypted')
        if not info.is_dir():
            yield Member(name, info.file_size, info.CRC)


def _tar_entries(archive: tarfile.TarFile, path: Path) -> Iterator[Member]:
    for info in archive:
        check_name(path, info.name)
        if not (info.isfile() or info.isdir()):
            raise ArchiveError(f'{path}: {info.name!r} is a link or a device, expected files only')
        if info.isfile():
            yield Member(info.name, info.size, None)


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise what a broken archive raises if the end is not where tarfile stopped listing.

    It takes a damaged header for the end, and does not read as far as the checksum of a
    compressed file.
    """
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    end = stream.read(2 * tarfile.BLOCKSIZE)
    if end != bytes(2 * tarfile.BLOCKSIZE):
        raise tarfile.ReadError(
            f'got no end but a damaged header or nothing at byte {archive.offset} of its content'
        )
    while stream.read(1 << 20):
        pass


def check_name(archive: Path, name: str) -> None:
    """Raise ArchiveError for a name that is not plainly below the folder it is extracted to."""
    parts = name.rstrip('/').split('/')
    if parts[0] == '.':
        parts = parts[1:]
    problem = None
    if not name or name.startswith('/') or _WINDOWS_DRIVE.match(name):
        problem = 'is an absolute path'
    elif '..' in parts:
        problem = "leads out of the folder with '..'"
    elif any(part in ('', '.') for part in parts) and name not in ('.', './'):
        problem = 'has an empty part'
    elif '\\' in name or any(unicodedata.category(character) == 'Cc' for character in name):
        problem = 'has a backslash or a control character'
    if problem:
        raise ArchiveError(f'{archive}: {name!r} {problem}; nothing was extracted')


def _check_names(archive: Path, names: list[str]) -> None:
    """Raise ArchiveError where two members would be one file, here or on another file system."""
    spellings: dict[str, str] = {}
    for name in names:
        if fold(name) in spellings:
            raise ArchiveError(
                f'{archive}: {spellings[fold(name)]!r} and {name!r} are the same file where case '
                'does not count; nothing was extracted'
            )
        spellings[fold(name)] = name
    for name in names:
        for parent in PurePosixPath(fold(name)).parents:
            if str(parent) in spellings:
                raise ArchiveError(
                    f'{archive}: {spellings[str(parent)]!r} is a file and the folder of {name!r}'
                )


def fold(name: str) -> str:
    """Return what two names have in common that some file system takes for one."""
    return unicodedata.normalize('NFC', str(PurePosixPath(name))).casefold()
