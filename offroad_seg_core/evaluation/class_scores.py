"""Every score of each class that a report shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offroad_seg_core.metrics import class_scores as metrics
from offroad_seg_core.metrics.arithmetic import divide
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, ``(C,)`` float64, 0 to 1; nan where one is undefined.

    Attributes:
        iou: See ``ConfusionMatrix.iou``.
        precision: See ``metrics.class_scores``, as the next two.
        recall: TP / (TP + FN).
        dice: Also called F1.
        truth_share: Share of the labelled pixels.
        predicted_share: Share of the same pixels in the prediction.
    """

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    dice: np.ndarray
    truth_share: np.ndarray
    predicted_share: np.ndarray


def class_scores(matrix: ConfusionMatrix) -> ClassScores:
    """Return the scores of each class."""
    total = np.full(matrix.num_classes, matrix.num_pixels)
    return ClassScores(
        iou=matrix.iou(),
        precision=metrics.precision(matrix),
        recall=metrics.recall(matrix),
        dice=metrics.dice(matrix),
        truth_share=divide(matrix.true_pixels, total),
        predicted_share=divide(matrix.predicted_pixels, total),
    )
