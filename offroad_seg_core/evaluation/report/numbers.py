"""Every number of a report, as JSON holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
import math
from typing import Any

import numpy as np

from offroad_seg_core.evaluation.boundary_errors import BIN_NAMES
from offroad_seg_core.evaluation.class_scores import class_scores
from offroad_seg_core.evaluation.evaluated_run import EvaluatedRun
from offroad_seg_core.evaluation.frame_scores import FrameScores
from offroad_seg_core.evaluation.report.frames import NUM_BINS
from offroad_seg_core.evaluation.run_record import ClassLegend
from offroad_seg_core.metrics.class_scores import (
    frequency_weighted_iou,
    mean_accuracy,
    micro_iou,
)
from offroad_seg_core.metrics.confusion_matrix import MEAN_RULES, ConfusionMatrix, MeanRule
from offroad_seg_core.metrics.segmentation import false_alarm_rate, false_safe_rate

FORMAT_VERSION = 1
_MEANS: Mapping[str, MeanRule] = {
    'miou_present': 'present',
    'miou': 'occurring',
    'miou_all_absent_0': 'all_absent_0',
    'miou_all_absent_1': 'all_absent_1',
}
RULES = {name: MEAN_RULES[rule] for name, rule in _MEANS.items()}


def run_numbers(run: EvaluatedRun) -> dict[str, Any]:
    """Return every number of one run; what is undefined is null, what is missing is absent."""
    record, classes = run.record, run.classes
    numbers: dict[str, Any] = {
        'format_version': FORMAT_VERSION,
        'name': record.name,
        'source': run.source,
        'notes': list(run.notes),
        'rules': RULES,
        'steps': dict(record.steps),
        'validations': [
            {**asdict(row), 'iou': _by_class(row.iou, classes)} for row in record.validations
        ],
    }
    if run.matrix is not None:
        scores = asdict(class_scores(run.matrix))
        numbers |= {
            'scores': summary(run.matrix, classes),
            'classes': {key: _by_class(values, classes) for key, values in scores.items()},
            'environments': {
                name: {
                    'scores': summary(matrix, classes),
                    'iou': _by_class(matrix.iou(), classes),
                    'confusion_matrix': matrix.counts,
                }
                for name, matrix in run.matrices.items()
            },
            'confusion_matrix': run.matrix.counts,
        }
    if run.frames is not None:
        numbers |= _frame_numbers(run.frames, classes)
    plain: dict[str, Any] = to_json(numbers)
    return plain


def summary(matrix: ConfusionMatrix, classes: ClassLegend) -> dict[str, Any]:
    """Return the scores of a set as a whole; see RULES and the metrics of the same names."""
    rates = {'false_safe_rate': math.nan, 'false_alarm_rate': math.nan}
    if classes.costs is not None:
        rates['false_safe_rate'] = false_safe_rate(matrix, classes.costs)
        rates['false_alarm_rate'] = false_alarm_rate(matrix, classes.costs)
    return {
        'num_pixels': matrix.num_pixels,
        'pixel_accuracy': matrix.pixel_accuracy,
        **{name: matrix.mean_iou(rule) for name, rule in _MEANS.items()},
        'mean_accuracy': mean_accuracy(matrix),
        'micro_iou': micro_iou(matrix),
        'frequency_weighted_iou': frequency_weighted_iou(matrix),
        'num_classes_present': int(np.count_nonzero(matrix.true_pixels)),
        'num_classes': matrix.num_classes,
        **rates,
    }


def _frame_numbers(frames: FrameScores, classes: ClassLegend) -> dict[str, Any]:
    boundary = frames.boundary.scores()
    miou = np.array([frame.miou for frame in frames.frames])
    counts, edges = np.histogram(miou[np.isfinite(miou)], NUM_BINS, (0, 1))
    return {
        'frames': [asdict(frame) for frame in frames.frames],
        'best': [picture.score.name for picture in frames.best],
        'worst': [picture.score.name for picture in frames.worst],
        'frame_miou_histogram': {'edges': edges, 'frames': counts},
        'border_errors': {
            'distance_px': list(BIN_NAMES),
            'pixels': frames.border.pixels,
            'errors': frames.border.errors,
        },
        'boundary': {
            **asdict(frames.boundary.config),
            'mean_iou': boundary.mean_iou,
            'mean_f1': boundary.mean_f1,
            'iou': _by_class(boundary.iou, classes),
            'f1': _by_class(boundary.f1, classes),
        },
        'calibration': asdict(frames.calibration.scores()),
    }


def _by_class(values: np.ndarray, classes: ClassLegend) -> dict[str, Any]:
    return dict(zip(classes.names, values.tolist(), strict=True))


def to_json(value: Any) -> Any:
    """Replace arrays by lists, and numbers that JSON does not know by null."""
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
