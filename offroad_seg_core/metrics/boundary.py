"""How well the edges between classes are drawn: boundary IoU and boundary F1.

Distances are the larger of rows and columns apart (chessboard), as in the 3x3 erosions of the
reference implementation of boundary IoU; they are given as shares of the image's diagonal. An
edge lies between two classes, or a class and unlabeled pixels of the prediction. Void pixels of
the truth are cut out of both label maps and make no edge; nor does the image's own edge, unless
asked for. All scores come from sums over the whole set, never from means of images.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import cv2
import numpy as np
from pydantic.dataclasses import dataclass as config_dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.metrics.arithmetic import divide, mean_of
from offroad_seg_core.metrics.counting import (
    count_values,
    refuse_unknown_labels,
    require_label_maps,
)
from offroad_seg_core.taxonomy import IGNORE_INDEX

MAX_CLASSES = 254
_UNLABELED = 254  # in predictions while they are measured: differs from every class and from void


@config_dataclass(frozen=True, config=STRICT)
class BoundaryConfig:
    """How far apart edges may be.

    Attributes:
        band_width: Width of the band along the edges that boundary IoU compares, as a share of
            the image's diagonal. 0.02 is that of Cheng et al. for COCO; for large pictures such
            as Cityscapes they take 0.005.
        tolerance: How far apart two edges match in boundary F1, as a share of the diagonal;
            0.0075 is that of Csurka et al., "What is a good evaluation measure for semantic
            segmentation?", BMVC 2013.
        image_edge_is_boundary: Count a class's edge along the border of the image, as Cheng et
            al. do. Everyone draws that edge right, so the scores become higher.
    """

    band_width: float = 0.02
    tolerance: float = 0.0075
    image_edge_is_boundary: bool = False

    def __post_init__(self) -> None:
        """Check the shares."""
        for name in ('band_width', 'tolerance'):
            value = getattr(self, name)
            if not 0 < value <= 1:
                expected = 'a share of the diagonal, above 0 to 1'
                raise ValueError(f'{name}: got {value}; expected {expected}; divide the pixels')


@dataclass(frozen=True)
class BoundaryScores:
    """Scores of each class, (num_classes,) float64, and means; nan where there is nothing.

    Attributes:
        iou: Boundary IoU, Cheng et al., CVPR 2021: IoU of the bands along a class's edges, each
            inside its own mask.
        precision: Share of predicted edge pixels near a true edge of the same class.
        recall: Share of true edge pixels near a predicted edge of the same class.
        f1: Harmonic mean of the two; 0 where a class has edges on one side alone.
        mean_iou: Over the classes with an edge in the truth.
        mean_f1: Over the classes with an edge in the truth.
    """

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    mean_iou: float
    mean_f1: float


class BoundaryCounts:
    """Edge pixels of each class, summed over any number of images.

    Attributes:
        config: Distances; counts of different ones do not mix.
        counts: (7, num_classes) int64: band pixels of the truth, of the prediction, of both;
            edge pixels of the truth, of the prediction; those of the truth that match, those of
            the prediction that match.
    """

    def __init__(self, num_classes: int, config: BoundaryConfig | None = None) -> None:
        if not 1 <= num_classes <= MAX_CLASSES:
            fix = 'two ids are kept for void and unlabeled pixels'
            raise ValueError(f'num_classes: got {num_classes}; expected 1 to {MAX_CLASSES}; {fix}')
        self.config = config or BoundaryConfig()
        self.counts = np.zeros((7, num_classes), np.int64)

    def update(self, label_map: np.ndarray, target: np.ndarray) -> None:
        """Add one image.

        Args:
            label_map: Predicted class ids or IGNORE_INDEX (unlabeled), (H, W) uint8.
            target: True class ids or IGNORE_INDEX (void), (H, W) uint8.

        Raises:
            ValueError: Not two (H, W) uint8 arrays of one size, or an id is neither a class nor
                IGNORE_INDEX.
        """
        require_label_maps(label_map, target)
        if target.ndim != 2:
            fix = 'give one image at a time'
            raise ValueError(f'target: got {target.shape}; expected (H, W); {fix}')
        refuse_unknown_labels(label_map, target, self.counts.shape[1])
        if not target.size:  # OpenCV takes nothing for an error
            return
        diagonal = math.hypot(*target.shape)
        width, tolerance = (
            max(1, round(share * diagonal))
            for share in (self.config.band_width, self.config.tolerance)
        )
        target, label_map = np.ascontiguousarray(target), np.ascontiguousarray(label_map)
        table = np.arange(256, dtype=np.uint8)
        table[IGNORE_INDEX] = _UNLABELED
        void = cv2.inRange(target, IGNORE_INDEX, IGNORE_INDEX)
        pair = (target, cv2.bitwise_or(cv2.LUT(label_map, table), void))
        self.counts += np.stack([*self._bands(pair, width), *self._edges(pair, tolerance)])

    def merge(self, other: BoundaryCounts) -> BoundaryCounts:
        """Return the counts of both sets together.

        Raises:
            ValueError: The numbers of classes or the distances differ.
        """
        for name, ours, theirs in (
            ('num_classes', self.counts.shape[1], other.counts.shape[1]),
            ('config', self.config, other.config),
        ):
            if ours != theirs:
                got = f'{ours} and {theirs}'
                raise ValueError(f'{name}: got {got}; expected equal ones; count one set anew')
        merged = BoundaryCounts(self.counts.shape[1], self.config)
        merged.counts = self.counts + other.counts
        return merged

    def scores(self) -> BoundaryScores:
        """Return the scores of all images so far."""
        true, predicted, both, edges, predicted_edges, found, matched = self.counts
        iou = divide(both, true + predicted - both)
        precision, recall = divide(matched, predicted_edges), divide(found, edges)
        p, r = np.nan_to_num(precision), np.nan_to_num(recall)
        f1 = np.where(edges + predicted_edges > 0, 0.0, np.nan)
        np.divide(2 * p * r, p + r, out=f1, where=p + r > 0)
        present = edges > 0
        means = mean_of(iou, present), mean_of(f1, present)
        return BoundaryScores(iou, precision, recall, f1, *means)

    def _bands(self, pair: tuple[np.ndarray, np.ndarray], width: int) -> list[np.ndarray]:
        true, predicted = (self._band(labels, width) for labels in pair)
        both = true & predicted & cv2.compare(*pair, cv2.CMP_EQ)
        masks = ((pair[0], true), (pair[1], predicted), (pair[0], both))
        return [self._count(*entry) for entry in masks]

    def _edges(self, pair: tuple[np.ndarray, np.ndarray], tolerance: int) -> list[np.ndarray]:
        masks = [self._band(labels, 1) for labels in pair]
        totals = [self._count(*entry) for entry in zip(pair, masks, strict=True)]
        near = [np.zeros_like(labels) for labels in pair]  # not 0: a match lies within reach
        # A class without an edge on either side has no match. One bit a class: eight at once.
        shared = np.flatnonzero(totals[0] * totals[1])
        edges = [cv2.bitwise_or(labels, ~mask) for labels, mask in zip(pair, masks, strict=True)]
        for first in range(0, len(shared), 8):
            table = np.zeros(256, np.uint8)
            ids = shared[first : first + 8]
            table[ids] = 1 << np.arange(len(ids))
            bits = [cv2.LUT(labels, table) for labels in edges]
            for side in (0, 1):
                near[side] |= bits[side] & _spread(bits[1 - side], tolerance)
        return [*totals, *(self._count(*entry) for entry in zip(pair, near, strict=True))]

    def _band(self, labels: np.ndarray, width: int) -> np.ndarray:
        """Return where another class lies within ``width`` pixels, (H, W) uint8, 255 or 0.

        Void pixels (IGNORE_INDEX) of ``labels`` have any value.
        """
        window = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        # Another class is either higher or lower: two filters serve all classes at once. Void is
        # above all for the minimum and below all for the maximum, so neither sees it.
        without_void = cv2.bitwise_and(labels, cv2.inRange(labels, 0, IGNORE_INDEX - 1))
        edge = IGNORE_INDEX if self.config.image_edge_is_boundary else 0
        border = {'borderType': cv2.BORDER_CONSTANT, 'borderValue': edge}
        highest = cv2.dilate(without_void, window, **border)
        return cv2.compare(cv2.erode(labels, window), highest, cv2.CMP_NE)

    def _count(self, labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return count_values(labels, mask)[: self.counts.shape[1]]


def _spread(bits: np.ndarray, distance: int) -> np.ndarray:
    """Return the bits that are set within ``distance`` rows and columns, (H, W) uint8."""
    d = distance
    padded = cv2.copyMakeBorder(bits, d, d, d, d, cv2.BORDER_CONSTANT, value=0)
    return _any_of_next(_any_of_next(padded, 2 * distance + 1).T, 2 * distance + 1).T


def _any_of_next(bits: np.ndarray, span: int) -> np.ndarray:
    """Return for each row the union of it and the span - 1 rows below, (H - span + 1, W)."""
    num_rows, reach = len(bits) - span + 1, 1
    while 2 * reach <= span:  # bits[i] becomes the union of `reach` rows, twice as many each time
        bits = bits[:-reach] | bits[reach:]
        reach *= 2
    return bits[:num_rows] | bits[span - reach : span - reach + num_rows]
