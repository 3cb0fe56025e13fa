"""Lay cut-out objects over frames: resize, soften, light, blend."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from offroad_seg_core.datasets.copy_paste.bank import BankEntry
from offroad_seg_core.datasets.copy_paste.instances import soften
from offroad_seg_core.datasets.copy_paste.placement import Ground, Placement

_MAX_TINT = 1.25  # of one channel against the others: the ground's own colour is not the light's
_BRIGHTEST = 245  # what the brightest 2 % of an object may become; above, they look lit up


class Patch(NamedTuple):
    """An object that is ready to be laid over a frame.

    Attributes:
        colors: ``(h, w, 3)`` uint8 RGB.
        alpha: ``(h, w)`` uint8; above 127 on the object.
        top: Row of the frame where it begins; ``left`` likewise.
        left: See ``top``.
        row: Its lowest row in the frame.
        ground: What its class stands on and hides.
    """

    colors: np.ndarray
    alpha: np.ndarray
    top: int
    left: int
    row: int
    ground: Ground


def make_patch(
    rgba: np.ndarray, entry: BankEntry, zoom: float, feather_px: float, mirror: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Resize a cut-out and soften its edge.

    Args:
        rgba: ``(h, w, 4)`` uint8, see ``InstanceBank.read``.
        entry: What it is.
        zoom: Pixels of the frame for a pixel of the cut-out.
        feather_px: Standard deviation of the edge, in pixels of the frame.
        mirror: Whether left and right change places.

    Returns:
        Colours ``(h', w', 3)`` and alpha ``(h', w')``, both uint8, with the same rim on all sides;
        alpha is above 127 exactly on the object.
    """
    size = [max(1, round(side * zoom)) for side in rgba.shape[:2]]
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    patch = cv2.resize(rgba, size[::-1], interpolation=method)
    if mirror:
        patch = cv2.flip(patch, 1)
    mask = patch[..., 3] > 127
    rim = max(0, int(np.ceil(3 * feather_px)) - int(entry.padding_px * zoom))
    if rim:
        patch = cv2.copyMakeBorder(patch, rim, rim, rim, rim, cv2.BORDER_REPLICATE)
        mask = np.pad(mask, rim)
    # The edge is made anew: that of the cut-out grows with the zoom and would be a halo.
    return patch[..., :3], soften(mask, mask.astype(np.uint8) * 255, feather_px)


def place_patch(
    colors: np.ndarray, alpha: np.ndarray, placement: Placement, size: tuple[int, ...], on: Ground
) -> Patch | None:
    """Put a patch where it belongs and cut off what lies outside of the frame.

    Returns:
        The patch, or None if nothing of the object is left.
    """
    rows = np.flatnonzero((alpha > 127).any(axis=1))
    if not rows.size:
        return None
    top = placement.row - int(rows[-1])
    left = placement.column - alpha.shape[1] // 2
    inner = (
        slice(max(0, -top), min(alpha.shape[0], size[0] - top)),
        slice(max(0, -left), min(alpha.shape[1], size[1] - left)),
    )
    colors, alpha = colors[inner], alpha[inner]
    if not (alpha > 127).any():
        return None
    return Patch(colors, alpha, max(0, top), max(0, left), placement.row, on)


def visible_alpha(label_map: np.ndarray, patch: Patch) -> np.ndarray:
    """Return the alpha of a patch, ``(h, w)`` uint8, with 0 where it may not be pasted."""
    rows, columns = _region(patch)
    part = label_map[rows, columns]
    foot = patch.row + 1 - patch.top
    beneath = label_map[min(patch.row + 1, label_map.shape[0] - 1), columns]
    writable = patch.ground.writable(part[:foot], beneath)
    if foot < part.shape[0]:  # the soft edge below the foot
        rest = patch.ground.covers[part[foot:]] & ~patch.ground.hides[part[foot:]]
        writable = np.vstack([writable, rest])
    return patch.alpha * writable


def lay_over(image: np.ndarray, label_map: np.ndarray, patch: Patch) -> np.ndarray:
    """Blend a patch into a frame, in place.

    Returns:
        The pixels that got the object's label, as a part of ``label_map``: ``(h, w)`` bool.
    """
    rows, columns = _region(patch)
    alpha = visible_alpha(label_map, patch)
    share = alpha.astype(np.float32) / 255
    region = np.ascontiguousarray(image[rows, columns])
    colors = np.ascontiguousarray(patch.colors)
    image[rows, columns] = cv2.blendLinear(colors, region, share, 1 - share)
    labelled = alpha > 127
    label_map[rows, columns][labelled] = patch.ground.class_id
    return labelled


def light_ratio(light: np.ndarray, source_light: np.ndarray) -> np.ndarray:
    """Return how much brighter each channel is here than where an object is from, ``(3,)``.

    Args:
        light: Mean colour of the ground in the frame, ``(3,)``, 0 to 255.
        source_light: Likewise where the object is from.
    """
    return np.maximum(light, 1.0) / np.maximum(source_light, 1.0)


def relight(patch: Patch, ratio: np.ndarray, strength: float) -> Patch:
    """Light an object as the place it is pasted to is lit.

    Light multiplies colours, so each channel is scaled by the ratio of the ground's colours here
    and there; how much their tint may change is bounded, because the grounds differ too.

    Args:
        patch: The object.
        ratio: See ``light_ratio``.
        strength: 0 (not at all) to 1 (fully).
    """
    if strength == 0:
        return patch
    brightness = float(np.exp(np.log(ratio).mean()))
    tint = np.clip(ratio / brightness, 1 / _MAX_TINT, _MAX_TINT)
    factors = (tint * brightness) ** strength
    if factors.max() > 1:
        on_object = patch.colors[patch.alpha > 127].max(axis=1)
        bright = np.partition(on_object, int(0.98 * (on_object.size - 1)))
        room = max(1.0, _BRIGHTEST / max(1, int(bright[int(0.98 * (on_object.size - 1))])))
        factors *= min(1.0, room / factors.max())
    table = np.clip(np.round(np.arange(256)[:, None] * factors), 0, 255).astype(np.uint8)
    colors = cv2.LUT(np.ascontiguousarray(patch.colors), table[:, None, :])
    return patch._replace(colors=colors)


def _region(patch: Patch) -> tuple[slice, slice]:
    height, width = patch.alpha.shape
    return slice(patch.top, patch.top + height), slice(patch.left, patch.left + width)
