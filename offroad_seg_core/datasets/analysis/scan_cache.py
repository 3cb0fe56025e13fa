"""What was measured on files before, in one SQLite file.

An entry holds for as long as its file keeps its size and modification time. Entries are written
every two seconds, each batch whole or not at all: a killed scan loses no more than that.
"""

from __future__ import annotations

from collections.abc import Iterable
import logging
import os
from pathlib import Path
import sqlite3
import time
from types import TracebackType

from offroad_seg_core.datasets.analysis.facts import FACTS_VERSION
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.files import user_cache_folder

log = logging.getLogger(__name__)

_APPLICATION_ID = 0x0FF5CA7E
_SECONDS_BETWEEN_WRITES = 2.0
_TABLE = (
    'CREATE TABLE IF NOT EXISTS files '
    '(key TEXT PRIMARY KEY, fingerprint TEXT, facts BLOB) WITHOUT ROWID'
)


def default_cache_path() -> Path:
    """Return the user's cache file: ``$XDG_CACHE_HOME/offroad_seg/scan.sqlite``."""
    return user_cache_folder() / 'scan.sqlite'


def fingerprint(*paths: Path) -> str | None:
    """Return size and modification time of files; None if one cannot be looked at."""
    try:
        stats = [os.stat(path) for path in paths]
    except OSError:
        return None
    return '+'.join(f'{stat.st_size}:{stat.st_mtime_ns}' for stat in stats)


class ScanCache:
    """Measurements by key and fingerprint; a context manager that writes the rest at its end.

    Args:
        path: The file; None keeps nothing.

    Raises:
        DatasetError: The file is no cache of this program, or cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._waiting: list[tuple[str, str, bytes]] = []
        self._written_at = time.monotonic()
        self._connection = None if path is None else _connect(path)

    def __enter__(self) -> ScanCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.flush()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def look_up(self, fingerprints: dict[str, str]) -> dict[str, bytes]:
        """Return the facts of those keys whose fingerprint is still the same.

        Args:
            fingerprints: key -> fingerprint; at most 900, by SQLite's oldest limit.
        """
        if self._connection is None or not fingerprints:
            return {}
        marks = ','.join('?' * len(fingerprints))
        query = f'SELECT key, fingerprint, facts FROM files WHERE key IN ({marks})'
        rows: Iterable[tuple[str, str, bytes]] = self._connection.execute(
            query, tuple(fingerprints)
        )
        return {key: facts for key, stored, facts in rows if stored == fingerprints[key]}

    def store(self, key: str, fingerprint: str, facts: bytes) -> None:
        """Keep facts, on disk within two seconds of further calls."""
        if self._connection is None:
            return
        self._waiting.append((key, fingerprint, facts))
        if time.monotonic() - self._written_at > _SECONDS_BETWEEN_WRITES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting; a full disk ends the caching, not the scan."""
        if self._connection is None or not self._waiting:
            return
        try:
            with self._connection:
                self._connection.executemany(
                    'INSERT OR REPLACE INTO files VALUES (?, ?, ?)', self._waiting
                )
        except sqlite3.OperationalError as error:
            log.warning('%s: %s; the scan goes on without its cache', self._path, error)
            self._connection.close()
            self._connection = None
        self._waiting.clear()
        self._written_at = time.monotonic()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=30)
        _prepare(connection, path)
    except (OSError, sqlite3.Error) as error:
        raise DatasetError(
            f'{path}: cannot be used as scan cache ({error}); name another file, or none'
        ) from error
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the table; empty it if what was measured then differs from what is now."""
    (application,) = connection.execute('PRAGMA application_id').fetchone()
    (version,) = connection.execute('PRAGMA user_version').fetchone()
    (tables,) = connection.execute('SELECT count(*) FROM sqlite_master').fetchone()
    if application != _APPLICATION_ID and tables:
        raise DatasetError(
            f"{path}: is another program's database, not a scan cache; name another file"
        )
    with connection:
        if version != FACTS_VERSION:
            connection.execute('DROP TABLE IF EXISTS files')
        connection.execute(_TABLE)
        connection.execute(f'PRAGMA application_id = {_APPLICATION_ID}')
        connection.execute(f'PRAGMA user_version = {FACTS_VERSION}')
