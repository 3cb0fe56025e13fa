"""What drives are called, and where the labels of each of them are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import re

from offroad_seg_core.evaluation.outputs.sink import safe_name
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.evaluation.sources.urls import url_name

BAG_SUFFIXES = ('.mcap', '.db3', '.zstd')
VIDEO_SUFFIXES = ('.mp4', '.mkv', '.avi', '.mov', '.webm', '.m4v', '.mpg', '.mpeg')
_METADATA = 'metadata.yaml'


def drive_name(place: str | Path) -> str:
    """Return the name of a drive by path or URL, without its suffix; other dots stay."""
    return _bare(url_name(str(place)) if '://' in str(place) else Path(place).resolve().name)


def drive_names(places: Sequence[str]) -> dict[str, str]:
    """Return a name of its own for each place -> the place, in their order."""
    found: dict[str, str] = {}
    for place in places:
        first = name = drive_name(place)
        number = 2
        while name in found:
            name, number = f'{first}_{number}', number + 1
        found[name] = place
    return found


def is_bag(path: Path) -> bool:
    """Tell whether a path looks like a bag."""
    if path.is_dir():
        files = [file.name for file in path.iterdir()]
        return _METADATA in files or any(name.endswith(BAG_SUFFIXES) for name in files)
    return path.name.endswith(BAG_SUFFIXES)


def is_one_bag(path: Path) -> bool:
    """Tell whether a path looks like one bag, and not like a folder with a bag of each drive.

    Without metadata.yaml the files of a folder are one bag where they are called as it is, or so
    with a number behind it, as recorders call them.
    """
    if not path.is_dir() or not is_bag(path) or (path / _METADATA).is_file():
        return is_bag(path)
    of_folder = re.compile(rf'{re.escape(path.resolve().name)}(_\d+)?')
    files = [file.name for file in path.iterdir() if file.name.endswith(BAG_SUFFIXES)]
    return all(of_folder.fullmatch(_bare(name)) for name in files)


def bags_of_drives(folder: Path, drive: str | None = None) -> dict[str, Path]:
    """Return the bags of drives in a folder, by their names as parts of paths.

    Args:
        folder: Holds them: folders, or single files; what is one bag itself has none.
        drive: The only one that is wanted; None: all.

    Raises:
        SourceError: Two are of one drive.
    """
    found: dict[str, Path] = {}
    is_one = not folder.is_dir() or (folder / _METADATA).is_file()
    for place in () if is_one else sorted(folder.iterdir()):
        # As the drive is called, or as an evaluation calls what it writes of it.
        name = safe_name(_bare(place.name))
        if (drive is not None and name != safe_name(drive)) or not is_bag(place):
            continue
        known = found.setdefault(name, place)
        if known != place:
            got, fix = f'got {known} and {place} for one drive', 'remove one'
            raise SourceError(f'{got}, expected one bag; fix: {fix}')
    return found


def bag_of(place: Path, drive: str) -> Path | None:
    """Return the bag with a drive's labels: its own in a folder of bags, else the place itself.

    Args:
        place: A bag, or a folder with a bag of each drive.
        drive: Whose labels they are; empty: it has no name.

    Returns:
        None where the place is no bag, and holds none of the drive.

    Raises:
        SourceError: It holds two of the drive.
    """
    own = bags_of_drives(place, drive) if drive else {}
    if own:
        return next(iter(own.values()))
    return place if is_one_bag(place) else None


def _bare(name: str) -> str:
    """Return the name of a file without the suffixes of bags and videos."""
    while name.lower().endswith((*BAG_SUFFIXES, *VIDEO_SUFFIXES)):
        name = name.rpartition('.')[0]
    return name
