"""Count the ids of label maps: exact, in whole numbers, and fast."""

from __future__ import annotations

import cv2
import numpy as np

from offroad_seg_core.taxonomy import IGNORE_INDEX

# OpenCV counts in 32-bit floats, exact up to 2^24; parts this small also stay in the cache.
_PART_PX = 1 << 19
# With more classes, bins that stay empty take the time that one pass saves.
MOST_CLASSES_WITH_LEVELS = 24


def require_label_maps(label_map: np.ndarray, target: np.ndarray) -> None:
    """Refuse a pair that is not of uint8 and one shape.

    Raises:
        ValueError: Naming the array, what it is and what was expected.
    """
    for name, array in (('label_map', label_map), ('target', target)):
        if array.dtype != np.uint8 or array.shape != target.shape:
            got = f'{array.shape} {array.dtype}'
            expected = f'{target.shape} uint8'
            raise ValueError(f'{name}: got {got}; expected {expected}; convert or resize it')


def refuse_unknown(name: str, pixels: np.ndarray, num_classes: int) -> None:
    """Refuse ids between num_classes and 254.

    Args:
        name: Of the array, for the error.
        pixels: How often each id occurs, (256,) int64.
        num_classes: Of the taxonomy.

    Raises:
        ValueError: Naming the ids and how many pixels have them.
    """
    unknown = pixels[num_classes:IGNORE_INDEX].nonzero()[0] + num_classes
    if unknown.size:
        got = ', '.join(f'{value} ({pixels[value]} px)' for value in unknown[:12])
        expected = f'0 to {num_classes - 1} or {IGNORE_INDEX}'
        fix = 'map the labels to this taxonomy first'
        raise ValueError(f'{name}: got ids {got}; expected {expected}; {fix}')


def refuse_unknown_labels(label_map: np.ndarray, target: np.ndarray, num_classes: int) -> None:
    """Refuse label maps with ids between num_classes and 254, see refuse_unknown."""
    if not target.size or num_classes == IGNORE_INDEX:
        return
    for name, labels in (('label_map', label_map), ('target', target)):
        flat = np.ascontiguousarray(labels).reshape(1, -1)
        unknown = cv2.inRange(flat, num_classes, IGNORE_INDEX - 1)
        if cv2.countNonZero(unknown):
            refuse_unknown(name, count_values(flat, unknown), num_classes)


def count_values(values: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return how often each value occurs where ``mask`` is not 0, (256,) int64.

    Args:
        values: uint8, any shape.
        mask: uint8, the same shape; None: everywhere.
    """
    flat = np.ascontiguousarray(values).reshape(1, -1)
    chosen = None if mask is None else np.ascontiguousarray(mask).reshape(1, -1)
    counts = np.zeros(256, np.float64)
    for left in range(0, flat.size, _PART_PX):
        part = slice(left, left + _PART_PX)
        where = None if chosen is None else chosen[:, part]
        counts += cv2.calcHist([flat[:, part]], [0], where, [256], [0, 256]).ravel()
    return counts.astype(np.int64)


def count_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how often each (first, second) pair of values occurs, (256, 256) int64.

    Args:
        first: uint8, any shape; the row of the result.
        second: uint8, the same shape; the column.
    """
    rows, columns = (np.ascontiguousarray(array).ravel() for array in (first, second))
    joint = np.zeros(1 << 16, np.float64)
    pairs, lengths = [np.zeros(0, np.uint16)], [np.zeros(0, np.int64)]
    for left in range(0, rows.size, _PART_PX):
        row, column = rows[left : left + _PART_PX], columns[left : left + _PART_PX]
        ends = _ends_of_runs(row, column)
        if ends.size * 8 < row.size:
            # Maps of regions: count runs of equal pairs, ten times as fast as pixel by pixel.
            pairs.append(row[ends].astype(np.uint16) << 8 | column[ends])
            lengths.append(np.diff(ends, prepend=-1))
        else:
            joint += _histogram(row, column, 256)
    joint += np.bincount(np.concatenate(pairs), np.concatenate(lengths), minlength=1 << 16)
    return joint.astype(np.int64).reshape(256, 256)


def count_speckled_pairs(first: np.ndarray, second: np.ndarray, num_first: int) -> np.ndarray:
    """Return how often each pair occurs, (num_first, 256) int64: faster than count_pairs on noise.

    Args:
        first: uint8, any shape; the row of the result. Pixels from num_first on are not counted.
        second: uint8, the same shape; the column.
        num_first: 1 to 256.
    """
    rows, columns = (np.ascontiguousarray(array).ravel() for array in (first, second))
    joint = np.zeros(num_first << 8, np.float64)
    for left in range(0, rows.size, _PART_PX):
        part = slice(left, left + _PART_PX)
        joint += _histogram(rows[part], columns[part], num_first)
    return joint.astype(np.int64).reshape(num_first, 256)


def count_pairs_with_levels(
    target: np.ndarray, label_map: np.ndarray, levels: np.ndarray, num_classes: int
) -> np.ndarray:
    """Return how often each (true id, predicted id, level) occurs, (N, N, 256) int64.

    N is num_classes + 1: of both ids, index 0 is IGNORE_INDEX and index c + 1 is class c. A pixel
    with an unknown id is not counted, so the counts then add up to less than there are pixels.

    Args:
        target: True ids, uint8, any shape.
        label_map: Predicted ids, uint8, the same shape.
        levels: Of confidence, uint8, the same shape.
        num_classes: 1 to MOST_CLASSES_WITH_LEVELS.
    """
    flat = [np.ascontiguousarray(array).reshape(1, -1) for array in (target, label_map, levels)]
    shape = (num_classes + 1, num_classes + 1, 256)
    ranges = [edge for size in shape for edge in (0, size)]
    joint = np.zeros(shape, np.int64)
    for left in range(0, target.size, _PART_PX):
        true, predicted, level = (array[:, left : left + _PART_PX] for array in flat)
        # Of bytes, 255 + 1 is 0: void comes beside the classes, and unknown ids fall out.
        arrays = [true + 1, predicted + 1, level]
        joint += cv2.calcHist(arrays, [0, 1, 2], None, shape, ranges).astype(np.int32)
    return joint


def _histogram(rows: np.ndarray, columns: np.ndarray, num_rows: int) -> np.ndarray:
    """Count pairs of (P,) uint8 each; OpenCV is more than twice as fast as np.bincount."""
    merged = cv2.merge([columns[None], rows[None]]).view(np.uint16)[..., 0]
    num_pairs = num_rows << 8
    return cv2.calcHist([merged], [0], None, [num_pairs], [0, num_pairs]).ravel()


def _ends_of_runs(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return where the last pixels of runs of equal pairs are; both are (P,) uint8, P > 0."""
    is_end = np.empty(rows.size, bool)
    np.not_equal(rows[1:], rows[:-1], out=is_end[:-1])
    is_end[:-1] |= columns[1:] != columns[:-1]
    is_end[-1] = True
    return np.flatnonzero(is_end)
