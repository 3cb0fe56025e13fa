"""Hold two sets of label maps of the same drives against each other, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offroad_seg_core.bags.label_images import decode_labels
from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.evaluation.drive_places import bags_of_drives, is_one_bag, labels_below
from offroad_seg_core.evaluation.frame_table import CSV, read_table
from offroad_seg_core.evaluation.outputs.sink import LABEL_BAG, LABEL_FILES, frame_path, safe_name
from offroad_seg_core.evaluation.recorded_labels import output_topics
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.evaluation.sources.pictures import stamp_in_name
from offroad_seg_core.evaluation.stamped_labels import Key, StampedLabels
from offroad_seg_core.evaluation.summary import read_summary
from offroad_seg_core.taxonomy import load_taxonomy

Size = tuple[int, ...]

# The widest taxonomy there is: only stored numbers are compared, whatever they mean.
_ANY_IDS = MaskReader(load_taxonomy('goose64'), 'class_ids', unknown='ignore')


class _Labels(NamedTuple):
    """Label maps of one drive: whose they are, in the order in which they are best read."""

    frames: Mapping[Key, object]
    read: Callable[[Key], np.ndarray]


_Opened = AbstractContextManager[_Labels]


@dataclass
class Comparison:
    """What two sets of labels have in common.

    Attributes:
        num_identical: Frames whose labels are equal in every pixel.
        different: Frame -> share of its pixels that differ; 1 for another size.
        sizes: Of those, frame -> (height, width) in both sets where these differ.
        only_first: Frames that only the first set has.
        only_second: Frames that only the second set has.
        apart: Cameras that both sets have, without a frame that both have.
        drives_first: Drives that only the first set has; empty: one that has no name.
        drives_second: Likewise.
    """

    num_identical: int = 0
    different: dict[Key, float] = field(default_factory=dict)
    sizes: dict[Key, tuple[Size, Size]] = field(default_factory=dict)
    only_first: list[Key] = field(default_factory=list)
    only_second: list[Key] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    drives_first: list[str] = field(default_factory=list)
    drives_second: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether frames of every camera of both sets are in both, all of them identical."""
        return self.num_identical > 0 and not self.different and not self.apart

    def text(self) -> str:
        """Return the findings for a terminal."""
        both = self.num_identical + len(self.different)
        lines = [f'{both} frames are in both: {self.num_identical} identical']
        worst = sorted(self.different.items(), key=lambda item: -item[1])
        for key, share in worst[:10]:
            told = f'{100 * share:.4f} % of the pixels differ'
            if key in self.sizes:
                told = 'got labels of {} and {} (height, width)'.format(*self.sizes[key])
            lines.append(f'  {key.camera} {key.stamp_ns}: {told}')
        if len(worst) > 10:
            lines.append(f'  and {len(worst) - 10} others differ no more')
        if self.sizes:
            expected = 'expected equal ones; fix: record with output_size: camera'
            lines.append(f'{len(self.sizes)} frames differ in size; {expected}')
        for name, keys, drives in (
            ('first', self.only_first, self.drives_first),
            ('second', self.only_second, self.drives_second),
        ):
            if keys:
                lines.append(f'{len(keys)} frames are only in the {name}')
            if drives:
                told = ', '.join(drive or 'one without a name' for drive in drives)
                lines.append(f'drives only in the {name}: {told}')
        lines += [f'{camera}: no frame is in both; are its stamps equal?' for camera in self.apart]
        return '\n'.join(lines)


def compare_labels(first: str | Path, second: str | Path) -> Comparison:
    """Compare label maps, matched by drive, camera and stamp.

    Where each set is of one drive, these are compared whatever they are called.

    Args:
        first: A result of ``evaluate`` with labels, a bag with topics `<camera>/segmentation/mask`
            such as a recording of the node, or a folder of `<camera>/<stamp>.png`. Of several
            drives, a folder of such bags, or of `<drive>/<camera>/<stamp>.png`.
        second: Likewise.

    Raises:
        ValueError: One of them holds no labels.
    """
    ones, others = _drives(Path(first)), _drives(Path(second))
    if len(ones) == len(others) == 1:
        ones, others = ({'': opened} for sets in (ones, others) for opened in sets.values())
    found = Comparison(
        drives_first=sorted(ones.keys() - others.keys()),
        drives_second=sorted(others.keys() - ones.keys()),
    )
    nothing = partial(_open_files, {})
    for drive in {**ones, **others}:
        with ones.get(drive, nothing)() as one, others.get(drive, nothing)() as other:
            _compare(found, drive, one, other)
    return found


