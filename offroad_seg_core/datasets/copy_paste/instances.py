"""Single objects in label maps: find them, judge them, cut them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as config_dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.lookup import lookup
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy

# How far below its outline an object's ground is looked for: the row right beneath it is often a
# mixture in the picture and a matter of taste in the labels.
_BENEATH_PX = (1, 2)
_AROUND_PX = 24


@config_dataclass(frozen=True, config=STRICT)
class InstanceRules:
    """Which objects are worth pasting.

    Attributes:
        min_area_px: Smaller ones are crumbs of a segmentation.
        max_area_share: Larger ones, against the whole picture, hide the frame they are pasted on.
        min_solidity: Area against the convex hull's; low for what is seen through something else.
        min_compactness: Share of the area in the largest piece once threads thinner than 3 pixels
            are cut; low for what is seen through grass.
        min_texture: Standard deviation of an object's brightness, in levels of 255; low for specks
            in the haze of a far slope, which show nothing of their class.
        keep_truncated: Whether to keep objects that the rim of the picture cuts off.
        padding_px: Rim around each cut-out for its soft edge.
    """

    min_area_px: int = Field(default=200, ge=1)
    max_area_share: float = Field(default=0.1, gt=0, le=1)
    min_solidity: float = Field(default=0.6, ge=0, le=1)
    min_compactness: float = Field(default=0.6, ge=0, le=1)
    min_texture: float = Field(default=4.0, ge=0)
    keep_truncated: bool = False
    padding_px: int = Field(default=4, ge=2)


@dataclass(frozen=True)
class Instance:
    """One object in a frame.

    Attributes:
        class_id: Its class.
        box: (top, left, bottom, right) in pixels; bottom and right are exclusive.
        mask: Its pixels within the box, ``(h, w)`` bool.
        solidity: Area against the convex hull's, (0, 1].
        truncated: Whether it touches the rim of the picture.
    """

    class_id: int
    box: tuple[int, int, int, int]
    mask: np.ndarray
    solidity: float
    truncated: bool

    @property
    def area_px(self) -> int:
        """Number of its pixels."""
        return int(np.count_nonzero(self.mask))


def find_instances(
    label_map: np.ndarray,
    class_id: int,
    rules: InstanceRules,
    instance_ids: np.ndarray | None = None,
) -> list[Instance]:
    """Find the objects of a class, from top to bottom by first pixel.

    Args:
        label_map: ``(H, W)`` uint8.
        class_id: The class.
        rules: Which objects count.
        instance_ids: ``(H, W)`` integers, one for all pixels of an object; pixels of id 0 belong
            to no told object. None: no objects are told. What is not told is a connected region
            (8 neighbours).

    Returns:
        The objects that the rules let through.
    """
    of_class = label_map == class_id
    found = []
    if instance_ids is not None:
        told = of_class & (instance_ids != 0)
        for number in np.unique(instance_ids[told]):
            found += _judge((told & (instance_ids == number)).view(np.uint8), class_id, rules)
        of_class &= ~told
    _, regions, stats, _ = cv2.connectedComponentsWithStats(of_class.view(np.uint8))
    # Most regions are crumbs: only the few that are large enough are looked at one by one.
    large = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= rules.min_area_px) + 1
    for region in large:
        left, top, width, height = stats[region, :4]
        part = regions[top : top + height, left : left + width] == region
        found += _judge(part.view(np.uint8), class_id, rules, (top, left), label_map.shape)
    return sorted(found, key=lambda instance: instance.box)


def _judge(
    part: np.ndarray,
    class_id: int,
    rules: InstanceRules,
    corner: tuple[int, int] = (0, 0),
    size: tuple[int, ...] | None = None,
) -> list[Instance]:
    """Return the object whose pixels are set in ``part``, or nothing if the rules are against it.

    Args:
        part: ``(h, w)`` uint8, 0 or 1; a part of the frame.
        class_id: Its class.
        rules: Which objects count.
        corner: (top, left) of the part in the frame.
        size: (height, width) of the frame; None: ``part`` is all of it.
    """
    size = size or part.shape
    area = cv2.countNonZero(part)
    if not rules.min_area_px <= area <= rules.max_area_share * size[0] * size[1]:
        return []
    x, y, width, height = cv2.boundingRect(part)
    mask = part[y : y + height, x : x + width]
    top, left = int(corner[0]) + y, int(corner[1]) + x
    bottom, right = top + height, left + width
    truncated = top == 0 or left == 0 or bottom == size[0] or right == size[1]
    solidity = area / _hull_area(mask)
    if (truncated and not rules.keep_truncated) or solidity < rules.min_solidity:
        return []
    if _largest_piece(mask) < rules.min_compactness * area:
        return []
    return [Instance(class_id, (top, left, bottom, right), mask.astype(bool), solidity, truncated)]


def _hull_area(mask: np.ndarray) -> int:
    """Return the number of pixels in the convex hull; a polygon's area would lack half the rim."""
    hull = cv2.convexHull(cv2.findNonZero(mask))
    return cv2.countNonZero(cv2.fillConvexPoly(np.zeros_like(mask), hull, 1))


