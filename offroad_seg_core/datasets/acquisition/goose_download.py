"""Download GOOSE and GOOSE-Ex and extract them to one tree; go on where an earlier run ended.

Archives are extracted straight to their final place, so nothing is copied or moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
import fcntl
from fnmatch import fnmatchcase
import logging
import os
from pathlib import Path
from typing import Any

from offroad_seg_core.datasets.acquisition.archives import Archive, ArchiveError, Member, fold
from offroad_seg_core.datasets.acquisition.disk_space import check_space
from offroad_seg_core.datasets.acquisition.download import download
from offroad_seg_core.datasets.acquisition.extraction import (
    crc_of,
    extract,
    refuse_foreign,
)
from offroad_seg_core.datasets.acquisition.goose_config import ArchiveConfig, GooseDownloadConfig
from offroad_seg_core.datasets.acquisition.goose_layout import LABEL_TABLE, combined_path
from offroad_seg_core.datasets.acquisition.manifest import (
    Stamp,
    has_every_file,
    read_stamp,
    read_stamps,
    summarize,
    write_manifest,
    write_stamp,
)
from offroad_seg_core.datasets.acquisition.records import (
    Received,
    bytes_here,
    find_received,
    remove_downloaded,
)
from offroad_seg_core.datasets.acquisition.remote import DownloadError, Session, look_up
from offroad_seg_core.files import atomic_path

log = logging.getLogger(__name__)

_GB = 1e9
# PNG files hardly shrink in an archive; the rest is for blocks that small files do not fill.
_EXTRACTED_PER_ARCHIVE_BYTE = 1.1


def prepare(config: GooseDownloadConfig, show_progress: bool = True) -> dict[str, Any]:
    """Make the tree of a configuration, or what is missing of it.

    Returns:
        The manifest: what came from where, and counts of images, labels and scenarios.

    Raises:
        DownloadError, DiskSpaceError, ArchiveError: What went wrong, and what to do. Whatever
            was done stays, and the next call goes on from it.
    """
    with _locked(config.root):
        pending = [archive for archive in config.archives if not _is_done(config, archive)]
        if pending:
            _warn_of_missing_hashes(pending)
            check_space(_plan(config, pending), int(config.reserve_gb * _GB), _advice(config))
        for archive in pending:
            received = download(config.wanted(archive), config.retry, show_progress)
            _extract(config, archive, received, show_progress)
            _tidy(config, archive)
        for archive in config.archives:
            _tidy(config, archive)
        stamps = [stamp for stamp in read_stamps(config.root) if stamp.complete]
        _publish_label_table(config.root, stamps)
        manifest = summarize(stamps)
        write_manifest(config.root, manifest)
    return manifest


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Keep a second run out: both would write to the same .part file."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / '.lock', 'a') as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DownloadError(
                f'{root}: another run is preparing it; wait for its end'
            ) from error
        yield


def _is_done(config: GooseDownloadConfig, archive: ArchiveConfig) -> bool:
    stamp = read_stamp(config.root, archive.name)
    return (
        stamp is not None
        and stamp.complete
        and archive.sha256 in (None, stamp.sha256)
        and list(config.exclude) == stamp.exclude
        and has_every_file(config.root, stamp)
    )


def _warn_of_missing_hashes(archives: list[ArchiveConfig]) -> None:
    names = [archive.name for archive in archives if archive.sha256 is None]
    if names:
        log.warning(
            'no SHA-256 is known beforehand for %s: only sizes, and the checksums inside the '
            'archives, can be checked; the manifest will hold the hashes that were found',
            ', '.join(names),
        )


def _plan(config: GooseDownloadConfig, pending: list[ArchiveConfig]) -> list[tuple[Path, int]]:
    """Return what will be written where; every URL is tried, so that a wrong one shows now."""
    steps, sizes = [], []
    with Session() as session:
        for archive in pending:
            wanted = config.wanted(archive)
            here = bytes_here(wanted)
            if wanted.target.is_file():
                size: int | None = here
            else:
                size = look_up(session, archive.url, config.retry).size or archive.size_bytes
            sizes.append(size)
            extracted = int((size or 0) * _EXTRACTED_PER_ARCHIVE_BYTE)
            steps.append((wanted.target.parent, max((size or 0) - here, 0)))
            steps.append((config.root, max(extracted - _extracted_already(config, archive), 0)))
            if not config.keep_archives:
                steps.append((wanted.target.parent, -(size or 0)))
    known = sum(size or 0 for size in sizes)
    log.info('%d archives to do, %.1f GB to download and extract', len(pending), known / _GB)
    if None in sizes:
        log.warning('the server does not tell every size: %g GB assumed', config.unknown_size_gb)
        steps.append((config.root, max(int(config.unknown_size_gb * _GB) - known, 0)))
    return steps


def _extracted_already(config: GooseDownloadConfig, archive: ArchiveConfig) -> int:
    stamp = read_stamp(config.root, archive.name)
    paths = [config.root / relative for relative in (stamp.files if stamp else ())]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _advice(config: GooseDownloadConfig) -> str:
    if config.keep_archives:
        return 'make room, delete archives as they are done (--delete-archives) or take fewer'
    return 'make room, take fewer archives or choose another root or archive_folder'


def _extract(
    config: GooseDownloadConfig, archive: ArchiveConfig, received: Received, show_progress: bool
) -> None:
    old = read_stamp(config.root, archive.name)
    with Archive(config.wanted(archive).target) as opened:
        chosen = _choose(config, archive, opened)
        total_gb = sum(member.size for member, _ in chosen) / _GB
        if total_gb > config.max_extracted_gb:
            raise ArchiveError(
                f'{opened.path}: claims to hold {total_gb:.1f} GB, allowed are '
                f'{config.max_extracted_gb:g}; raise max_extracted_gb if that is right'
            )
        stamp = Stamp(
            archive=archive.name,
            url=archive.url,
            size=received.size,
            sha256=received.sha256,
            sha256_checked=archive.sha256 is not None,
            exclude=list(config.exclude),
            num_excluded=len(opened.members) - len(chosen),
            complete=False,
            files={path: [member.size, member.crc] for member, path in chosen},
        )
        _check_collisions(config.root, stamp)
        replaceable = frozenset(old.files if old else ())
        refuse_foreign(config.root, chosen, replaceable)
        num_missing = int(total_gb * _GB) - _extracted_already(config, archive)
        check_space([(config.root, max(num_missing, 0))], 0, _advice(config))
        # Written before the files: whatever of them a crash leaves is known to be ours.
        write_stamp(config.root, stamp)
        extract(opened, config.root, chosen, show_progress)
    files = {
        path: [size, crc_of(config.root / path) if crc is None else crc]
        for path, (size, crc) in stamp.files.items()
    }
    os.sync()  # the stamp must not reach the disk before the files that it vouches for
    write_stamp(config.root, replace(stamp, files=files, complete=True))


def _choose(
    config: GooseDownloadConfig, archive: ArchiveConfig, opened: Archive
) -> list[tuple[Member, str]]:
    chosen = []
    for member in opened.members:
        path = combined_path(member.name, archive.name)
        if path and not any(fnmatchcase(path, pattern) for pattern in config.exclude):
            chosen.append((member, path))
    return chosen


def _check_collisions(root: Path, new: Stamp) -> None:
    """Raise ArchiveError where a file would overwrite another archive's, or one of its own."""
    owners: dict[str, tuple[str, str]] = {}
    for stamp in read_stamps(root):
        if stamp.archive != new.archive:
            owners.update({fold(path): (path, stamp.archive) for path in stamp.files})
    for path in new.files:
        other, owner = owners.setdefault(fold(path), (path, new.archive))
        if (other, owner) != (path, new.archive):
            raise ArchiveError(
                f'{path}: of {new.archive} is the same file as {other} of {owner}; nothing of '
                f'{new.archive} was extracted; exclude one of them or use another root'
            )


def _tidy(config: GooseDownloadConfig, archive: ArchiveConfig) -> None:
    wanted = config.wanted(archive)
    if not config.keep_archives and find_received(wanted) is not None:
        remove_downloaded(wanted)


def _publish_label_table(root: Path, stamps: list[Stamp]) -> None:
    """Put the archives' label table at the top of the tree; say where they differ."""
    tables = {
        path: crc
        for stamp in stamps
        for path, (_, crc) in stamp.files.items()
        if path.startswith('about/') and path.endswith(f'/{LABEL_TABLE}')
    }
    if not tables:
        return
    first = min(tables)
    others = [path for path in sorted(tables) if tables[path] != tables[first]]
    if others:
        log.warning('%s differs from %s, which is used', ', '.join(others), first)
    if not (root / LABEL_TABLE).is_file() or crc_of(root / LABEL_TABLE) != tables[first]:
        with atomic_path(root / LABEL_TABLE) as temporary:
            temporary.write_bytes((root / first).read_bytes())
