"""The composite mIoU of the GOOSE 2D semantic segmentation challenge (2026).

composite = (fine mean IoU + coarse mean IoU) / 2, each from one confusion matrix of the whole
set. Fine: 56 of the 64 classes. Coarse: 11 categories, Void left out. Pixels whose truth is left
out count nowhere; a scored pixel that was predicted as a class that is left out is a miss of its
true class. The fine set is that of the winning team (HYOBINCHOI/goose-semseg-challenge,
evaluation.py); it and the coarse table are checked against officially reported scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from offroad_seg_core.label_mapping import LabelMapping
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.taxonomy import load_taxonomy

GOOSE64 = load_taxonomy('goose64')
COARSE_SET = 'categories12'
FINE_CLASSES = tuple(n for n in GOOSE64.names if n not in GOOSE64.unscored['classes'])
COARSE_CATEGORIES = tuple(
    name for name in GOOSE64.categories[COARSE_SET] if name not in GOOSE64.unscored[COARSE_SET]
)


@dataclass(frozen=True)
class GooseScores:
    """The challenge's scores; an IoU is nan where neither truth nor prediction has the class.

    Attributes:
        fine_iou: IoU of each of FINE_CLASSES.
        coarse_iou: IoU of each of COARSE_CATEGORIES.
    """

    fine_iou: Mapping[str, float]
    coarse_iou: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, given, expected in (
            ('fine_iou', self.fine_iou, FINE_CLASSES),
            ('coarse_iou', self.coarse_iou, COARSE_CATEGORIES),
        ):
            if set(given) != set(expected):
                wrong = ', '.join(sorted(set(given) ^ set(expected)))
                fix = 'give each scored class once and no other'
                raise ValueError(f'{name}: missing or not scored: {wrong}; {fix}')

    @property
    def fine(self) -> float:
        """Mean over the fine classes that occur in truth or prediction."""
        return _mean(self.fine_iou.values())

    @property
    def coarse(self) -> float:
        """Mean over the categories that occur in truth or prediction."""
        return _mean(self.coarse_iou.values())

    @property
    def composite(self) -> float:
        """Mean of ``fine`` and ``coarse``: the challenge's figure."""
        return (self.fine + self.coarse) / 2

    @classmethod
    def of(cls, matrix: ConfusionMatrix) -> GooseScores:
        """Score the confusion matrix of a whole set.

        Args:
            matrix: Counts of the 64 classes, id 0 included.

        Raises:
            ValueError: Another number of classes.
        """
        if matrix.num_classes != GOOSE64.num_classes:
            fix = 'score label maps of the taxonomy goose64'
            raise ValueError(f'matrix: got {matrix.num_classes} classes; expected 64; {fix}')
        fine_ids = [GOOSE64.index(name) for name in FINE_CLASSES]
        fine = _iou(matrix.counts, fine_ids)
        mapping = LabelMapping.to_categories(GOOSE64, COARSE_SET)
        coarse = _iou(_merge(matrix.counts, mapping), range(len(COARSE_CATEGORIES)))
        return cls(
            dict(zip(FINE_CLASSES, fine, strict=True)),
            dict(zip(COARSE_CATEGORIES, coarse, strict=True)),
        )


def _iou(counts: np.ndarray, scored: Iterable[int]) -> list[float]:
    """Return the IoU of each scored class; ``counts`` is (N, M >= N), see ConfusionMatrix."""
    scored = list(scored)
    rows = counts[scored]
    hits = counts[scored, scored].astype(np.float64)
    # Rows of classes that are left out are gone; their columns still count as misses.
    union = rows.sum(axis=1) + rows[:, scored].sum(axis=0) - hits
    return np.divide(hits, union, out=np.full(len(scored), np.nan), where=union > 0).tolist()


def _merge(counts: np.ndarray, mapping: LabelMapping) -> np.ndarray:
    """Sum classes up to categories; the last row and column hold what belongs to none of them."""
    num_categories = len(mapping.target_names)
    target = np.minimum(mapping.table[: len(mapping.source_names)], num_categories)
    columns = np.append(target, num_categories)
    merged = np.zeros((num_categories + 1, num_categories + 1), np.int64)
    np.add.at(merged, (target[:, None], columns[None]), counts)
    return merged


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float('nan')