def _largest_piece(mask: np.ndarray) -> int:
    """Return the area of the largest piece after threads thinner than 3 pixels are cut."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(opened)
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))


def texture_of(image: np.ndarray, instance: Instance) -> float:
    """Return the standard deviation of an object's brightness in an RGB image, in levels."""
    top, left, bottom, right = instance.box
    brightness = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
    return float(brightness[instance.mask].std())


def cut_out(image: np.ndarray, instance: Instance, padding_px: int) -> np.ndarray:
    """Cut an object out of its picture.

    Outside of the object its own nearest colour goes on, so that a soft edge shows nothing of the
    place it was taken from.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        instance: The object.
        padding_px: Width of the empty rim.

    Returns:
        RGBA, ``(h + 2 padding, w + 2 padding, 4)`` uint8. Alpha is softened by half a pixel; it
        is above 127 exactly on the object.
    """
    top, left, bottom, right = instance.box
    rim = ((padding_px, padding_px), (padding_px, padding_px))
    mask = np.pad(instance.mask, rim)
    colors = np.pad(image[top:bottom, left:right], (*rim, (0, 0)))
    _, nearest = cv2.distanceTransformWithLabels(
        (~mask).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Each object pixel got a number of its own; a table leads from the number to the colour.
    table = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    table[nearest[mask]] = colors[mask]
    return np.dstack([table[nearest], soften(mask, mask.astype(np.uint8) * 255, 0.5)])


def soften(mask: np.ndarray, alpha: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur alpha, ``(h, w)`` uint8, but keep it above 127 exactly where ``mask`` is set."""
    if sigma_px > 0:
        alpha = cv2.GaussianBlur(alpha, (0, 0), sigma_px, borderType=cv2.BORDER_CONSTANT)
    return np.where(mask, np.maximum(alpha, 128), np.minimum(alpha, 127))


def count_beneath(label_map: np.ndarray, instance: Instance) -> np.ndarray:
    """Count the labels right beneath an object: what it stands on, or what hides its foot.

    Returns:
        ``(256,)`` int64; neither 255 nor the object's own class is counted.
    """
    top, left, bottom, _ = instance.box
    columns = np.flatnonzero(instance.mask.any(axis=0))
    height = bottom - top
    lowest = top + height - 1 - instance.mask[::-1, columns].argmax(axis=0)
    counts = np.zeros(256, np.int64)
    for step in _BENEATH_PX:
        inside = lowest + step < label_map.shape[0]
        labels = label_map[(lowest + step)[inside], left + columns[inside]]
        counts += np.bincount(labels, minlength=256)
    counts[[instance.class_id, IGNORE_INDEX]] = 0
    return counts


class Surroundings(NamedTuple):
    """How it looks around a place; the sky is left out.

    Attributes:
        color_rgb: Mean, 0 to 255; zeros where nothing but sky is around.
        contrast: Standard deviation over mean, averaged over the channels; 0 likewise. Low in
            the haze of far slopes.
    """

    color_rgb: tuple[float, float, float]
    contrast: float


def lit_classes(taxonomy: Taxonomy) -> np.ndarray:
    """Return which labels show the light that falls on a scene, ``(256,)`` uint8: not the sky."""
    table = np.zeros(256, np.uint8)
    table[: taxonomy.num_classes] = [group != 'unknown' for group in taxonomy.groups]
    return table


def look_around(
    image: np.ndarray,
    label_map: np.ndarray,
    box: tuple[int, int, int, int],
    lit: np.ndarray,
    mask: np.ndarray | None = None,
) -> Surroundings:
    """Measure the surroundings of a box.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        label_map: ``(H, W)`` uint8.
        box: (top, left, bottom, right), exclusive.
        lit: See ``lit_classes``.
        mask: Pixels of the box to leave out, ``(h, w)`` bool; None: none.
    """
    top, left, bottom, right = box
    rows = slice(max(0, top - _AROUND_PX), bottom + _AROUND_PX)
    columns = slice(max(0, left - _AROUND_PX), right + _AROUND_PX)
    around = lookup(label_map[rows, columns], lit)
    if mask is not None:
        inner = around[top - rows.start :, left - columns.start :]
        inner[: bottom - top, : right - left][mask] = 0
    mean, deviation = cv2.meanStdDev(image[rows, columns], mask=around)
    red, green, blue = (round(float(value), 2) for value in mean.ravel())
    contrast = float(deviation.mean() / max(1.0, mean.mean()))
    return Surroundings((red, green, blue), round(contrast, 4))
