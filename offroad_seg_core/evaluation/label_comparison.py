"""Hold two sets of label maps of one drive against each other, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offroad_seg_core.bags.definitions import header_stamp_ns
from offroad_seg_core.bags.label_images import decode_labels
from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.evaluation.inputs import is_bag
from offroad_seg_core.evaluation.outputs import label_bag, labels
from offroad_seg_core.evaluation.recorded_labels import output_topics
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.evaluation.sources.pictures import stamp_in_name
from offroad_seg_core.taxonomy import load_taxonomy

# How far out of the order of stamps a set may be.
_REACH_NS = 2_000_000_000
_BEGINNING, _END = -(2**63), 2**63
# The widest taxonomy there is: only stored numbers are compared, whatever they mean.
_ANY_IDS = MaskReader(load_taxonomy('goose64'), 'class_ids', unknown='ignore')


class Key(NamedTuple):
    """Which frame a label map is of."""

    camera: str
    stamp_ns: int


@dataclass
class Comparison:
    """What two sets of labels have in common.

    Attributes:
        num_identical: Frames whose labels are equal in every pixel.
        different: Frame -> share of its pixels that differ; 1 for another size.
        only_first: Frames that only the first set has.
        only_second: Frames that only the second set has.
    """

    num_identical: int = 0
    different: dict[Key, float] = field(default_factory=dict)
    only_first: list[Key] = field(default_factory=list)
    only_second: list[Key] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether there are frames in both sets, all of them identical."""
        return self.num_identical > 0 and not self.different

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
    streams = (_read(Path(first)), _read(Path(second)))
    only = (found.only_first, found.only_second)
    waiting: tuple[dict[Key, np.ndarray], dict[Key, np.ndarray]] = ({}, {})
    reached = [_BEGINNING, _BEGINNING]
    while min(reached) < _END:
        # The side that is behind goes on, so that what waits for its partner is little.
        side = int(reached[1] < reached[0])
        entry = next(streams[side], None)
        if entry is None:
            reached[side] = _END
        else:
            key, label_map = entry
            reached[side] = key.stamp_ns
            other = waiting[1 - side].pop(key, None)
            if other is not None:
                _add(found, key, label_map, other)
            else:
                waiting[side][key] = label_map
        for known, missing, limit in zip(waiting, only, reached[::-1], strict=True):
            for key in [key for key in known if key.stamp_ns < limit - _REACH_NS]:
                del known[key]
                missing.append(key)
    for known, missing in zip(waiting, only, strict=True):
        missing += known
        missing.sort()
    return found


def _add(found: Comparison, key: Key, one: np.ndarray, other: np.ndarray) -> None:
    share = 1.0 if one.shape != other.shape else float(np.mean(one != other))
    if share:
        found.different[key] = share
    else:
        found.num_identical += 1


def _read(path: Path) -> Iterator[tuple[Key, np.ndarray]]:
    if not path.exists():
        raise SourceError(f'{path}: not there; fix: give a result, a bag or a folder of labels')
    for name in (label_bag.FOLDER, labels.FOLDER):
        if (path / name).is_dir():
            path = path / name
            break
    return _from_bag(path) if is_bag(path) else _from_files(path)


def _from_bag(path: Path) -> Iterator[tuple[Key, np.ndarray]]:
    with open_bag(path) as bag:
        types = {entry.topic: entry.msgtype for entry in bag.connections}
        cameras = {topic: camera for camera, topic in output_topics(types, 'mask').items()}
        if not cameras:
            held = ', '.join(sorted(types)) or 'nothing'
            raise SourceError(f'{path}: got no topic .../segmentation/mask; it holds {held}')
        wanted = [entry for entry in bag.connections if entry.topic in cameras]
        for entry, _, data in bag.messages(wanted):
            key = Key(cameras[entry.topic], header_stamp_ns(data))
            yield key, decode_labels(entry.msgtype, data)


def _from_files(path: Path) -> Iterator[tuple[Key, np.ndarray]]:
    read: Callable[[Path], np.ndarray] = _ANY_IDS.read_stored
    keys = {
        Key(file.parent.name, stamp_ns): file
        for file in sorted(path.rglob('*.png'))
        if (stamp_ns := stamp_in_name(file.stem)) is not None
    }
    if not keys:
        raise SourceError(f'{path}: got no <camera>/<stamp>.png, expected label maps')
    # In the order of stamps, as a recording is.
    for key in sorted(keys, key=lambda entry: (entry.stamp_ns, entry.camera)):
        yield key, read(keys[key])
