"""Hold two sets of label maps of one drive against each other, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offroad_seg_core.bags.label_images import decode_labels
from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.evaluation.frame_table import CSV, read_table
from offroad_seg_core.evaluation.inputs import is_bag
from offroad_seg_core.evaluation.outputs import label_bag, labels
from offroad_seg_core.evaluation.outputs.sink import frame_path
from offroad_seg_core.evaluation.recorded_labels import output_topics
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.evaluation.sources.pictures import stamp_in_name
from offroad_seg_core.evaluation.stamped_labels import Key, StampedLabels
from offroad_seg_core.taxonomy import load_taxonomy

# The widest taxonomy there is: only stored numbers are compared, whatever they mean.
_ANY_IDS = MaskReader(load_taxonomy('goose64'), 'class_ids', unknown='ignore')


class _Labels(NamedTuple):
    """A set of label maps: whose they are, in the order in which they are best read."""

    frames: Mapping[Key, object]
    read: Callable[[Key], np.ndarray]


@dataclass
class Comparison:
    """What two sets of labels have in common.

    Attributes:
        num_identical: Frames whose labels are equal in every pixel.
        different: Frame -> share of its pixels that differ; 1 for another size.
        only_first: Frames that only the first set has.
        only_second: Frames that only the second set has.
        apart: Cameras that both sets have, without a frame that both have.
    """

    num_identical: int = 0
    different: dict[Key, float] = field(default_factory=dict)
    only_first: list[Key] = field(default_factory=list)
    only_second: list[Key] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether frames of every camera of both sets are in both, all of them identical."""
        return self.num_identical > 0 and not self.different and not self.apart

    def text(self) -> str:
        """Return the findings for a terminal."""
        both = self.num_identical + len(self.different)
        lines = [f'{both} frames are in both: {self.num_identical} identical']
        worst = sorted(self.different.items(), key=lambda item: -item[1])
        lines += [
            f'  {key.camera} {key.stamp_ns}: {100 * share:.4f} % of the pixels differ'
            for key, share in worst[:10]
        ]
        if len(worst) > 10:
            lines.append(f'  and {len(worst) - 10} others differ less')
        for name, keys in (('first', self.only_first), ('second', self.only_second)):
            if keys:
                lines.append(f'{len(keys)} frames are only in the {name}')
        lines += [f'{camera}: no frame is in both; are its stamps equal?' for camera in self.apart]
        return '\n'.join(lines)


def compare_labels(first: str | Path, second: str | Path) -> Comparison:
    """Compare label maps, matched by camera and stamp.

    Args:
        first: A result of ``evaluate`` with labels, a bag with topics `<camera>/segmentation/mask`
            such as a recording of the node, or a folder of `<camera>/<stamp>.png`.
        second: Likewise.

    Raises:
        ValueError: One of them holds no labels.
    """
    found = Comparison()
    with _open(Path(first)) as one, _open(Path(second)) as other:
        for key in one.frames:
            if key in other.frames:
                _add(found, key, one.read(key), other.read(key))
    found.only_first = sorted(one.frames.keys() - other.frames.keys())
    found.only_second = sorted(other.frames.keys() - one.frames.keys())
    both = [{key.camera for key in keys} for keys in (one.frames, other.frames)]
    compared = {key.camera for key in one.frames.keys() & other.frames.keys()}
    found.apart = sorted((both[0] & both[1]) - compared)
    return found


def _add(found: Comparison, key: Key, one: np.ndarray, other: np.ndarray) -> None:
    share = 1.0 if one.shape != other.shape else float(np.mean(one != other))
    if share:
        found.different[key] = share
    else:
        found.num_identical += 1


@contextmanager
def _open(path: Path) -> Iterator[_Labels]:
    if not path.exists():
        raise SourceError(f'{path}: not there; fix: give a result, a bag or a folder of labels')
    if (path / label_bag.FOLDER).is_dir():
        path = path / label_bag.FOLDER
    if not is_bag(path):
        files = _files(path)
        yield _Labels(files, lambda key: _ANY_IDS.read_stored(files[key]))
        return
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


def _files(path: Path) -> dict[Key, Path]:
    """Return the label files of a result, whose table says their stamps, or of a folder."""
    folder = path / labels.FOLDER
    if (path / CSV).is_file():
        table = read_table(path)
        columns = (table[name] for name in ('camera', 'name', 'stamp_ns'))
        listed = [
            (Key(camera, int(stamp_ns)), frame_path(folder, camera, name, '.png'))
            for camera, name, stamp_ns in zip(*columns, strict=True)
        ]
    else:
        home = folder if folder.is_dir() else path
        files = [(file, stamp_in_name(file.stem)) for file in sorted(home.rglob('*.png'))]
        listed = [
            (Key(file.parent.name, stamp), file) for file, stamp in files if stamp is not None
        ]
        listed.sort(key=lambda entry: (entry[0].stamp_ns, entry[0].camera))
    found: dict[Key, Path] = {}
    for key, file in listed:
        if file.is_file():
            found.setdefault(key, file)  # of a stamp that repeats, the first, as in bags
    if not found:
        raise SourceError(f'{path}: got no <camera>/<stamp>.png, expected label maps')
    return found
