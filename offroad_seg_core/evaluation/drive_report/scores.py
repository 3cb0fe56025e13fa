"""What the page shows of a result where there was truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from offroad_seg_core.evaluation.class_scores import class_scores
from offroad_seg_core.evaluation.drive_report.plain import number, numbers
from offroad_seg_core.metrics.arithmetic import divide
from offroad_seg_core.metrics.calibration import CalibrationCounts
from offroad_seg_core.metrics.class_scores import group_matrix
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.metrics.segmentation import DEFAULT_COSTLY_FROM
from offroad_seg_core.taxonomy import UNKNOWN_COST, Taxonomy

_LEVEL_STEP = 5


def scored(summary: Mapping[str, Any], taxonomy: Taxonomy) -> dict[str, Any]:
    """Return what there is where there was truth."""
    matrix = ConfusionMatrix(taxonomy.num_classes)
    calibration = CalibrationCounts(taxonomy.num_classes)
    for entry in summary['counts'].values():
        matrix.counts += np.array(entry['confusion_matrix'], np.int64)
        calibration.counts += np.array(entry['calibration'], np.int64)
    together = summary['scores']['together']
    scores = asdict(class_scores(matrix))
    costs = np.array(summary['costs'])
    groups, grouped = group_matrix(matrix, taxonomy)
    return {
        'scores': {**together['scores'], 'ece': together['calibration']['ece']},
        'rules': summary['scores']['mean_rules'],
        'environments': {
            name: entry['scores'] for name, entry in summary['scores']['environments'].items()
        },
        'classScores': {
            **{name: numbers(values) for name, values in scores.items()},
            'false_safe': numbers(_false_safe(matrix, costs)),
        },
        'groups': [
            {
                'name': name,
                'iou': number(grouped.iou()[index]),
                'classes': [entry.name for entry in taxonomy.classes if entry.group == name],
                'truth_share': number(grouped.true_pixels[index] / max(1, grouped.num_pixels)),
            }
            for index, name in enumerate(groups)
        ],
        'confusion': matrix.counts.tolist(),
        'calibration': {
            name: together['calibration'][name]
            for name in ('bin_pixels', 'bin_accuracy', 'bin_confidence')
        },
        'operating': operating_points(matrix, calibration),
    }


def _false_safe(matrix: ConfusionMatrix, costs: np.ndarray) -> np.ndarray:
    """Return the share of each costly class's pixels that was called free; nan for others."""
    free = costs < DEFAULT_COSTLY_FROM
    called_free = matrix.counts[:, :-1][:, free].sum(axis=1)
    rates = divide(called_free, matrix.true_pixels)
    return np.where((costs >= DEFAULT_COSTLY_FROM) & (costs != UNKNOWN_COST), rates, np.nan)


def operating_points(
    matrix: ConfusionMatrix, calibration: CalibrationCounts
) -> dict[str, Any] | None:
    """Return precision and recall of each class for every threshold of confidence.

    Of the pixels that are left when what is less sure becomes unlabeled, as the node's
    ``confidence_threshold`` makes it. None if frames came without confidence: how much truth the
    others have is not known.
    """
    if calibration.counts.sum() != matrix.counts[:, :-1].sum():
        return None
    # Counts of the pixels at or above each level.
    above = calibration.counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., ::_LEVEL_STEP]
    wrong, right = above[:, 0], above[:, 1]
    true_pixels = np.broadcast_to(matrix.true_pixels[:, None], right.shape)
    return {
        'threshold': numbers(np.arange(0, 256, _LEVEL_STEP) / 255),
        'precision': [numbers(row) for row in divide(right, right + wrong)],
        'recall': [numbers(row) for row in divide(right, true_pixels)],
    }
