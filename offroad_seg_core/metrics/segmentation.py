"""What a confusion matrix says about a segmenter: accuracy, overlap, and danger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from offroad_seg_core.metrics import class_scores
from offroad_seg_core.metrics.arithmetic import by_name, plain, share
from offroad_seg_core.metrics.confusion_matrix import MEAN_RULES, ConfusionMatrix, MeanRule
from offroad_seg_core.taxonomy import LETHAL_COST, UNKNOWN_COST, Taxonomy

# The middle of the cost scale: in the shipped taxonomies everything that a careful driver goes
# around lies above it, everything that such a driver crosses lies below.
DEFAULT_COSTLY_FROM = 128


@dataclass(frozen=True)
class SegmentationScores:
    """Scores of one set of images; nan where a score is undefined.

    Attributes:
        num_pixels: Pixels with a true class.
        pixel_accuracy: Share of them predicted right.
        miou: See ConfusionMatrix.miou.
        miou_present: See ConfusionMatrix.miou_present.
        iou: Class name -> IoU.
        false_safe_rate: See false_safe_rate.
        false_alarm_rate: See false_alarm_rate.
        costly_from: The threshold of these two rates.
        miou_all_absent_0: Mean IoU by that rule, see MEAN_RULES.
        miou_all_absent_1: Mean IoU by that rule, see MEAN_RULES.
        num_classes: Classes of the taxonomy.
        num_present: Those that occur in the truth.
        mean_accuracy: See class_scores.mean_accuracy.
        micro_iou: See class_scores.micro_iou.
        frequency_weighted_iou: See class_scores.frequency_weighted_iou.
        dice: Class name -> Dice, also called F1.
        precision: Class name -> precision.
        recall: Class name -> recall.
        accuracy: Class name -> accuracy of the class against the rest.
        group_iou: Traversability group -> IoU of its classes merged.
        group_miou_present: Mean over the groups that occur in the truth.
    """

    num_pixels: int
    pixel_accuracy: float
    miou: float
    miou_present: float
    iou: dict[str, float]
    false_safe_rate: float
    false_alarm_rate: float
    costly_from: int
    miou_all_absent_0: float
    miou_all_absent_1: float
    num_classes: int
    num_present: int
    mean_accuracy: float
    micro_iou: float
    frequency_weighted_iou: float
    dice: dict[str, float]
    precision: dict[str, float]
    recall: dict[str, float]
    accuracy: dict[str, float]
    group_iou: dict[str, float]
    group_miou_present: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, None in place of nan (which JSON does not have)."""
        return plain(asdict(self))

    def mean_iou_lines(self) -> list[str]:
        """Return each mean IoU with the rule that it follows, for people, the headline first."""
        figures: dict[MeanRule, float] = {
            'present': self.miou_present,
            'occurring': self.miou,
            'all_absent_0': self.miou_all_absent_0,
            'all_absent_1': self.miou_all_absent_1,
        }
        number = {'present': self.num_present}
        number |= dict.fromkeys(('all_absent_0', 'all_absent_1'), self.num_classes)
        return [
            f'mIoU {figure:.4f} {MEAN_RULES[rule]}'
            + (f' ({number[rule]})' if rule in number else '')
            for rule, figure in figures.items()
        ]


