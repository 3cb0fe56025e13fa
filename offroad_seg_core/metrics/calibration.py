"""Whether a confidence of 0.8 means that 8 pixels in 10 are right.

Expected and maximum calibration error and the reliability diagram after Guo et al., "On
calibration of modern neural networks", ICML 2017 (https://arxiv.org/abs/1706.04599). Confidences
are counted in 256 levels, as they are published: whole numbers, so that sums over frames and
machines are exact, and the bins are chosen when the scores are read. A float is rounded to the
nearest level, which moves an expected error by 1/510 at most unless a bin's edge lies between.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from offroad_seg_core.metrics.arithmetic import divide
from offroad_seg_core.metrics.counting import (
    count_speckled_pairs,
    refuse_unknown_labels,
    require_label_maps,
)
from offroad_seg_core.taxonomy import IGNORE_INDEX

DEFAULT_NUM_BINS = 15
_NUM_LEVELS = 256
# Two codes (wrong, right) a class and one for the rest must fit into a byte.
_CLASSES_AT_ONCE = 127
_NOWHERE = 255


@dataclass(frozen=True)
class CalibrationScores:
    """Calibration of one set of pixels; nan where there are none.

    Attributes:
        ece: Mean over pixels of |accuracy - confidence| of their bin.
        mce: The largest |accuracy - confidence| of a bin.
        bin_pixels: Pixels of each bin, (num_bins,) int64. Bin b of B has confidences above b / B
            up to (b + 1) / B; the first one 0 too.
        bin_accuracy: Share of them that are right, (num_bins,) float64.
        bin_confidence: Their mean confidence, (num_bins,) float64.
    """

    ece: float
    mce: float
    bin_pixels: np.ndarray
    bin_accuracy: np.ndarray
    bin_confidence: np.ndarray


class CalibrationCounts:
    """How often each confidence was right and wrong, summed over any number of images.

    Attributes:
        counts: (num_classes, 2, 256) int64: predicted class, wrong or right, level of confidence.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORE_INDEX:
            fix = f'{IGNORE_INDEX} is kept for void pixels'
            raise ValueError(f'num_classes: got {num_classes}; expected 1 to 255; {fix}')
        self.counts = np.zeros((num_classes, 2, _NUM_LEVELS), np.int64)

    def update(self, confidence: np.ndarray, label_map: np.ndarray, target: np.ndarray) -> None:
        """Add one image, or a batch.

        Args:
            confidence: Of the predicted class: uint8 0 to 255, or float 0 to 1; any shape.
            label_map: Predicted class ids, uint8, the same shape; unlabeled pixels (IGNORE_INDEX)
                claim nothing and count nowhere.
            target: True class ids, uint8, the same shape; IGNORE_INDEX pixels count nowhere.

        Raises:
            ValueError: Shapes or types differ, or a value is out of range.
        """
        require_label_maps(label_map, target)
        refuse_unknown_labels(label_map, target, len(self.counts))
        levels = _levels(confidence, target.shape)
        if not target.size:  # OpenCV takes nothing for an error
            return
        # OpenCV would take a third dimension for channels.
        label_map, target = (np.ascontiguousarray(a).reshape(1, -1) for a in (label_map, target))
        right = cv2.compare(label_map, target, cv2.CMP_EQ) & 1
        void = cv2.inRange(target, IGNORE_INDEX, IGNORE_INDEX)
        for first in range(0, len(self.counts), _CLASSES_AT_ONCE):
            part = self.counts[first : first + _CLASSES_AT_ONCE]
            codes = _doubled(label_map, first, len(self.counts)) | right | void
            part += count_speckled_pairs(codes, levels, 2 * len(part)).reshape(part.shape)

    def add_pairs(self, joint: np.ndarray) -> None:
        """Add what count_pairs_with_levels counted of targets, label maps and confidences.

        Args:
            joint: Pixels of each (true class, predicted class, level), void and unlabeled left
                out, (num_classes, num_classes, 256) int64.
        """
        right = np.diagonal(joint).T
        self.counts[:, 0] += joint.sum(axis=0) - right
        self.counts[:, 1] += right

    def merge(self, other: CalibrationCounts) -> CalibrationCounts:
        """Return the counts of both sets together."""
        if len(other.counts) != len(self.counts):
            got = f'{len(self.counts)} and {len(other.counts)} classes'
            raise ValueError(f'merge: got {got}; expected equal taxonomies; map the labels first')
        merged = CalibrationCounts(len(self.counts))
        merged.counts = self.counts + other.counts
        return merged

    def scores(self, num_bins: int = DEFAULT_NUM_BINS) -> CalibrationScores:
        """Return the scores of all predictions.

        Args:
            num_bins: 1 to 255; Guo et al. use 15.

        Raises:
            ValueError: The number is out of range.
        """
        return _scores(self.counts.sum(axis=0), num_bins)

    def class_scores(self, num_bins: int = DEFAULT_NUM_BINS) -> list[CalibrationScores]:
        """Return the scores of the pixels that were predicted as each class; see ``scores``."""
        return [_scores(counts, num_bins) for counts in self.counts]


