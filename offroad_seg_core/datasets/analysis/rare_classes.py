"""Show what the rarest classes look like: patches of frames around their pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from offroad_seg_core.datasets.analysis.domain_gap import Sample
from offroad_seg_core.datasets.analysis.statistics import DatasetStatistics
from offroad_seg_core.datasets.masks import DatasetError, read_image
from offroad_seg_core.visualization import contact_sheet

LEAST_PART_PX = 16
"""Smaller connected parts are speckle at the edges of labels, and not counted."""

_PATCH_HW = (180, 240)
_LEAST_HEIGHT_PX = 90
_MARGIN = 1.8
"""A patch is so many times as large as what it shows."""
_JPEG_QUALITY = 85
_CLOSING = np.ones((9, 9), np.uint8)


@dataclass(frozen=True)
class RareClass:
    """A class with few pixels.

    Attributes:
        id: Its id.
        sheet: Patches from different frames, with outlines, a JPEG file; None if none was read.
        num_frames: Frames whose labels were looked at for the next two.
        parts_per_frame: Mean number of connected parts in a frame that shows the class, of those
            with LEAST_PART_PX or more.
        median_part_px: Median area of these parts.
    """

    id: int
    sheet: bytes | None
    num_frames: int
    parts_per_frame: float
    median_part_px: float


def rarest_classes(
    statistics: DatasetStatistics, num_classes: int = 6, num_patches: int = 6
) -> list[RareClass]:
    """Look at the classes with the fewest pixels, the rarest first; absent ones are left out.

    Args:
        statistics: With the frames that show each class.
        num_classes: Most classes to look at.
        num_patches: Most patches of a class.
    """
    pixels = statistics.total.class_pixels
    present = [index for index in np.argsort(pixels, kind='stable') if pixels[index] > 0]
    found = []
    with ThreadPoolExecutor() as pool:
        for label in present[:num_classes]:
            samples = statistics.samples[label]
            areas = list(pool.map(partial(_part_areas, label), samples))
            tiles = pool.map(partial(_patch, label), samples[:num_patches])
            shown = [tile for tile in tiles if tile is not None]
            found.append(_rare_class(int(label), areas, shown))
    return found


def _rare_class(label: int, areas: list[np.ndarray], tiles: list[np.ndarray]) -> RareClass:
    counts = [len(parts) for parts in areas]
    return RareClass(
        id=label,
        sheet=_jpeg(contact_sheet(tiles, 6, tile_width=_PATCH_HW[1])) if tiles else None,
        num_frames=len(areas),
        parts_per_frame=float(np.mean(counts)) if counts else 0.0,
        median_part_px=float(np.median(np.concatenate(areas))) if sum(counts) else 0.0,
    )


def _part_areas(label: int, sample: Sample) -> np.ndarray:
    """Return the areas of the connected parts of a class that are no speckle, ``(K,)`` px."""
    try:
        parts = _parts_of(label, sample)[1]
    except DatasetError:  # the file has gone since the scan
        return np.empty(0)
    areas = parts[1:, cv2.CC_STAT_AREA]
    return areas[areas >= LEAST_PART_PX]


def _parts_of(label: int, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return the part number of each pixel, 0 for other classes, and OpenCV's statistics."""
    assert sample.files.label is not None  # samples are of labelled frames
    is_class = (sample.reader.read(sample.files.label) == label).view(np.uint8)
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(is_class, connectivity=8)
    return parts, statistics


def _patch(label: int, sample: Sample) -> np.ndarray | None:
    """Return a picture of the largest part of a class, outlined, ``_PATCH_HW``."""
    try:
        image = read_image(sample.files.image)
        parts, statistics = _parts_of(label, sample)
    except DatasetError:
        return None
    largest = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    rows, columns = _window(statistics[largest], image.shape[:2])
    scale = _PATCH_HW[0] / (rows.stop - rows.start)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    patch = cv2.resize(image[rows, columns], _PATCH_HW[::-1], interpolation=method)
    is_class = (parts[rows, columns] > 0).astype(np.uint8)
    is_class = cv2.resize(is_class, _PATCH_HW[::-1], interpolation=cv2.INTER_NEAREST)
    # Gaps between twigs and leaves are closed: an outline of each would hide the plant.
    is_class = cv2.morphologyEx(is_class, cv2.MORPH_CLOSE, _CLOSING)
    contours = cv2.findContours(is_class, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(patch, contours, -1, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.drawContours(patch, contours, -1, (255, 255, 0), 1, cv2.LINE_AA)
    return patch


def _window(box: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Return rows and columns around a part, in the patch's aspect, inside the image if it can."""
    aspect = _PATCH_HW[1] / _PATCH_HW[0]
    wanted = max(
        _LEAST_HEIGHT_PX,
        _MARGIN * box[cv2.CC_STAT_HEIGHT],
        _MARGIN * box[cv2.CC_STAT_WIDTH] / aspect,
    )
    height = min(wanted, size[0], size[1] / aspect)
    center_y = box[cv2.CC_STAT_TOP] + box[cv2.CC_STAT_HEIGHT] / 2
    center_x = box[cv2.CC_STAT_LEFT] + box[cv2.CC_STAT_WIDTH] / 2
    return _span(center_y, height, size[0]), _span(center_x, height * aspect, size[1])


def _span(center: float, length: float, limit: int) -> slice:
    length = max(1, min(round(length), limit))
    start = min(max(0, round(center - length / 2)), limit - length)
    return slice(start, start + length)


def _jpeg(image: np.ndarray) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
