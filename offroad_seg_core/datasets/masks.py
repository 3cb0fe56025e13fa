"""Read pictures and label files without losing a bit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from offroad_seg_core.label_mapping import encode_raw
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy


class DatasetError(ValueError):
    """A dataset folder or one of its files is not what its layout says."""


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as RGB, ``(H, W, 3)`` uint8.

    Raises:
        DatasetError: The file is missing or is not a picture.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f'{path}: {_why_unreadable(path)}')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def read_mask(path: str | Path) -> np.ndarray:
    """Read a label file with its values as stored, ``(H, W)`` uint8 or uint16.

    Raises:
        DatasetError: The file is missing, is not a picture, or has several channels.
    """
    # Without IMREAD_UNCHANGED OpenCV scales 16-bit files to 8 bits: raw id 7100 would become 27.
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise DatasetError(f'{path}: {_why_unreadable(path)}')
    if mask.ndim != 2:
        raise DatasetError(
            f'{path}: got {mask.shape[2]} channels, expected a single-channel picture of ids'
        )
    return mask


def read_label_map(path: str | Path, taxonomy: Taxonomy) -> np.ndarray:
    """Read a file of class ids, ``(H, W)`` uint8, and check every value.

    Raises:
        DatasetError: A value is neither a class id of the taxonomy nor 255.
    """
    label_map = read_mask(path)
    counts = np.bincount(label_map.ravel(), minlength=256)
    counts[IGNORE_INDEX] = 0
    unknown = np.flatnonzero(counts[taxonomy.num_classes :]) + taxonomy.num_classes
    if unknown.size:
        found = ', '.join(f'{value} ({counts[value]} px)' for value in unknown[:8])
        raise DatasetError(
            f'{path}: got class ids {found}, expected 0 to {taxonomy.num_classes - 1} of '
            f'{taxonomy.name} or 255; if these are raw ids, use the dataset kind that maps them'
        )
    return label_map.astype(np.uint8, copy=False)


def read_raw_label_map(path: str | Path, taxonomy: Taxonomy) -> np.ndarray:
    """Read a file of raw ids and map them to class ids, ``(H, W)`` uint8.

    Raises:
        TaxonomyError: A raw value has no meaning in the taxonomy; file, values and counts named.
    """
    return encode_raw(read_mask(path), taxonomy, str(path))


def _why_unreadable(path: str | Path) -> str:
    if not Path(path).is_file():
        return 'no such file'
    return f'not a picture that OpenCV reads ({Path(path).stat().st_size} bytes)'
