"""Scan data sets, add everything up, look for copies, and write the reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from offroad_seg_core.datasets import DatasetConfig
from offroad_seg_core.datasets.analysis.domain_gap import GroupStatistics
from offroad_seg_core.datasets.analysis.duplicates import ImageIndex, Pair
from offroad_seg_core.datasets.analysis.scan import Problem, ScanOptions, scan
from offroad_seg_core.datasets.analysis.statistics import DatasetStatistics, join_groups
from offroad_seg_core.datasets.frames import FrameSet, Split
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.taxonomy import Taxonomy

MAX_ENVIRONMENTS = 8
"""Most environments whose pairs are compared in the domain-gap report."""


@dataclass(frozen=True)
class Analysis:
    """What was found in one data set, and where it overlaps with another.

    Attributes:
        name: Of the data set.
        statistics: Its sums.
        against: Name and sums of the other data set, if there is one.
        duplicates: Files of equal content, in both.
        copies: Near-copies across splits, environments and data sets.
        num_unchecked: Pairs of similar hashes that were not looked at.
    """

    name: str
    statistics: DatasetStatistics
    against: tuple[str, DatasetStatistics] | None
    duplicates: list[list[Path]]
    copies: list[Pair]
    num_unchecked: int

    @property
    def problems(self) -> list[Problem]:
        """Everything to be looked at: broken files first, then copies."""
        found = list(self.statistics.problems)
        if self.against is not None:
            found += self.against[1].problems
        for paths in self.duplicates:
            files = ', '.join(map(str, paths))
            found.append(Problem('duplicate', f'{files}: the same content'))
        found += [Problem('leak' if pair.is_leak else 'alike', _say(pair)) for pair in self.copies]
        return found


def _say(pair: Pair) -> str:
    places = ' and '.join('/'.join(group) for group in pair.groups)
    if pair.first == pair.second:
        return f'{pair.first}: is in {places}'
    return f'{pair.first} and {pair.second}: look the same, {pair.distance} bits apart; {places}'


def load_splits(
    config: DatasetConfig, taxonomy: Taxonomy, wanted: Sequence[Split] = ()
) -> tuple[dict[str, FrameSet], list[str]]:
    """Return the frames of the wanted splits, or of all that the data set has.

    Args:
        config: Of the data set.
        taxonomy: Of the label maps.
        wanted: Names of splits; each must be there. None: those that are there.

    Returns:
        Split -> frames, and why a split is not there.

    Raises:
        DatasetError: A wanted split, or every split, cannot be listed.
    """
    splits, notes = {}, []
    for split in wanted or get_args(Split):
        try:
            splits[split] = config.frames(split, taxonomy)
        except DatasetError as error:
            if wanted:
                raise
            notes.append(f'Without the split {split}: {error}')
    if not splits:
        raise DatasetError('; '.join(notes))
    return splits, notes


def analyze(
    name: str,
    splits: Mapping[str, FrameSet],
    against: tuple[str, Mapping[str, FrameSet]] | None,
    options: ScanOptions,
    progress: Callable[[], object] = lambda: None,
) -> Analysis:
    """Scan a data set, and another to hold against it.

    Args:
        name: Of the data set.
        splits: Name -> frames; all of one taxonomy.
        against: Name and splits of the other, of the same taxonomy.
        options: See ScanOptions.
        progress: Called after each frame.

    Raises:
        DatasetError: The cache cannot be used.
    """
    index = ImageIndex()
    statistics = _add_up(splits, '', index, options, progress)
    other = None
    if against is not None:
        prefix = f'{against[0]}:'
        other = (against[0], _add_up(against[1], prefix, index, options, progress))
    copies, num_unchecked = index.near_copies()
    return Analysis(name, statistics, other, index.duplicates(), copies, num_unchecked)


def _add_up(
    splits: Mapping[str, FrameSet],
    prefix: str,
    index: ImageIndex,
    options: ScanOptions,
    progress: Callable[[], object],
) -> DatasetStatistics:
    statistics = DatasetStatistics(_taxonomy(splits))
    for split, frames in splits.items():
        for record in scan(frames, options, progress):
            statistics.add(record, split, frames.reader_of(record.position))
            if record.image is not None:
                index.add(record.files, prefix + split, record.image)
    return statistics


def _taxonomy(splits: Mapping[str, FrameSet]) -> Taxonomy:
    return next(iter(splits.values())).taxonomy


def environment_groups(statistics: DatasetStatistics) -> list[GroupStatistics]:
    """Return the largest environments for the domain-gap report, at most MAX_ENVIRONMENTS."""
    groups = statistics.groups.values()
    num_classes = statistics.taxonomy.num_classes
    joined = [
        join_groups(name, [group for group in groups if group.environment == name], num_classes)
        for name in statistics.environments
    ]
    return sorted(joined, key=lambda group: -group.num_frames)[:MAX_ENVIRONMENTS]


def dataset_groups(analysis: Analysis) -> list[GroupStatistics]:
    """Return the data set and the one it is held against, if any, as one group each."""
    sets = [(analysis.name, analysis.statistics)]
    if analysis.against is not None:
        sets.append(analysis.against)
    return [
        join_groups(name, statistics.groups.values(), statistics.taxonomy.num_classes)
        for name, statistics in sets
    ]