def segmentation_scores(
    matrix: ConfusionMatrix,
    taxonomy: Taxonomy,
    cost_table: np.ndarray | None = None,
    costly_from: int = DEFAULT_COSTLY_FROM,
) -> SegmentationScores:
    """Return every score of a confusion matrix.

    Args:
        matrix: Counts in the classes of ``taxonomy``.
        taxonomy: Gives names and costs.
        cost_table: (256,) uint8 of Taxonomy.cost_table; None takes the taxonomy's own costs.
        costly_from: See false_safe_rate.

    Raises:
        ValueError: Matrix and taxonomy differ in size, or see false_safe_rate.
    """
    if matrix.num_classes != taxonomy.num_classes:
        got = f'{matrix.num_classes} classes'
        expected = f'{taxonomy.num_classes} of {taxonomy.name}'
        raise ValueError(f'matrix: got {got}; expected {expected}; use the matching taxonomy')
    costs = taxonomy.cost_table() if cost_table is None else cost_table
    names = taxonomy.names
    groups, grouped = class_scores.group_matrix(matrix, taxonomy)
    return SegmentationScores(
        num_pixels=matrix.num_pixels,
        pixel_accuracy=matrix.pixel_accuracy,
        miou=matrix.miou,
        miou_present=matrix.miou_present,
        iou=by_name(names, matrix.iou()),
        false_safe_rate=false_safe_rate(matrix, costs, costly_from),
        false_alarm_rate=false_alarm_rate(matrix, costs, costly_from),
        costly_from=costly_from,
        miou_all_absent_0=matrix.mean_iou('all_absent_0'),
        miou_all_absent_1=matrix.mean_iou('all_absent_1'),
        num_classes=matrix.num_classes,
        num_present=int(np.count_nonzero(matrix.true_pixels)),
        mean_accuracy=class_scores.mean_accuracy(matrix),
        micro_iou=class_scores.micro_iou(matrix),
        frequency_weighted_iou=class_scores.frequency_weighted_iou(matrix),
        dice=by_name(names, class_scores.dice(matrix)),
        precision=by_name(names, class_scores.precision(matrix)),
        recall=by_name(names, class_scores.recall(matrix)),
        accuracy=by_name(names, class_scores.accuracy(matrix)),
        group_iou=by_name(groups, grouped.iou()),
        group_miou_present=grouped.miou_present,
    )


def false_safe_rate(
    matrix: ConfusionMatrix, cost_table: np.ndarray, costly_from: int = DEFAULT_COSTLY_FROM
) -> float:
    """Return the share of costly pixels that were called free: the errors that break robots.

    With cost(c) from the table, a class is costly when ``costly_from <= cost <= 254`` and free
    when ``cost < costly_from``. Unknown (255) is neither: an obstacle called sky or unlabeled is
    a miss but invites nobody to drive there, and sky called ground is not counted.
    Rate = pixels with costly truth and free prediction / pixels with costly truth.

    Args:
        matrix: Counts of the set.
        cost_table: (256,) uint8, see Taxonomy.cost_table.
        costly_from: Lowest cost that is costly, 1 to 254.

    Returns:
        0 to 1; nan without a costly pixel.

    Raises:
        ValueError: A table of another shape or type, or a threshold out of range.
    """
    costly, free = _costly_and_free(matrix, cost_table, costly_from)
    return _share(matrix, rows=costly, columns=free)


def false_alarm_rate(
    matrix: ConfusionMatrix, cost_table: np.ndarray, costly_from: int = DEFAULT_COSTLY_FROM
) -> float:
    """Return the share of free pixels that were called costly; see false_safe_rate."""
    costly, free = _costly_and_free(matrix, cost_table, costly_from)
    return _share(matrix, rows=free, columns=costly)


def _costly_and_free(
    matrix: ConfusionMatrix, cost_table: np.ndarray, costly_from: int
) -> tuple[np.ndarray, np.ndarray]:
    if cost_table.shape != (256,) or cost_table.dtype != np.uint8:
        got = f'{cost_table.shape} {cost_table.dtype}'
        raise ValueError(f'cost_table: got {got}; expected (256,) uint8; use Taxonomy.cost_table')
    if not 1 <= costly_from <= LETHAL_COST:
        raise ValueError(f'costly_from: got {costly_from}; expected 1 to 254; change the number')
    costs = cost_table[: matrix.num_classes]
    return (costs >= costly_from) & (costs != UNKNOWN_COST), costs < costly_from


def _share(matrix: ConfusionMatrix, rows: np.ndarray, columns: np.ndarray) -> float:
    """Return the share of the pixels in ``rows`` that lie in ``columns``."""
    hits = matrix.counts[rows, :-1][:, columns].sum()
    return share(hits, matrix.true_pixels[rows].sum())
