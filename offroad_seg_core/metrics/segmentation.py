"""What a confusion matrix says about a segmenter: accuracy, overlap, and danger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
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
    """

    num_pixels: int
    pixel_accuracy: float
    miou: float
    miou_present: float
    iou: dict[str, float]
    false_safe_rate: float
    false_alarm_rate: float
    costly_from: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, None in place of nan (which JSON does not have)."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(entry) for key, entry in value.items()}
            return None if isinstance(value, float) and np.isnan(value) else value

        return plain(asdict(self))


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
    iou = (float(value) for value in matrix.iou())
    return SegmentationScores(
        num_pixels=matrix.num_pixels,
        pixel_accuracy=matrix.pixel_accuracy,
        miou=matrix.miou,
        miou_present=matrix.miou_present,
        iou=dict(zip(taxonomy.names, iou, strict=True)),
        false_safe_rate=false_safe_rate(matrix, costs, costly_from),
        false_alarm_rate=false_alarm_rate(matrix, costs, costly_from),
        costly_from=costly_from,
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
    total = int(matrix.true_pixels[rows].sum())
    hits = int(matrix.counts[rows, :-1][:, columns].sum())
    return hits / total if total else float('nan')
