"""Files by path or URL, in folders and in object storage, through fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from typing import Any

from offroad_seg_core.evaluation.sources.urls import shown, without_secrets
from offroad_seg_core.files import atomic_path

try:
    import fsspec
    from fsspec.implementations.local import LocalFileSystem
except ImportError as error:
    raise ImportError(
        f'URLs and fleets need it ({error}); fix: pip install -r requirements/fleet.txt'
    ) from error


_KEPT: tuple[type[Exception], ...] = FileNotFoundError, OSError, ValueError, ImportError


class StorageError(ValueError):
    """A place is none that can be read or written here."""


@contextmanager
def reaching(place: str) -> Iterator[None]:
    """Let what a storage library raises be an OSError that names the place.

    The libraries' own kinds, such as that of missing credentials, have no base in common, and a
    FileNotFoundError says no more than a path. Some texts hold the whole URL, signature and all:
    they are raised anew, with nothing behind them that a traceback could show.
    """
    try:
        yield
    except Exception as error:
        told = without_secrets(str(error), place)
        kind = next((base for base in _KEPT if isinstance(error, base)), None)
        if kind not in (None, FileNotFoundError) and told == str(error):
            raise
        got = f'{type(error).__name__}: {told}'
        fix = 'give every node the credentials and the network for it, correct the URL, or sign it'
        told = f'{shown(place)}: got {got}; expected storage that answers; fix: {fix} again'
        raise (kind or OSError)(told) from None


def filesystem(place: str) -> tuple[Any, str]:
    """Return the file system (fsspec) of a path or URL, and the path in it.

    Raises:
        StorageError: Its kind is not known, or the library for it is missing.
        OSError: It does not answer.
    """
    try:
        with reaching(place):
            return fsspec.url_to_fs(place)
    except (ImportError, ValueError) as error:
        known = 'a path, or a URL such as s3://bucket/drive.mcap'
        fix = 'install what it names on every node, or correct the URL'
        got = f'{shown(place)}: got {error}'
        raise StorageError(f'{got}; expected {known}; fix: {fix}') from error


class ChunkStore:
    """Results of finished chunks by their keys, one file each: ``<key>.zip``.

    Args:
        place: A folder or a URL; made if need be.

    Raises:
        StorageError: See filesystem.
        OSError: It cannot be made.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._files, self._root = filesystem(place)
        with reaching(place):
            self._files.makedirs(self._root, exist_ok=True)

    def keys(self) -> set[str]:
        """Return the keys of all that is there, asked for once and not one by one."""
        try:
            with reaching(self._place):
                names = self._files.ls(self._root, detail=False, refresh=True)
        except FileNotFoundError:  # object storage has no empty folders
            return set()
        return {os.path.basename(name).removesuffix('.zip') for name in names}

    def read(self, key: str) -> bytes:
        """Return what was written; OSError if it cannot be read."""
        with reaching(self._place):
            return self._files.cat_file(self._path(key))

    def write(self, key: str, content: bytes) -> None:
        """Keep a result; there is never half of one."""
        if isinstance(self._files, LocalFileSystem):
            with atomic_path(self._path(key)) as path:
                path.write_bytes(content)
        else:
            with reaching(self._place):  # object storage puts all or nothing
                self._files.pipe_file(self._path(key), content)

    def _path(self, key: str) -> str:
        return f'{self._root}/{key}.zip'
