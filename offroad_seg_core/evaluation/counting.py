"""What is counted of one frame: a row of the table, and what adds up to the scores of all."""

from __future__ import annotations

import math
from typing import Any

import cv2
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
        if target is None:
            tally, counts = None, count_values(prediction.label_map)
        else:
            tally = Tally(self._taxonomy.num_classes, self._config)
            counts = tally.update(prediction.label_map, target, prediction.confidence)
        row |= self._shares(prediction, counts)
        timings = prediction.timings
        if timings is not None:
            row |= {
                'preprocess_ms': round(timings.preprocess_ms, 3),
                'engine_ms': round(timings.engine_ms, 3),
                'decode_ms': round(timings.decode_ms, 3),
            }
        return row if tally is None else row | self._scores(tally), tally

    def _shares(self, prediction: Prediction, counts: np.ndarray) -> Row:
        total = prediction.label_map.size
        labelled = total - int(counts[IGNORE_INDEX])
        pixels_of_cost = np.bincount(self._costs, counts, minlength=256)
        costly_from = self._config.costly_from
        row: Row = {
            'mean_confidence': None,
            'unlabeled_share': number_or_none(share(int(counts[IGNORE_INDEX]), total)),
            'free_share': number_or_none(pixels_of_cost[:costly_from].sum() / total),
            'costly_share': number_or_none(pixels_of_cost[costly_from:UNKNOWN_COST].sum() / total),
        }
        if prediction.confidence is not None and labelled:
            row['mean_confidence'] = number_or_none(_mean_confidence(prediction, labelled))
        shares = (counts[: self._taxonomy.num_classes] / total).tolist()
        named = zip(self._taxonomy.names, shares, strict=True)
        return row | {f'{SHARE}{name}': number_or_none(value) for name, value in named}

    def _scores(self, tally: Tally) -> Row:
        matrix = tally.matrix
        rate = false_safe_rate(matrix, self._costs, self._config.costly_from)
        named = zip(self._taxonomy.names, matrix.iou().tolist(), strict=True)
        return {
            'miou_present': number_or_none(matrix.miou_present),
            'miou': number_or_none(matrix.miou),
            'micro_iou': number_or_none(micro_iou(matrix)),
            'pixel_accuracy': number_or_none(matrix.pixel_accuracy),
            'false_safe_rate': number_or_none(rate),
            **{f'{IOU}{name}': number_or_none(value) for name, value in named},
        }


def _mean_confidence(prediction: Prediction, num_labelled: int) -> float:
    """Return the mean over labelled pixels: unlabeled ones have confidence 0 and claim nothing."""
    label_map, confidence = prediction.label_map, prediction.confidence
    assert confidence is not None
    is_part = num_labelled < label_map.size
    if confidence.dtype != np.uint8:
        chosen = confidence[label_map != IGNORE_INDEX] if is_part else confidence
        return float(chosen.mean(dtype=np.float64))
    # OpenCV masks and adds bytes eight times as fast; the sum is exact.
    if is_part:
        confidence = confidence & cv2.inRange(label_map, 0, IGNORE_INDEX - 1)
    return cv2.sumElems(confidence)[0] / (255 * num_labelled)


def number_or_none(value: float) -> float | None:
    """Return a number as the table holds it; None for one that is undefined."""
    return None if math.isnan(value) else round(float(value), _DIGITS)
