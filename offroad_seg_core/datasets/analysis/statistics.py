"""What a data set consists of, added up from the records of a scan.

Nothing here grows with the number of frames but the list of problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
import random

import numpy as np

from offroad_seg_core.datasets.analysis.domain_gap import GroupStatistics, Sample
from offroad_seg_core.datasets.analysis.features import NUM_FEATURES
from offroad_seg_core.datasets.analysis.scan import FrameRecord, Problem, format_value
from offroad_seg_core.datasets.analysis.tally import Tally
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy

_MAX_FEATURES = 8192
_NUM_EXAMPLES = 12
_NUM_SAMPLES = 48


@dataclass(eq=False)
class Group:
    """The frames of one environment in one split.

    Attributes:
        split: Name of the split.
        environment: Name of the environment.
        tally: Their sums.
        features: Of evenly spaced frames, in order; of all frames while these are few.
        examples: A few frames to show, evenly drawn.
    """

    split: str
    environment: str
    tally: Tally
    features: list[np.ndarray] = field(default_factory=list)
    examples: list[Sample] = field(default_factory=list)
    _step: int = 1

    def add(self, record: FrameRecord, reader: MaskReader, rng: random.Random) -> bool:
        """Count a frame; return whether its features are kept."""
        is_kept = record.image is not None and self.tally.num_frames % self._step == 0
        if record.image is not None and is_kept:
            self.features.append(record.image.features)
        if not record.problems:
            example = Sample(record.files, reader)
            draw(self.examples, example, self.tally.num_frames, _NUM_EXAMPLES, rng)
        self.tally.add(record)
        return is_kept

    def thin_out(self) -> int:
        """Drop the features of every second frame, also of coming ones; return how many."""
        before = len(self.features)
        self.features, self._step = self.features[::2], 2 * self._step
        return before - len(self.features)


def join_groups(name: str, groups: Iterable[Group], num_classes: int) -> GroupStatistics:
    """Put groups together for the domain-gap report."""
    groups = list(groups)
    tally = Tally(num_classes)
    for group in groups:
        tally += group.tally
    features = [row for group in groups for row in group.features]
    return GroupStatistics(
        name=name,
        num_frames=tally.num_frames,
        class_pixels=tally.class_pixels,
        class_frames=tally.class_frames,
        mean_rgb=tally.mean_rgb,
        std_rgb=tally.std_rgb,
        features=np.array(features, np.float32).reshape(-1, NUM_FEATURES),
        examples=_draw_evenly([group.examples for group in groups]),
    )


def _draw_evenly(parts: Sequence[Sequence[Sample]]) -> tuple[Sample, ...]:
    """Return a few samples, spread over the parts; those of one part stand in a row."""
    parts = parts[:: max(1, -(-len(parts) // _NUM_EXAMPLES))]
    places = [(turn, place) for place, part in enumerate(parts) for turn in range(len(part))]
    chosen = sorted((place, turn) for turn, place in sorted(places)[:_NUM_EXAMPLES])
    return tuple(parts[place][turn] for place, turn in chosen)


@dataclass
class UnknownValue:
    """A stored value without a meaning: how often it occurs, and where first."""

    pixels: int = 0
    frames: int = 0
    example: str = ''


class DatasetStatistics:
    """All sums of a data set.

    Args:
        taxonomy: Of the label maps.

    Attributes:
        groups: (split, environment) -> its frames.
        image_sizes: (height, width) -> number of pictures.
        unknown: Stored value, as written in taxonomies -> where it occurs.
        problems: Of all frames, in order.
        samples: For each class up to 48 frames that show it, evenly drawn.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.groups: dict[tuple[str, str], Group] = {}
        self.image_sizes: Counter[tuple[int, int]] = Counter()
        self.unknown: dict[str, UnknownValue] = {}
        self.problems: list[Problem] = []
        self.samples: list[list[Sample]] = [[] for _ in taxonomy.names]
        self._seen = [0] * taxonomy.num_classes
        self._num_features = 0
        self._rng = random.Random(0)

    def add(self, record: FrameRecord, split: str, reader: MaskReader) -> None:
        """Count a frame of a split, whose labels ``reader`` reads."""
        key = (split, record.files.environment)
        if key not in self.groups:
            self.groups[key] = Group(*key, Tally(self.taxonomy.num_classes))
        self._num_features += self.groups[key].add(record, reader, self._rng)
        if self._num_features > _MAX_FEATURES:
            largest = max(self.groups.values(), key=lambda group: len(group.features))
            self._num_features -= largest.thin_out()
        self.problems += record.problems
        if record.image is not None:
            self.image_sizes[record.image.size] += 1
        if record.label is not None and record.labels is not None:
            if record.labels.size and record.labels.min() < 0:
                self._add_unknown(record, reader)
            if not record.problems:
                self._add_samples(record, reader)

    def _add_unknown(self, record: FrameRecord, reader: MaskReader) -> None:
        assert record.label is not None
        assert record.labels is not None
        for place in np.flatnonzero(record.labels < 0):
            name = format_value(int(record.label.values[place]), reader)
            entry = self.unknown.setdefault(name, UnknownValue(example=str(record.files.label)))
            entry.pixels += int(record.label.counts[place])
            entry.frames += 1

    def _add_samples(self, record: FrameRecord, reader: MaskReader) -> None:
        assert record.labels is not None
        for label in set(record.labels.tolist()) - {-1, IGNORE_INDEX}:
            item = Sample(record.files, reader)
            draw(self.samples[label], item, self._seen[label], _NUM_SAMPLES, self._rng)
            self._seen[label] += 1

    @property
    def total(self) -> Tally:
        """The sums over all frames."""
        return self.sum_of(self.groups.values())

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in order."""
        return tuple(dict.fromkeys(split for split, _ in self.groups))

    @property
    def environments(self) -> tuple[str, ...]:
        """Names of the environments, in alphabetical order."""
        return tuple(sorted({environment for _, environment in self.groups}))

    def sum_of(self, groups: Iterable[Group]) -> Tally:
        """Return the sums over some groups."""
        tally = Tally(self.taxonomy.num_classes)
        for group in groups:
            tally += group.tally
        return tally


def draw(kept: list, item: object, num_seen: int, size: int, rng: random.Random) -> None:
    """Keep ``size`` items of a stream, each with equal chance (Vitter 1985, algorithm R).

    Args:
        kept: What is kept so far; changed in place.
        item: The next of the stream.
        num_seen: Number of items before it.
        size: Most items to keep.
        rng: Decides.
    """
    if len(kept) < size:
        kept.append(item)
    elif (place := int(rng.random() * (num_seen + 1))) < size:
        kept[place] = item