def _compare(found: Comparison, drive: str, one: _Labels, other: _Labels) -> None:
    """Add what two sets of labels of one drive have in common; the drive's name may be empty."""

    def named(key: Key) -> Key:
        return Key(f'{drive}/{key.camera}', key.stamp_ns) if drive else key

    for key in one.frames:
        if key in other.frames:
            _add(found, named(key), one.read(key), other.read(key))
    in_one, in_other = ({named(key) for key in entry.frames} for entry in (one, other))
    found.only_first += sorted(in_one - in_other)
    found.only_second += sorted(in_other - in_one)
    cameras = [{key.camera for key in keys} for keys in (in_one, in_other, in_one & in_other)]
    found.apart += sorted((cameras[0] & cameras[1]) - cameras[2])


def _add(found: Comparison, key: Key, one: np.ndarray, other: np.ndarray) -> None:
    if one.shape != other.shape:
        found.sizes[key], share = (one.shape, other.shape), 1.0
    else:
        share = float(np.mean(one != other))
    if share:
        found.different[key] = share
    else:
        found.num_identical += 1


def _drives(path: Path) -> dict[str, Callable[[], _Opened]]:
    """Return how the labels of each drive are opened; where there is one, it has no name."""
    if not path.exists():
        raise SourceError(f'{path}: not there; fix: give a result, a bag or a folder of labels')
    home = labels_below(path, LABEL_BAG)
    if not (home / CSV).is_file():
        if is_one_bag(home):
            return {'': partial(_open_bag, home)}
        bags = bags_of_drives(home)
        if bags:
            return {drive: partial(_open_bag, place) for drive, place in bags.items()}
    files = _of_result(path) if (path / CSV).is_file() else _of_folder(path)
    if not files:
        raise SourceError(f'{path}: got no <camera>/<stamp>.png, expected label maps')
    return {drive: partial(_open_files, found) for drive, found in files.items()}


@contextmanager
def _open_files(files: Mapping[Key, Path]) -> Iterator[_Labels]:
    yield _Labels(files, lambda key: _ANY_IDS.read_stored(files[key]))


@contextmanager
def _open_bag(path: Path) -> Iterator[_Labels]:
    with open_bag(path) as bag:
        types = {entry.topic: entry.msgtype for entry in bag.connections}
        topics = output_topics(types, 'mask')
        if not topics:
            held = ', '.join(sorted(types)) or 'nothing'
            raise SourceError(f'{path}: got no topic .../segmentation/mask; it holds {held}')
        stored = StampedLabels(bag, topics)

        def read(key: Key) -> np.ndarray:
            message = stored.read(key)
            if message is None:
                raise SourceError(f'{path}: got no labels of {key} any more; is it being written?')
            return decode_labels(*message)

        yield _Labels(stored.times_ns, read)


def _of_result(path: Path) -> dict[str, dict[Key, Path]]:
    """Return drive -> frame -> label file of a result, whose table says the stamps."""
    table, has_several = read_table(path), 'kinds' in read_summary(path)['source']
    found: dict[str, dict[Key, Path]] = {}
    columns = (table[name] for name in ('camera', 'name', 'stamp_ns'))
    for camera, name, stamp_ns in zip(*columns, strict=True):
        file = frame_path(path / LABEL_FILES, camera, name, '.png')
        drive, _, own = camera.partition('/') if has_several else ('', '', camera)
        if file.is_file():
            of_drive = found.setdefault(safe_name(drive) if drive else '', {})
            # Of a stamp that repeats, the first, as in bags.
            of_drive.setdefault(Key(own, int(stamp_ns)), file)
    return found


def _of_folder(path: Path) -> dict[str, dict[Key, Path]]:
    """Return drive -> frame -> label file of a folder, whose files have their stamps as names."""
    home = labels_below(path, LABEL_FILES)
    files = [(stamp_in_name(file.stem), file) for file in home.rglob('*.png')]
    found: dict[str, dict[Key, Path]] = {}
    for stamp_ns, file in sorted((stamp, file) for stamp, file in files if stamp is not None):
        drive = '/'.join(map(safe_name, file.relative_to(home).parts[:-2]))
        found.setdefault(drive, {}).setdefault(Key(file.parent.name, stamp_ns), file)
    return found
