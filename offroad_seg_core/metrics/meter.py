"""Everything that is measured of a segmenter: frame by frame, by environment, together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.metrics.arithmetic import by_name, plain
from offroad_seg_core.metrics.boundary import BoundaryConfig, BoundaryCounts
from offroad_seg_core.metrics.calibration import DEFAULT_NUM_BINS, CalibrationCounts
from offroad_seg_core.metrics.confusion_matrix import MEAN_RULES, ConfusionMatrix
from offroad_seg_core.metrics.counting import (
    MOST_CLASSES_WITH_LEVELS,
    count_pairs,
    count_pairs_with_levels,
    require_label_maps,
)
from offroad_seg_core.metrics.images import ImageScores
from offroad_seg_core.metrics.segmentation import DEFAULT_COSTLY_FROM, segmentation_scores
from offroad_seg_core.taxonomy import Taxonomy


@dataclass(frozen=True, config=STRICT)
class MeterConfig:
    """What is measured beside the confusion matrix.

    Attributes:
        boundary: How edges are compared; null leaves the boundary scores out, which take longest.
        num_bins: Of the reliability diagram.
        costly_from: See false_safe_rate.
    """

    boundary: BoundaryConfig | None = BoundaryConfig()
    num_bins: int = DEFAULT_NUM_BINS
    costly_from: int = DEFAULT_COSTLY_FROM


class Tally:
    """All counts of one environment.

    Attributes:
        matrix: Confusion matrix of all frames.
        images: Scores of each frame.
        calibration: Counts of the frames that came with confidences.
        boundary: Counts of the edges; None when they are not measured.
    """

    def __init__(self, num_classes: int, config: MeterConfig) -> None:
        self.matrix = ConfusionMatrix(num_classes)
        self.images = ImageScores()
        self.calibration = CalibrationCounts(num_classes)
        boundary = config.boundary
        self.boundary = None if boundary is None else BoundaryCounts(num_classes, boundary)

    def update(
        self, label_map: np.ndarray, target: np.ndarray, confidence: np.ndarray | None
    ) -> np.ndarray:
        """Count one frame; the scores of images are left as they are.

        Args:
            label_map: See SegmentationMeter.update.
            target: See SegmentationMeter.update.
            confidence: See SegmentationMeter.update.

        Returns:
            How often each id was predicted, (256,) int64.

        Raises:
            ValueError: Sizes, types or ids that do not belong together. A part of the frame may
                then have been counted: throw the tally away.
        """
        require_label_maps(label_map, target)
        predicted = self._update_at_once(label_map, target, confidence)
        if predicted is None:
            joint = count_pairs(target, label_map)
            self.matrix.add_pairs(joint)
            if confidence is not None:
                self.calibration.update(confidence, label_map, target)
            predicted = joint.sum(axis=0)
        if self.boundary is not None:
            self.boundary.update(label_map, target)
        return predicted

    def _update_at_once(
        self, label_map: np.ndarray, target: np.ndarray, confidence: np.ndarray | None
    ) -> np.ndarray | None:
        """Count matrix and calibration in one pass, twice as fast; None if that is impossible."""
        num_classes = self.matrix.num_classes
        if (
            confidence is None
            or confidence.dtype != np.uint8
            or confidence.shape != target.shape
            or num_classes > MOST_CLASSES_WITH_LEVELS
        ):
            return None
        joint = count_pairs_with_levels(target, label_map, confidence, num_classes)
        pairs = joint.sum(axis=2)
        if pairs.sum() != target.size:  # an unknown id, which the other way names
            return None
        self.matrix.counts += np.roll(pairs[1:], -1, axis=1)  # unlabeled comes last there
        self.calibration.add_pairs(joint[1:, 1:])
        predicted = np.zeros(256, np.int64)
        predicted[np.arange(num_classes + 1) - 1] = pairs.sum(axis=0)  # -1 is IGNORE_INDEX
        return predicted

    def add(self, other: Tally) -> None:
        """Add the counts of another set, of the same MeterConfig, to these."""
        self.matrix = self.matrix.merge(other.matrix)
        self.images.images.extend(other.images.images)
        self.calibration = self.calibration.merge(other.calibration)
        if self.boundary is not None and other.boundary is not None:
            self.boundary = self.boundary.merge(other.boundary)


class SegmentationMeter:
    """Measure a segmenter on any number of frames; parts measured elsewhere can be merged.

    Args:
        taxonomy: Of the label maps.
        config: What is measured.
        cost_table: (256,) uint8 of Taxonomy.cost_table; None takes the taxonomy's own costs.

    Raises:
        ValueError: Costs, a threshold or a number of bins or classes that cannot be.

    Attributes:
        tallies: Environment -> its counts, in the order of the first frame of each.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        config: MeterConfig | None = None,
        cost_table: np.ndarray | None = None,
    ) -> None:
        self.taxonomy = taxonomy
        self.config = config or MeterConfig()
        self.cost_table = taxonomy.cost_table() if cost_table is None else cost_table
        self.tallies: dict[str, Tally] = {}
        self.scores_of(self._new_tally())  # what cannot be scored fails now, not after an hour

    def update(
        self,
        label_map: np.ndarray,
        target: np.ndarray,
        confidence: np.ndarray | None = None,
        environment: str = '',
        frame: str = '',
    ) -> None:
        """Add one frame; when it is refused, nothing of it is counted.

        Args:
            label_map: Predicted class ids or IGNORE_INDEX (unlabeled), (H, W) uint8.
            target: True class ids or IGNORE_INDEX (void), (H, W) uint8.
            confidence: Of the predicted class, (H, W) uint8 0 to 255 or float 0 to 1; None when
                the segmenter gives none.
            environment: Where the frame was taken.
            frame: Its name, which the scores of single images keep.

        Raises:
            ValueError: Sizes, types or ids that do not belong together.
        """
        counts = self._new_tally()
        counts.update(label_map, target, confidence)
        counts.images.update(counts.matrix, frame)
        self._tally(environment).add(counts)

    def merge(self, other: SegmentationMeter) -> SegmentationMeter:
        """Return the meter of both sets of frames, as of two processes.

        Raises:
            ValueError: They measure different things.
        """
        if (
            self.taxonomy.sha256() != other.taxonomy.sha256()
            or self.config != other.config
            or not np.array_equal(self.cost_table, other.cost_table)
        ):
            got = f'{self.taxonomy.name}, {self.config} and {other.taxonomy.name}, {other.config}'
            expected = 'equal taxonomies, configs and costs'
            raise ValueError(f'merge: got {got}; expected {expected}; measure one set anew')
        merged = SegmentationMeter(self.taxonomy, self.config, self.cost_table)
        for meter in (self, other):
            for environment, tally in meter.tallies.items():
                merged._tally(environment).add(tally)
        return merged

    @property
    def total(self) -> Tally:
        """The counts of all environments together."""
        total = self._new_tally()
        for tally in self.tallies.values():
            total.add(tally)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Return every score as plain values for JSON, None in place of nan.

        Keys: ``taxonomy_sha256``; ``mean_rules`` (see MEAN_RULES); ``together``; and
        ``environments``, name -> the same entries as ``together``. These are ``scores``, see
        SegmentationScores; ``images``, its ``frames`` from the worst to the best;
        ``calibration``; and ``boundary``, absent when not measured.
        """
        return {
            'taxonomy_sha256': self.taxonomy.sha256(),
            'mean_rules': dict(MEAN_RULES),
            'together': self.scores_of(self.total),
            'environments': {
                name: self.scores_of(tally) for name, tally in sorted(self.tallies.items())
            },
        }

    def scores_of(self, tally: Tally) -> dict[str, Any]:
        """Return the scores of one environment's counts, as in ``to_dict``."""
        scores = segmentation_scores(
            tally.matrix, self.taxonomy, self.cost_table, self.config.costly_from
        )
        entries: dict[str, Any] = {
            'scores': scores.to_dict(),
            'images': _image_scores(tally.images),
            'calibration': self._calibration(tally.calibration),
        }
        if tally.boundary is not None:
            entries['boundary'] = self._boundary(tally.boundary)
        return plain(entries)

    def _new_tally(self) -> Tally:
        return Tally(self.taxonomy.num_classes, self.config)

    def _tally(self, environment: str) -> Tally:
        if environment not in self.tallies:
            self.tallies[environment] = self._new_tally()
        return self.tallies[environment]

    def _calibration(self, counts: CalibrationCounts) -> Mapping[str, Any]:
        scores = counts.scores(self.config.num_bins)
        classes = counts.class_scores(self.config.num_bins)
        return {
            'ece': scores.ece,
            'mce': scores.mce,
            'bin_pixels': scores.bin_pixels.tolist(),
            'bin_accuracy': scores.bin_accuracy.tolist(),
            'bin_confidence': scores.bin_confidence.tolist(),
            'class_ece': by_name(self.taxonomy.names, np.array([entry.ece for entry in classes])),
        }

    def _boundary(self, counts: BoundaryCounts) -> Mapping[str, Any]:
        scores, names = counts.scores(), self.taxonomy.names
        return {
            'band_width': counts.config.band_width,
            'tolerance': counts.config.tolerance,
            'image_edge_is_boundary': counts.config.image_edge_is_boundary,
            'mean_iou': scores.mean_iou,
            'mean_f1': scores.mean_f1,
            'iou': by_name(names, scores.iou),
            'f1': by_name(names, scores.f1),
            'precision': by_name(names, scores.precision),
            'recall': by_name(names, scores.recall),
        }


def _image_scores(scores: ImageScores) -> Mapping[str, Any]:
    return {
        'num_images': len(scores.images),
        'num_scored': scores.num_scored,
        'mean_micro_iou': scores.mean_micro_iou,
        'mean_miou_present': scores.mean_miou_present,
        'frames': [
            {
                'frame': image.frame,
                'micro_iou': image.micro_iou,
                'miou_present': image.miou_present,
            }
            for image in scores.ranked()
        ],
    }