def _doubled(label_map: np.ndarray, first: int, num_classes: int) -> np.ndarray:
    """Return 2 * (class - first); of classes beyond a part, and of 255, what is no code of it."""
    if num_classes <= _CLASSES_AT_ONCE:
        return label_map << 1  # 255 becomes 254, and five times as fast as a table
    table = np.full(256, _NOWHERE, np.uint8)
    part = table[first : first + min(_CLASSES_AT_ONCE, num_classes - first)]
    part[:] = 2 * np.arange(len(part))
    return cv2.LUT(label_map, table)


def _levels(confidence: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the confidence as whole numbers from 0 to 255, uint8, in the order of its pixels."""
    is_float = np.issubdtype(confidence.dtype, np.floating)
    if confidence.shape != shape or not (is_float or confidence.dtype == np.uint8):
        got = f'{confidence.shape} {confidence.dtype}'
        expected = f'{shape} uint8 or float'
        raise ValueError(f'confidence: got {got}; expected {expected}; convert or resize it')
    if not is_float:
        return confidence
    if confidence.dtype.itemsize == 2:  # OpenCV has no half precision here
        confidence = confidence.astype(np.float32)
    lowest, highest = confidence.min(initial=0), confidence.max(initial=0)
    # A softmax in single precision may be above 1 by some roundings; nan fails both.
    if not (lowest >= 0 and highest <= 1.0001):
        got = f'{lowest} to {highest}'
        raise ValueError(
            f'confidence: got {got}; expected 0 to 1, or uint8; divide by its maximum'
        )
    return cv2.convertScaleAbs(
        np.ascontiguousarray(confidence).reshape(1, -1), alpha=_NUM_LEVELS - 1
    )


def _scores(counts: np.ndarray, num_bins: int) -> CalibrationScores:
    """Return the scores of ``counts``, (2, 256)."""
    if not 1 <= num_bins < _NUM_LEVELS:
        fix = 'there are 256 levels of confidence'
        raise ValueError(f'num_bins: got {num_bins}; expected 1 to 255; {fix}')
    level = np.arange(_NUM_LEVELS)
    # ceil(level / 255 * num_bins) - 1 in whole numbers: no edge moves by a rounding.
    bins = np.maximum((level * num_bins + _NUM_LEVELS - 2) // (_NUM_LEVELS - 1) - 1, 0)
    pixels, right, level_sum = (np.zeros(num_bins, np.int64) for _ in range(3))
    total = counts.sum(axis=0)
    for sums, values in ((pixels, total), (right, counts[1]), (level_sum, total * level)):
        np.add.at(sums, bins, values)
    accuracy, confidence = divide(right, pixels), divide(level_sum, pixels * (_NUM_LEVELS - 1))
    if not pixels.any():
        return CalibrationScores(np.nan, np.nan, pixels, accuracy, confidence)
    gap = np.nan_to_num(np.abs(accuracy - confidence))
    ece = float(gap @ pixels / pixels.sum())
    return CalibrationScores(ece, float(gap.max()), pixels, accuracy, confidence)
