"""What is remembered beside a download, so that the next run knows what is here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any, TypeVar

from offroad_seg_core.files import atomic_path

T = TypeVar('T')


@dataclass(frozen=True)
class Wanted:
    """A file to download.

    Attributes:
        url: http(s).
        target: Where it goes.
        size: In bytes, where known beforehand.
        sha256: Hex digest, where known beforehand.
    """

    url: str
    target: Path
    size: int | None = None
    sha256: str | None = None

    @property
    def part(self) -> Path:
        """What has arrived so far."""
        return self.target.with_name(f'{self.target.name}.part')

    @property
    def state(self) -> Path:
        """What the part is a part of."""
        return self.target.with_name(f'{self.target.name}.part.json')

    @property
    def record(self) -> Path:
        """What the whole file was found to be."""
        return self.target.with_name(f'{self.target.name}.json')


@dataclass(frozen=True)
class Received:
    """A file that is here and whole.

    Attributes:
        size: In bytes.
        sha256: Hex digest of the file as it lies on the disk.
        etag: The server's tag; None where it gave none or the file was put there by hand.
    """

    size: int
    sha256: str
    etag: str | None = None


def find_received(wanted: Wanted) -> Received | None:
    """Return what an earlier download left, unless something is missing or other than wanted."""
    received = read_record(wanted.record, Received)
    if received is None or not wanted.target.is_file():
        return None
    is_wanted = (
        wanted.target.stat().st_size == received.size
        and wanted.size in (None, received.size)
        and wanted.sha256 in (None, received.sha256)
    )
    return received if is_wanted else None


def bytes_here(wanted: Wanted) -> int:
    """Return how much of a file is on the disk already."""
    for path in (wanted.target, wanted.part):
        if path.is_file():
            return path.stat().st_size
    return 0


def remove_downloaded(wanted: Wanted) -> None:
    """Delete a downloaded file and what is remembered of it."""
    for path in (wanted.target, wanted.record):
        path.unlink(missing_ok=True)


def read_record(path: Path, cls: type[T]) -> T | None:
    """Return what ``write_record`` wrote; None where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        return cls(**content)
    except (OSError, ValueError, TypeError):
        return None


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass of plain values as JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(record)), encoding='utf-8')
