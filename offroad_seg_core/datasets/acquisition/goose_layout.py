"""Where the files of GOOSE and GOOSE-Ex go: one tree for all of their archives.

images/{train,val,test}/<scenario>/<base>_<camera>.png
labels/{train,val}/<scenario>/<base>_{labelids,color,instanceids}.png
about/<archive>/          licence, changelog and label table of each archive
goose_label_mapping.csv   the label table
manifest.json, manifest/  what was extracted from where
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple

from offroad_seg_core.datasets.acquisition.archives import ArchiveError

SPLITS = ('train', 'val', 'test')
CAMERAS = ('windshield_vis', 'windshield_nir', 'camera_left', 'front', 'realsense')
LABEL_KINDS = ('labelids', 'color', 'instanceids')
LABEL_TABLE = 'goose_label_mapping.csv'
_ARCHIVE_SUFFIXES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz')


class FrameFile(NamedTuple):
    """What a path of the tree says of a file; ``part`` is a camera or a kind of label."""

    folder: str
    split: str
    scenario: str
    base: str
    part: str


def archive_stem(name: str) -> str:
    """Return an archive's name without its suffix."""
    for suffix in sorted(_ARCHIVE_SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def combined_path(member: str, archive: str) -> str | None:
    """Return where a member of an archive goes; None for what some packers leave behind.

    ``images`` and ``labels`` may lie at the top of the archive or in one folder.

    Raises:
        ArchiveError: A file in ``images`` or ``labels`` is not in a scenario of a known split.
    """
    parts = PurePosixPath(member).parts
    if '__MACOSX' in parts or parts[-1].startswith('._') or parts[-1] == '.DS_Store':
        return None
    for depth in (0, 1):
        if len(parts) > depth + 1 and parts[depth] in ('images', 'labels'):
            inner = parts[depth:]
            if len(inner) != 4 or inner[1] not in SPLITS:
                raise ArchiveError(
                    f'{archive}: {member!r}: expected {inner[0]}/<split>/<scenario>/<file> with '
                    f'a split of {", ".join(SPLITS)}; this is no GOOSE 2D archive'
                )
            return '/'.join(inner)
    return '/'.join(('about', archive_stem(archive), *parts))


def describe(path: str) -> FrameFile | None:
    """Take a path of the tree apart; None for what is neither image nor label."""
    parts = PurePosixPath(path).parts
    if len(parts) != 4 or parts[0] not in ('images', 'labels'):
        return None
    folder, split, scenario, name = parts
    stem = PurePosixPath(name).stem
    for part in CAMERAS if folder == 'images' else LABEL_KINDS:
        if stem.endswith(f'_{part}'):
            return FrameFile(folder, split, scenario, stem.removesuffix(f'_{part}'), part)
    return FrameFile(folder, split, scenario, stem, 'other')
