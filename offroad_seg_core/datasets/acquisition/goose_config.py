"""What to download of GOOSE, from where, and where to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from pathlib import Path
import re

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.acquisition.goose_layout import archive_stem
from offroad_seg_core.datasets.acquisition.records import Wanted
from offroad_seg_core.datasets.acquisition.remote import RetryConfig, check_url

_FILE_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')
_SHA256 = re.compile(r'[0-9a-f]{64}')


@dataclass(frozen=True, config=STRICT)
class ArchiveConfig:
    """One archive.

    Attributes:
        name: Its file name here.
        url: http(s).
        size_bytes: Where known: anything else is refused.
        sha256: Where known: anything else is refused.
    """

    name: str
    url: str
    size_bytes: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not _FILE_NAME.fullmatch(self.name):
            raise ValueError(f'name {self.name!r}: expected a file name of A-Z a-z 0-9 . _ -')
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f'sha256 {self.sha256!r}: expected 64 digits 0-9 a-f')
        check_url(self.url)


@dataclass(frozen=True, config=STRICT)
class GooseDownloadConfig:
    """All of it.

    Attributes:
        root: The folder of the combined tree.
        archives: In the order in which they are downloaded.
        archive_folder: Where archives go; null: ``archives`` in ``root``.
        keep_archives: Whether they stay after they are extracted.
        exclude: Patterns of paths in the tree that are not extracted.
        max_extracted_gb: An archive that claims to hold more is refused.
        unknown_size_gb: What is assumed for everything together, archives included, where the
            server does not tell the size of some archive.
        reserve_gb: What stays free on the disk.
        retry: How patient downloads are.
    """

    root: Path
    archives: tuple[ArchiveConfig, ...]
    archive_folder: Path | None = None
    keep_archives: bool = True
    exclude: tuple[str, ...] = ()
    max_extracted_gb: float = 400.0
    unknown_size_gb: float = 192.0
    reserve_gb: float = 2.0
    retry: RetryConfig = field(default_factory=RetryConfig)

    def __post_init__(self) -> None:
        stems = [archive_stem(archive.name) for archive in self.archives]
        if not stems:
            raise ValueError('archives: got none, expected at least one')
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        if twice:
            raise ValueError(f'archives: {", ".join(twice)} is listed twice')

    def wanted(self, archive: ArchiveConfig) -> Wanted:
        """Return an archive as a file to download."""
        folder = self.archive_folder or self.root / 'archives'
        return Wanted(archive.url, folder / archive.name, archive.size_bytes, archive.sha256)

    def only(self, names: Sequence[str]) -> GooseDownloadConfig:
        """Return the configuration with these archives only.

        Raises:
            ValueError: A name is not among the archives.
        """
        known = {archive.name: archive for archive in self.archives}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f'{unknown[0]}: no such archive; known: {", ".join(known)}')
        return replace(self, archives=tuple(known[name] for name in dict.fromkeys(names)))
