"""Two labelled views in one: CutMix and ClassMix."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.taxonomy import IGNORE_INDEX

# Image (H, W, 3) and label map (H, W), both uint8; then what goes along, (h, w, K) float each.
View = tuple[np.ndarray, ...]


@dataclass(frozen=True, config=STRICT)
class MixConfig:
    """How a part of one view is laid over another.

    Attributes:
        kind: ``cutmix``: a rectangle (Yun et al. 2019). ``classmix``: all pixels of half of the
            classes of the other view (Olsson et al. 2021).
        probability: Chance that a view is mixed.
        alpha: Of CutMix: the share that a view keeps is drawn from Beta(alpha, alpha); 1 is
            uniform, more keeps to halves.
    """

    kind: Literal['cutmix', 'classmix'] = 'cutmix'
    probability: float = Field(default=0.5, ge=0, le=1)
    alpha: float = Field(default=1.0, gt=0)


def mix(first: View, second: View, config: MixConfig, rng: np.random.Generator) -> View:
    """Lay a part of ``second`` over ``first``; neither is written to.

    Unlabelled pixels (255), and so all padding, are never laid over anything. Arrays that go along
    at a lower resolution become the mean of what is below their pixels.

    Args:
        first: Image ``(H, W, 3)`` and label map ``(H, W)``, uint8; then further arrays
            ``(h, w, K)`` float.
        second: Of the same sizes.
        config: Which part.
        rng: Source of every random choice.

    Returns:
        ``first`` itself if it is not mixed.

    Raises:
        ValueError: The sizes differ.
    """
    if first[1].shape != second[1].shape:
        raise ValueError(
            f'views to mix: got sizes {first[1].shape} and {second[1].shape}; expected the same'
        )
    if rng.random() >= config.probability:
        return first
    if config.kind == 'cutmix':
        part = _draw_rectangle(first[1].shape, config.alpha, rng)
        return _lay_over(first, second, part, second[1][part] != IGNORE_INDEX)
    whole = (slice(None), slice(None))
    return _lay_over(first, second, whole, _draw_classes(second[1], rng))


def _draw_rectangle(
    size: tuple[int, ...], alpha: float, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Draw a rectangle of the view's shape around any pixel; what leaves the view is cut off."""
    side = np.sqrt(1 - rng.beta(alpha, alpha))  # against the view's
    spans = []
    for length in size[:2]:
        half = int(length * side) // 2
        center = int(rng.integers(length))
        spans.append(slice(max(0, center - half), min(length, center + half)))
    return spans[0], spans[1]


def _draw_classes(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the pixels, ``(H, W)`` bool, of half of the classes, rounded up as by its authors."""
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[:IGNORE_INDEX])
    chosen = rng.choice(present, (len(present) + 1) // 2, replace=False)
    is_chosen = np.zeros(256, np.uint8)
    is_chosen[chosen] = 1
    return cv2.LUT(labels, is_chosen).view(bool)


def _lay_over(first: View, second: View, part: tuple[slice, slice], mask: np.ndarray) -> View:
    """Copy the pixels of ``mask``, ``(h, w)`` bool within ``part``, from ``second``."""
    image, labels = first[0].copy(), first[1].copy()
    if mask.any():
        for source, target in zip(second[:2], (image, labels), strict=True):
            cv2.copyTo(source[part], mask.view(np.uint8), target[part])
    laid = np.zeros(labels.shape, np.float32)
    laid[part] = mask
    further = [_blend(*pair, laid) for pair in zip(first[2:], second[2:], strict=True)]
    return image, labels, *further


def _blend(first: np.ndarray, second: np.ndarray, laid: np.ndarray) -> np.ndarray:
    """Return ``(h, w, K)`` of both, by how much of each pixel is laid over, ``(H, W)`` 0 or 1."""
    height, width = first.shape[:2]
    share = cv2.resize(laid, (width, height), interpolation=cv2.INTER_AREA)[..., np.newaxis]
    return (first + share * (second - first)).astype(first.dtype)
