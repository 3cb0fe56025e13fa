"""Remember what was extracted from where, count it, and check a tree against it later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from offroad_seg_core.datasets.acquisition.archives import ArchiveError
from offroad_seg_core.datasets.acquisition.extraction import crc_of
from offroad_seg_core.datasets.acquisition.goose_layout import FrameFile, archive_stem, describe
from offroad_seg_core.datasets.acquisition.records import read_record, write_record
from offroad_seg_core.files import atomic_path

LICENSE = 'CC BY-SA 4.0'
MANIFEST = 'manifest.json'
_FOLDER = 'manifest'


@dataclass(frozen=True)
class Stamp:
    """What one archive brought to the tree.

    Attributes:
        archive: Its file name.
        url: Where it came from.
        size: In bytes.
        sha256: Hex digest of the archive.
        sha256_checked: The digest was known beforehand, and compared.
        exclude: Patterns of the files that were left in the archive.
        num_excluded: How many they were.
        complete: False while it is being extracted.
        files: Path in the tree -> (size in bytes, CRC-32); the CRC of members of tar archives is
            None until they are extracted.
    """

    archive: str
    url: str
    size: int
    sha256: str
    sha256_checked: bool
    exclude: list[str]
    num_excluded: int
    complete: bool
    files: dict[str, list[int | None]]


def stamp_path(root: Path, archive: str) -> Path:
    """Return where the stamp of an archive is kept."""
    return root / _FOLDER / f'{archive_stem(archive)}.json'


def read_stamp(root: Path, archive: str) -> Stamp | None:
    """Return the stamp of an archive, None where there is none."""
    return read_record(stamp_path(root, archive), Stamp)


def read_stamps(root: Path) -> list[Stamp]:
    """Return the stamps of every archive that was extracted to a tree, by name."""
    stamps = [read_record(path, Stamp) for path in sorted((root / _FOLDER).glob('*.json'))]
    return [stamp for stamp in stamps if stamp is not None]


def write_stamp(root: Path, stamp: Stamp) -> None:
    """Write the stamp of an archive."""
    write_record(stamp_path(root, stamp.archive), stamp)


def has_every_file(root: Path, stamp: Stamp) -> bool:
    """Say whether every file of a stamp is there with its size; contents are not read."""
    return not any(_size_problems(root, stamp))


def summarize(stamps: Iterable[Stamp]) -> dict[str, Any]:
    """Return the manifest: the archives, and counts of images, labels and scenarios."""
    stamps = list(stamps)
    paths = [path for stamp in stamps for path in stamp.files]
    found = [file for file in map(describe, paths) if file is not None]
    return {
        'license': LICENSE,
        'num_files': len(paths),
        'num_bytes': sum(size or 0 for stamp in stamps for size, _ in stamp.files.values()),
        'images': _count(f for f in found if f.folder == 'images'),
        'labels': _count(f for f in found if f.folder == 'labels'),
        'scenarios': _count_scenarios(found),
        'unpaired': _unpaired(found),
        'archives': [
            {
                'name': stamp.archive,
                'url': stamp.url,
                'size': stamp.size,
                'sha256': stamp.sha256,
                'sha256_checked': stamp.sha256_checked,
                'num_files': len(stamp.files),
                'num_excluded': stamp.num_excluded,
            }
            for stamp in stamps
        ],
    }


def write_manifest(root: Path, manifest: dict[str, Any]) -> bool:
    """Write the manifest of a tree unless it is there already; return whether it was written."""
    text = json.dumps(manifest, indent=2) + '\n'
    path = root / MANIFEST
    if path.is_file() and path.read_text(encoding='utf-8') == text:
        return False
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return True


def verify(root: Path, read_content: bool = False) -> list[str]:
    """Compare a tree with its manifest.

    Args:
        root: The tree.
        read_content: Read every file and compare its CRC, too.

    Returns:
        One line for each problem; none where the tree is as it was extracted.

    Raises:
        ArchiveError: The folder has no readable manifest.
    """
    stamps = read_stamps(root)
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding='utf-8'))
        names = sorted(entry['name'] for entry in manifest['archives'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(
            f'{root / MANIFEST}: cannot be read ({error}); prepare the folder first'
        ) from error
    problems = [
        f'{stamp.archive}: extraction is unfinished' for stamp in stamps if not stamp.complete
    ]
    if manifest != json.loads(json.dumps(summarize(stamps))):
        here = sorted(stamp.archive for stamp in stamps)
        problems.append(f'{MANIFEST} (archives {names}) is not that of {_FOLDER}/ ({here})')
    for stamp in stamps:
        problems += _size_problems(root, stamp)
        if read_content:
            problems += _content_problems(root, stamp)
    known = {path for stamp in stamps for path in stamp.files}
    for folder in ('images', 'labels'):
        for path in sorted((root / folder).rglob('*')):
            relative = path.relative_to(root).as_posix()
            if not path.is_dir() and relative not in known:
                problems.append(f'{relative}: is of no archive')
    return problems


def _size_problems(root: Path, stamp: Stamp) -> Iterator[str]:
    for relative, (size, _) in stamp.files.items():
        path = root / relative
        if not path.is_file():
            yield f'{relative}: is missing'
        elif path.stat().st_size != size:
            yield f'{relative}: has {path.stat().st_size} bytes, expected {size}'


def _content_problems(root: Path, stamp: Stamp) -> Iterator[str]:
    for relative, (size, crc) in stamp.files.items():
        path = root / relative
        if path.is_file() and path.stat().st_size == size and crc_of(path) != crc:
            yield f'{relative}: has other content than {stamp.archive}'


def _count(files: Iterable[FrameFile]) -> dict[str, dict[str, int]]:
    """Return split -> camera or kind of label -> number of files."""
    counts: dict[str, Counter[str]] = {}
    for file in files:
        counts.setdefault(file.split, Counter())[file.part] += 1
    return {split: dict(sorted(counts[split].items())) for split in sorted(counts)}


def _count_scenarios(files: Iterable[FrameFile]) -> dict[str, dict[str, int]]:
    """Return split -> scenario -> number of frames, several cameras being one frame."""
    frames: dict[str, dict[str, set[str]]] = {}
    for file in files:
        frames.setdefault(file.split, {}).setdefault(file.scenario, set()).add(file.base)
    return {
        split: {scenario: len(bases) for scenario, bases in sorted(scenarios.items())}
        for split, scenarios in sorted(frames.items())
    }


def _unpaired(files: Iterable[FrameFile]) -> dict[str, list[str]]:
    """Return split -> frames that have an image or a label map only; test has no labels."""
    images: dict[str, set[str]] = {}
    labels: dict[str, set[str]] = {}
    for file in files:
        if file.folder == 'images' or file.part == 'labelids':
            side = images if file.folder == 'images' else labels
            side.setdefault(file.split, set()).add(f'{file.scenario}/{file.base}')
    return {
        split: sorted(images.get(split, set()) ^ labels.get(split, set()))
        for split in sorted({*images, *labels} - {'test'})
    }
