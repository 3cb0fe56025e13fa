"""Compare groups of frames: their colours, their classes, and what their pictures look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from offroad_seg_core.datasets.analysis.two_sample import SetDistance, set_distance

if TYPE_CHECKING:
    from offroad_seg_core.datasets.frames import FrameFiles
    from offroad_seg_core.datasets.masks import MaskReader

ELSEWHERE = 'elsewhere'
"""Name of all other groups taken together."""

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, of gamma-coded values
_MIN_STD = 1e-9


class Sample(NamedTuple):
    """A frame, and what reads its labels."""

    files: FrameFiles
    reader: MaskReader


@dataclass(frozen=True)
class GroupStatistics:
    """What is known about one group of frames: an environment, a split, a dataset.

    Attributes:
        name: To be shown.
        num_frames: Frames in the group.
        class_pixels: Pixels of each class, ``(C,)`` int64; all 0 if nothing is labelled.
        class_frames: Frames that show each class, ``(C,)`` int64.
        mean_rgb: Mean over all pixels, ``(3,)``, 0 to 255; NaN without pictures.
        std_rgb: Standard deviation over all pixels, ``(3,)``.
        features: From ``describe_image``, ``(N, NUM_FEATURES)`` float32 in the order of
            recording; N may be smaller than ``num_frames``.
        examples: Frames to show.
    """

    name: str
    num_frames: int
    class_pixels: np.ndarray
    class_frames: np.ndarray
    mean_rgb: np.ndarray
    std_rgb: np.ndarray
    features: np.ndarray
    examples: tuple[Sample, ...] = ()

    @property
    def is_labelled(self) -> bool:
        """Whether any pixel has a class."""
        return bool(self.class_pixels.any())

    @property
    def has_pictures(self) -> bool:
        """Whether the colours are known."""
        return bool(np.isfinite(self.mean_rgb).all())

    @property
    def shares(self) -> np.ndarray:
        """Share of each class in the labelled pixels, ``(C,)``; 0 if nothing is labelled."""
        return self.class_pixels / max(1, int(self.class_pixels.sum()))

    @property
    def luminance(self) -> float:
        """Mean luma, 0 (black) to 255."""
        return float(self.mean_rgb @ _LUMA)


@dataclass(frozen=True)
class ColorShift:
    """How the colours of group a differ from those of group b.

    Attributes:
        shift_rgb: Mean of a minus mean of b, ``(3,)``.
        shift_in_std: The same in units of the pooled standard deviation (Cohen's d).
        contrast_ratio: Mean standard deviation of a by that of b.
        luminance_a: Mean luma of a, 0 to 255.
        luminance_b: Mean luma of b.
        tint: Share of red, green and blue in the mean colour of a, minus those of b, ``(3,)``.
    """

    shift_rgb: np.ndarray
    shift_in_std: np.ndarray
    contrast_ratio: float
    luminance_a: float
    luminance_b: float
    tint: np.ndarray

    @classmethod
    def of(cls, a: GroupStatistics, b: GroupStatistics) -> ColorShift:
        """Compare two groups."""
        shift = np.asarray(a.mean_rgb, np.float64) - b.mean_rgb
        pooled = np.sqrt((np.square(a.std_rgb) + np.square(b.std_rgb)) / 2)
        return cls(
            shift_rgb=shift,
            shift_in_std=shift / np.maximum(pooled, _MIN_STD),
            contrast_ratio=float(np.mean(a.std_rgb) / max(np.mean(b.std_rgb), _MIN_STD)),
            luminance_a=a.luminance,
            luminance_b=b.luminance,
            tint=_chromaticity(a.mean_rgb) - _chromaticity(b.mean_rgb),
        )


@dataclass(frozen=True)
class ClassShift:
    """How the class shares of group a differ from those of group b.

    Attributes:
        shares_a: Share of each class in the labelled pixels of a, ``(C,)``.
        shares_b: The same of b.
        frames_a: Share of the frames of a that show each class, ``(C,)``.
        frames_b: The same of b.
        log2_ratio: log2(shares_a / shares_b); infinite where one has none, NaN where both.
        total_variation: Half the sum of the absolute differences: 0 for equal shares, 1 for no
            common class.
        absent_a: Ids of the classes that b has and a has not.
        absent_b: Ids of the classes that a has and b has not.
    """

    shares_a: np.ndarray
    shares_b: np.ndarray
    frames_a: np.ndarray
    frames_b: np.ndarray
    log2_ratio: np.ndarray
    total_variation: float
    absent_a: tuple[int, ...]
    absent_b: tuple[int, ...]

    @classmethod
    def of(cls, a: GroupStatistics, b: GroupStatistics) -> ClassShift:
        """Compare two labelled groups."""
        shares_a, shares_b = a.shares, b.shares
        with np.errstate(divide='ignore', invalid='ignore'):
            log2_ratio = np.log2(shares_a) - np.log2(shares_b)
        has_a, has_b = a.class_pixels > 0, b.class_pixels > 0
        return cls(
            shares_a=shares_a,
            shares_b=shares_b,
            frames_a=a.class_frames / max(1, a.num_frames),
            frames_b=b.class_frames / max(1, b.num_frames),
            log2_ratio=log2_ratio,
            total_variation=float(np.abs(shares_a - shares_b).sum() / 2),
            absent_a=tuple(np.flatnonzero(~has_a & has_b).tolist()),
            absent_b=tuple(np.flatnonzero(has_a & ~has_b).tolist()),
        )


@dataclass(frozen=True)
class DomainGap:
    """What tells group ``a`` from group ``b``.

    Attributes:
        a: The group that is described.
        b: What it is held against.
        class_names: Of the class ids.
        color: Shift of the colours.
        classes: Shift of the classes; None if one group has no labels.
        distance: Of the pictures' looks; None if one group has too few frames.
    """

    a: GroupStatistics
    b: GroupStatistics
    class_names: tuple[str, ...]
    color: ColorShift
    classes: ClassShift | None
    distance: SetDistance | None


def compare(
    a: GroupStatistics, b: GroupStatistics, class_names: Sequence[str], seed: int = 0
) -> DomainGap:
    """Describe group a as seen from group b.

    Args:
        a: For instance the frames of the place where the robot will drive.
        b: For instance the training frames.
        class_names: Names of the classes, in the order of their ids.
        seed: Of the resampling behind the distance's interval and p-value.

    Raises:
        ValueError: The groups have counts for another number of classes.
    """
    for group in (a, b):
        if len(group.class_pixels) != len(class_names):
            raise ValueError(
                f'group {group.name!r}: got counts of {len(group.class_pixels)} classes; expected '
                f'{len(class_names)}; read all groups with one taxonomy'
            )
    return DomainGap(
        a=a,
        b=b,
        class_names=tuple(class_names),
        color=ColorShift.of(a, b),
        classes=ClassShift.of(a, b) if a.is_labelled and b.is_labelled else None,
        distance=set_distance(a.features, b.features, seed),
    )


@dataclass(frozen=True)
class GroupComparison:
    """Several groups compared.

    Attributes:
        groups: In the order given.
        gaps: Each group against all others together; of two groups, the second against the first.
        distances: Distance of every pair, by positions (i, j) with i < j; None: too few frames.
    """

    groups: tuple[GroupStatistics, ...]
    gaps: tuple[DomainGap, ...]
    distances: dict[tuple[int, int], SetDistance | None]


def compare_groups(
    groups: Sequence[GroupStatistics], class_names: Sequence[str], seed: int = 0
) -> GroupComparison:
    """Compare each group with the others.

    Args:
        groups: At least two, with different names.
        class_names: Names of the classes, in the order of their ids.
        seed: Of the resampling.

    Raises:
        ValueError: Fewer than two groups, a name given twice, or see ``compare``.
    """
    names = [group.name for group in groups]
    if len(groups) < 2 or len(set(names)) < len(names):
        raise ValueError(f'groups: got {names}; expected two or more with different names')
    if len(groups) == 2:
        gaps = [compare(groups[1], groups[0], class_names, seed)]
        return GroupComparison(tuple(groups), tuple(gaps), {(0, 1): _reversed(gaps[0].distance)})
    gaps = [
        compare(group, merge([other for other in groups if other is not group]), class_names, seed)
        for group in groups
    ]
    distances = {
        (i, j): set_distance(groups[i].features, groups[j].features, seed)
        for i, j in combinations(range(len(groups)), 2)
    }
    return GroupComparison(tuple(groups), tuple(gaps), distances)


def merge(groups: Sequence[GroupStatistics], name: str = ELSEWHERE) -> GroupStatistics:
    """Join groups; colours are weighted by the number of frames."""
    seen = [group for group in groups if group.has_pictures] or groups[:1]
    weights = np.array([max(1, group.num_frames) for group in seen], np.float64)
    weights /= weights.sum()
    means = np.array([group.mean_rgb for group in seen], np.float64)
    mean = weights @ means
    # The variance of a mixture: that within the groups and that of their means.
    squares = weights @ (np.square([group.std_rgb for group in seen]) + means**2)
    return GroupStatistics(
        name=name,
        num_frames=sum(group.num_frames for group in groups),
        class_pixels=np.sum([group.class_pixels for group in groups], axis=0),
        class_frames=np.sum([group.class_frames for group in groups], axis=0),
        mean_rgb=mean,
        std_rgb=np.sqrt(np.maximum(squares - mean**2, 0)),
        features=np.concatenate([group.features for group in groups]),
    )


def _chromaticity(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(rgb, np.float64) / max(float(np.sum(rgb)), _MIN_STD)


def _reversed(distance: SetDistance | None) -> SetDistance | None:
    if distance is None:
        return None
    return replace(
        distance,
        within_a=distance.within_b,
        within_b=distance.within_a,
        num_blocks=distance.num_blocks[::-1],
    )
