"""What drives are called, and where the labels of each of them are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
import re

from offroad_seg_core.evaluation.frame_table import CSV
from offroad_seg_core.evaluation.outputs.sink import LABEL_BAG, LABEL_FILES, safe_name
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.evaluation.sources.urls import shown, url_name
from offroad_seg_core.evaluation.summary import SUMMARY, read_summary

BAG_SUFFIXES = ('.mcap', '.db3', '.zstd')
VIDEO_SUFFIXES = ('.mp4', '.mkv', '.avi', '.mov', '.webm', '.m4v', '.mpg', '.mpeg')
_METADATA = 'metadata.yaml'


def drive_name(place: str | Path) -> str:
    """Return the name of a drive by path or URL, without its suffix; other dots stay."""
    return _bare(url_name(str(place)) if '://' in str(place) else Path(place).resolve().name)


def drive_names(places: Sequence[str]) -> dict[str, str]:
    """Return a name of its own for each place -> the place, in their order.

    Of places that are called alike the first keeps the name, the others get a number behind it,
    one that makes no place's own name of it.
    """
    own = [drive_name(place) for place in places]
    taken = set(own)
    found: dict[str, str] = {}
    for first, place in zip(own, places, strict=True):
        name, number = first, 2
        while name in found or (number > 2 and name in taken):
            name, number = f'{first}_{number}', number + 1
        found[name] = place
    return found


def check_names(names: Mapping[str, str], places: Iterable[str | Path | None]) -> None:
    """Refuse labels of a drive by its name where several drives are called so.

    Args:
        names: See drive_names.
        places: Where labels are looked for; None: nowhere.

    Raises:
        SourceError: Naming the labels and the drives.
    """
    alike: dict[str, list[str]] = {}
    for place in names.values():
        alike.setdefault(drive_name(place), []).append(shown(place))
    for labels in (Path(place) for place in places if place is not None):
        folder = labels_below(labels, LABEL_FILES, LABEL_BAG)
        for name, place in names.items():
            drives = alike[drive_name(place)]
            for entry in _called(folder, name) if len(drives) > 1 else ():
                got = f'got labels of a drive called {name}, expected those of one drive'
                why = f'{" and ".join(drives)} have one name'
                fix = 'rename one of these, or evaluate each by itself'
                raise SourceError(f'{entry}: {got}; {why}; fix: {fix}')


def labels_below(place: Path, *folders: str) -> Path:
    """Return the first of a result's folders that is there, else the place itself.

    Raises:
        ResultError: It is a result of another version, whose labels may lie otherwise.
    """
    if (place / CSV).is_file() and (place / SUMMARY).is_file():
        read_summary(place)
    below = [place / folder for folder in folders if not (place / _METADATA).is_file()]
    return next(filter(Path.is_dir, below), place)


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


def bags_of_drives(
    folder: Path, drive: str | None = None, evaluated: Path | None = None
) -> dict[str, Path]:
    """Return the bags of drives in a folder, by their names as parts of paths.

    Args:
        folder: Holds them: folders, or single files; what is one bag itself has none.
        drive: The only one that is wanted; None: all.
        evaluated: A bag that is left out.

    Raises:
        SourceError: Two are of one drive.
    """
    found: dict[str, Path] = {}
    for place in filter(is_bag, _called(folder, drive)):
        if evaluated and place.resolve() == evaluated.resolve():
            continue
        known = found.setdefault(safe_name(_bare(place.name)), place)
        if known != place:
            got, fix = f'got {known} and {place} for one drive', 'remove one'
            raise SourceError(f'{got}, expected one bag; fix: {fix}')
    return found


def bag_of(place: Path, drive: str, evaluated: Path | None = None) -> Path | None:
    """Return the bag with a drive's labels: its own in a folder of bags, else the place itself.

    Args:
        place: A bag, or a folder with a bag of each drive.
        drive: Whose labels they are; empty: it has no name.
        evaluated: The bag of its frames, which is not its own here though it has its name.

    Returns:
        None where the place is no bag, and holds none of the drive.

    Raises:
        SourceError: It holds two of the drive.
    """
    own = bags_of_drives(place, drive, evaluated) if drive else {}
    if own:
        return next(iter(own.values()))
    return place if is_one_bag(place) else None


def _bare(name: str) -> str:
    """Return the name of a file without the suffixes of bags and videos."""
    while name.lower().endswith((*BAG_SUFFIXES, *VIDEO_SUFFIXES)):
        name = name.rpartition('.')[0]
    return name


def _called(folder: Path, drive: str | None) -> list[Path]:
    """Return what a folder has of a drive, or of any: files and folders that are called so.

    They are called as the drive is, or as an evaluation calls what it writes of it.
    """
    if not folder.is_dir() or (folder / _METADATA).is_file():
        return []
    entries = sorted(folder.iterdir())
    wanted = None if drive is None else safe_name(drive)
    return [e for e in entries if wanted is None or safe_name(_bare(e.name)) == wanted]
