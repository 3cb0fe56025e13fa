"""What a confusion matrix says of each class, and averages over classes beyond the mean IoU.

TP, FP, FN and TN of a class are pixels with a true class; void pixels count nowhere. A pixel that
was left unlabeled is an FN of its true class and an FP of none. A score that is 0 / 0 is nan.
"""

from __future__ import annotations

import math

import numpy as np

from offroad_seg_core.metrics.arithmetic import divide, mean_of, share
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.taxonomy import GROUPS, Taxonomy


def dice(matrix: ConfusionMatrix) -> np.ndarray:
    """Return 2 TP / (2 TP + FP + FN) of each class, also called F1, (num_classes,) float64."""
    return divide(2 * np.diagonal(matrix.counts), matrix.true_pixels + matrix.predicted_pixels)


def precision(matrix: ConfusionMatrix) -> np.ndarray:
    """Return TP / (TP + FP) of each class, (num_classes,) float64."""
    return divide(np.diagonal(matrix.counts), matrix.predicted_pixels)


def recall(matrix: ConfusionMatrix) -> np.ndarray:
    """Return TP / (TP + FN) of each class, (num_classes,) float64.

    MMSegmentation prints it as the class's "Acc"; its mean is ``mean_accuracy``.
    """
    return divide(np.diagonal(matrix.counts), matrix.true_pixels)


def accuracy(matrix: ConfusionMatrix) -> np.ndarray:
    """Return (TP + TN) / all of each class against the rest, (num_classes,) float64.

    High for every rare class, even one that is never found: recall says that.
    """
    wrong = matrix.true_pixels + matrix.predicted_pixels - 2 * np.diagonal(matrix.counts)
    pixels = matrix.num_pixels
    return divide(pixels - wrong, np.full(matrix.num_classes, pixels))


def mean_accuracy(matrix: ConfusionMatrix) -> float:
    """Return the mean recall of the classes that occur in the truth: mAcc."""
    return mean_of(recall(matrix), matrix.true_pixels > 0)


def micro_iou(matrix: ConfusionMatrix) -> float:
    """Return the IoU of TP, FP and FN summed over the classes: "dataset IoU".

    A wrong pixel is an FP of one class and an FN of another: with R right pixels and W wrong
    ones that all got some class it is R / (R + 2 W).
    """
    hits = np.trace(matrix.counts)
    return share(hits, matrix.true_pixels.sum() + matrix.predicted_pixels.sum() - hits)


def frequency_weighted_iou(matrix: ConfusionMatrix) -> float:
    """Return the mean IoU of the true classes, each weighted by its share of true pixels."""
    if not matrix.num_pixels:
        return math.nan
    # A class without true pixels has weight 0, whether or not its IoU is defined.
    return float(np.nan_to_num(matrix.iou()) @ (matrix.true_pixels / matrix.num_pixels))


def group_matrix(
    matrix: ConfusionMatrix, taxonomy: Taxonomy
) -> tuple[tuple[str, ...], ConfusionMatrix]:
    """Merge the classes of each traversability group.

    Returns:
        The groups that have a class in the taxonomy, in the order of GROUPS, and their matrix.
    """
    groups = tuple(name for name in GROUPS if name in taxonomy.groups)
    ids = np.array([groups.index(name) for name in taxonomy.groups])
    return groups, matrix.merge_classes(ids, len(groups))
