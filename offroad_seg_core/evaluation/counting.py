"""What is counted of one frame: a row of the table, and what adds up to the scores of all."""

from __future__ import annotations

from typing import Any

import numpy as np

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.evaluation.predictors import Prediction
from offroad_seg_core.evaluation.sources.frame import Frame
from offroad_seg_core.metrics.arithmetic import share
from offroad_seg_core.metrics.class_scores import micro_iou
from offroad_seg_core.metrics.counting import count_values
from offroad_seg_core.metrics.meter import MeterConfig, Tally
from offroad_seg_core.metrics.segmentation import false_safe_rate
from offroad_seg_core.taxonomy import IGNORE_INDEX, UNKNOWN_COST, Taxonomy

Row = dict[str, Any]
SHARE, IOU = 'share_', 'iou_'
"""Prefixes of the columns that there is one of for each class."""
_DIGITS = 6


def empty_row(frame: Frame, problem: str = '') -> Row:
    """Return the row of a frame that was not labelled."""
    return {
        'camera': frame.camera,
        'environment': frame.environment,
        'name': frame.name,
        'stamp_ns': frame.stamp_ns,
        'time_ns': frame.time_ns,
        'problem': problem,
    }


class FrameCounter:
    """Counts frames; callable from several threads.

    Args:
        taxonomy: Of the labels.
        cost_table: ``(256,)`` uint8, class id -> cost.
        config: What is counted where there is truth.
    """

    def __init__(self, taxonomy: Taxonomy, cost_table: np.ndarray, config: MeterConfig) -> None:
        self._taxonomy, self._costs, self._config = taxonomy, cost_table, config

    def __call__(
        self, frame: Frame, image: CameraImage, prediction: Prediction, target: np.ndarray | None
    ) -> tuple[Row, Tally | None]:
        """Return a frame's row and, where there is truth, its counts.

        Args:
            frame: Where it is from.
            image: Its pixels.
            prediction: Its labels.
            target: Its truth, ``(H, W)`` uint8 of the same size.

        Raises:
            ValueError: Sizes differ, or an id is no class.
        """
        row = empty_row(frame)
        row['height'], row['width'] = image.size
        row |= self._shares(prediction)
        timings = prediction.timings
        if timings is not None:
            row |= {
                'preprocess_ms': round(timings.preprocess_ms, 3),
                'engine_ms': round(timings.engine_ms, 3),
                'decode_ms': round(timings.decode_ms, 3),
            }
        if target is None:
            return row, None
        tally = self._tally(prediction, target)
        return row | self._scores(tally), tally

    def _shares(self, prediction: Prediction) -> Row:
        label_map, confidence = prediction.label_map, prediction.confidence
        counts = count_values(label_map)
        total = label_map.size
        labelled = total - int(counts[IGNORE_INDEX])
        pixels_of_cost = np.bincount(self._costs, counts, minlength=256)
        costly_from = self._config.costly_from
        row: Row = {
            'mean_confidence': None,
            'unlabeled_share': number_or_none(share(int(counts[IGNORE_INDEX]), total)),
            'free_share': number_or_none(pixels_of_cost[:costly_from].sum() / total),
            'costly_share': number_or_none(pixels_of_cost[costly_from:UNKNOWN_COST].sum() / total),
        }
        if confidence is not None:
            # Unlabeled pixels have confidence 0 and claim nothing.
            scale = 255 if confidence.dtype == np.uint8 else 1
            known = confidence if labelled == total else confidence[label_map != IGNORE_INDEX]
            mean = float(known.mean(dtype=np.float64)) / scale if labelled else float('nan')
            row['mean_confidence'] = number_or_none(mean)
        shares = counts[: self._taxonomy.num_classes] / total
        named = zip(self._taxonomy.names, shares, strict=True)
        return row | {f'{SHARE}{name}': number_or_none(value) for name, value in named}

    def _tally(self, prediction: Prediction, target: np.ndarray) -> Tally:
        tally = Tally(self._taxonomy.num_classes, self._config)
        tally.matrix.update(prediction.label_map, target)
        if prediction.confidence is not None:
            tally.calibration.update(prediction.confidence, prediction.label_map, target)
        if tally.boundary is not None:
            tally.boundary.update(prediction.label_map, target)
        return tally

    def _scores(self, tally: Tally) -> Row:
        matrix = tally.matrix
        rate = false_safe_rate(matrix, self._costs, self._config.costly_from)
        named = zip(self._taxonomy.names, matrix.iou(), strict=True)
        return {
            'miou_present': number_or_none(matrix.miou_present),
            'miou': number_or_none(matrix.miou),
            'micro_iou': number_or_none(micro_iou(matrix)),
            'pixel_accuracy': number_or_none(matrix.pixel_accuracy),
            'false_safe_rate': number_or_none(rate),
            **{f'{IOU}{name}': number_or_none(value) for name, value in named},
        }


def number_or_none(value: float) -> float | None:
    """Return a number as the table holds it; None for one that is undefined."""
    return None if np.isnan(value) else round(float(value), _DIGITS)
