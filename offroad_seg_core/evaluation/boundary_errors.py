"""How errors lie about the borders between classes."""

from __future__ import annotations

import cv2
import numpy as np

from offroad_seg_core.taxonomy import IGNORE_INDEX

# Upper limits of the distances, px. The first bin is the pixels that touch another class.
LIMITS_PX = (0, 1, 2, 4, 8, 16, 32, 64)
BIN_NAMES = ('0', '1', '2', '3–4', '5–8', '9–16', '17–32', '33–64', '> 64')


def border_distance(target: np.ndarray) -> np.ndarray:
    """Return how far each pixel is from the nearest pixel that touches another class.

    Two pixels touch if they share a side. An ignored pixel is of no class: it makes no border.

    Args:
        target: True class ids or 255, ``(H, W)`` uint8.

    Returns:
        ``(H, W)`` float32 in px, 0 on the border itself; inf if there is no border.
    """
    is_border = np.zeros(target.shape, bool)
    valid = target != IGNORE_INDEX
    for axis in (0, 1):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in (0, 1))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in (0, 1))
        differs = (target[low] != target[high]) & valid[low] & valid[high]
        is_border[low] |= differs
        is_border[high] |= differs
    if not is_border.any():
        return np.full(target.shape, np.inf, np.float32)
    away = (~is_border).view(np.uint8)
    return cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


class BoundaryErrors:
    """Pixels and errors by their distance to a class border, summed over any number of images.

    Attributes:
        pixels: Labelled pixels in each bin of BIN_NAMES, ``(K,)`` int64.
        errors: Those that were predicted wrongly.
    """

    def __init__(self) -> None:
        self.pixels = np.zeros(len(BIN_NAMES), np.int64)
        self.errors = np.zeros(len(BIN_NAMES), np.int64)

    def update(self, label_map: np.ndarray, target: np.ndarray) -> None:
        """Add one image.

        Args:
            label_map: Predicted class ids, ``(H, W)`` uint8.
            target: True class ids or 255, ``(H, W)`` uint8.
        """
        valid = target != IGNORE_INDEX
        bins = np.searchsorted(np.array(LIMITS_PX, np.float32), border_distance(target)[valid])
        wrong = (label_map != target)[valid]
        self.pixels += np.bincount(bins, minlength=len(BIN_NAMES))
        self.errors += np.bincount(bins[wrong], minlength=len(BIN_NAMES))

    def shares_within(self, limit_px: int) -> tuple[float, float]:
        """Return the shares of all pixels and of all errors that lie within a limit of LIMITS_PX.

        nan where there are no pixels, or no errors.
        """
        stop = LIMITS_PX.index(limit_px) + 1
        shares = (
            float(counts[:stop].sum() / counts.sum()) if counts.any() else float('nan')
            for counts in (self.pixels, self.errors)
        )
        pixels, errors = shares
        return pixels, errors
