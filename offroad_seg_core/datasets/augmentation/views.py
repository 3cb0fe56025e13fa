"""Random views of labelled frames.

Every random choice comes from the generator that is passed in, so a view is a function of
(seed, epoch, index) and of nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.augmentation.photometric import PhotometricConfig, distort_colors
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.taxonomy import IGNORE_INDEX

Image = np.ndarray
LabelMap = np.ndarray


@dataclass(frozen=True, config=STRICT)
class ViewsConfig:
    """How training frames are varied.

    Attributes:
        kind: Names this kind of augmentation; the default where a configuration gives none.
        scale_range: Smallest and largest zoom against the size that the robot's network sees,
            drawn log-uniformly.
        rotation_deg: Largest roll of the camera to either side.
        flip_probability: Chance of mirroring left and right.
        max_class_share: A crop in which one class covers more than this is drawn again.
        crop_tries: How often at most.
        photometric: Changes of colour, light and sharpness.
    """

    kind: Literal['views'] = 'views'
    scale_range: tuple[float, float] = (0.5, 2.0)
    rotation_deg: float = Field(default=3.0, ge=0, le=45)
    flip_probability: float = Field(default=0.5, ge=0, le=1)
    max_class_share: float = Field(default=0.75, gt=0, le=1)
    crop_tries: int = Field(default=4, ge=1)
    photometric: PhotometricConfig = PhotometricConfig()

    def __post_init__(self) -> None:
        """Check the scale range."""
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ValueError(f'scale_range is {self.scale_range}, expected 0 < low <= high')


class RandomViews:
    """Random views by one configuration. See ``augment``.

    Args:
        config: What may vary.
        crop_size: (height, width) of a view.
        spec: The network's input on the robot; zoom 1 fits the frame into its size.
        strength: Multiplies the photometric strength, up to twice the written bounds.
    """

    def __init__(
        self,
        config: ViewsConfig,
        crop_size: tuple[int, int],
        spec: InputSpec,
        strength: float = 1.0,
    ) -> None:
        photometric = config.photometric
        raised = replace(photometric, strength=min(2.0, photometric.strength * strength))
        self._config = replace(config, photometric=raised)
        self._crop_size = crop_size
        self._spec = spec

    def __call__(
        self, image: Image, label_map: LabelMap, rng: np.random.Generator
    ) -> tuple[Image, LabelMap]:
        """Return a view; see ``augment``."""
        return augment(image, label_map, self._crop_size, self._spec, self._config, rng)

    def trace(
        self, image: Image, label_map: LabelMap, rng: np.random.Generator
    ) -> tuple[Image, LabelMap, np.ndarray]:
        """Return the same view and where its pixels are from; see ``TracedAugmentation``."""
        view, labels, warp = _draw_view(
            image, label_map, self._crop_size, self._spec, self._config, rng
        )
        return view, labels, _origins(warp, self._crop_size, label_map.shape)


def augment(
    image: Image,
    label_map: LabelMap,
    crop_size: tuple[int, int],
    spec: InputSpec,
    config: ViewsConfig,
    rng: np.random.Generator,
) -> tuple[Image, LabelMap]:
    """Return a random view of a frame.

    Scale, roll, mirror image and crop are one warp of the source pixels: linear for the image,
    nearest for the labels. Pixels from outside the frame are 255 and, whatever happened to the
    colours, the mean colour: zero after normalisation, like the robot's padding.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        label_map: ``(H, W)`` uint8 ids or 255.
        crop_size: (height, width) of the view.
        spec: The network's input on the robot; zoom 1 fits the frame into its size.
        config: What may vary.
        rng: Source of every random choice.

    Returns:
        Image ``(*crop_size, 3)`` and label map ``crop_size``, both uint8.
    """
    view, labels, _ = _draw_view(image, label_map, crop_size, spec, config, rng)
    return view, labels


def _draw_view(
    image: Image,
    label_map: LabelMap,
    crop_size: tuple[int, int],
    spec: InputSpec,
    config: ViewsConfig,
    rng: np.random.Generator,
) -> tuple[Image, LabelMap, np.ndarray]:
    """Return what ``augment`` does and the 2x3 matrix from pixels of the view to the frame's."""
    for _ in range(config.crop_tries):
        warp = _draw_warp(label_map.shape, crop_size, spec.size, config, rng)
        labels = _warp_nearest(label_map, warp, crop_size, IGNORE_INDEX)
        if largest_share(labels) <= config.max_class_share:
            break
    # The frame's rim goes on outside, so that neither the warp nor a blur mixes padding into it.
    view = cv2.warpAffine(
        image,
        warp,
        crop_size[::-1],
        flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    view = distort_colors(view, config.photometric, rng)
    outside = _warp_nearest(np.zeros_like(label_map), warp, crop_size, 1)
    view[outside.view(bool)] = np.clip(np.round(spec.mean), 0, 255)
    return view, labels, warp


def _origins(
    warp: np.ndarray, crop_size: tuple[int, int], frame_size: tuple[int, ...]
) -> np.ndarray:
    """Return the frame's (x, y) of each pixel of the view, ``(h, w, 2)``; nan outside."""
    height, width = crop_size
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    origins = np.stack([row[0] * x + row[1] * y + row[2] for row in warp], axis=-1)
    origins = origins.astype(np.float32)
    limits = np.array(frame_size[1::-1]) - 0.5
    origins[((origins < -0.5) | (origins > limits)).any(axis=-1)] = np.nan
    return origins


def _warp_nearest(
    label_map: LabelMap, warp: np.ndarray, size: tuple[int, int], outside: int
) -> LabelMap:
    return cv2.warpAffine(
        label_map,
        warp,
        size[::-1],
        flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST,
        borderValue=outside,
    )


def fit_scale(size: tuple[int, ...], input_size: tuple[int, int]) -> float:
    """Return the zoom at which a frame of ``size`` just fits ``input_size``."""
    return min(input_size[0] / size[0], input_size[1] / size[1])


def _draw_warp(
    size: tuple[int, ...],
    crop_size: tuple[int, int],
    input_size: tuple[int, int],
    config: ViewsConfig,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the 2x3 matrix from pixels of the view to pixels of the frame."""
    low, high = np.log(config.scale_range)
    zoom = fit_scale(size, input_size) * np.exp(rng.uniform(low, high))
    roll_rad = np.deg2rad(rng.uniform(-config.rotation_deg, config.rotation_deg))
    mirror = -1.0 if rng.random() < config.flip_probability else 1.0
    center = [
        _draw_center(side, crop / zoom, rng) for side, crop in zip(size, crop_size, strict=True)
    ]
    cos, sin = np.cos(roll_rad) / zoom, np.sin(roll_rad) / zoom
    linear = np.array([[mirror * cos, -sin], [mirror * sin, cos]])
    view_center = np.array([crop_size[1] - 1, crop_size[0] - 1]) / 2
    offset = np.array(center[::-1]) - linear @ view_center
    return np.column_stack([linear, offset])


def _draw_center(side: int, window: float, rng: np.random.Generator) -> float:
    """Return where the middle of a window lies: inside the frame, or around it if larger."""
    slack = (side - window) / 2
    return (side - 1) / 2 + rng.uniform(-abs(slack), abs(slack))


def largest_share(labels: LabelMap) -> float:
    """Return the share of the most frequent class among labelled pixels; 1 if there is none."""
    counts = np.bincount(labels[::4, ::4].ravel(), minlength=256)[:IGNORE_INDEX]
    total = counts.sum()
    return float(counts.max() / total) if total else 1.0
