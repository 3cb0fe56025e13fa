"""MMSegmentation's photometric distortion, as an albumentations transform."""

from __future__ import annotations

from typing import Any

import albumentations
from albumentations.core.transforms_interface import BaseTransformInitSchema
import cv2
import numpy as np
from pydantic import Field

_LEVELS = np.arange(256, dtype=np.float32)


class PhotometricDistortion(albumentations.ImageOnlyTransform):
    """Change brightness, contrast, saturation and hue, each in half of the pictures.

    MMSegmentation's PhotoMetricDistortion: brightness first; contrast either before or after
    saturation and hue, at random; all of it on 8 bits, clipped after each step.

    Args:
        brightness_delta: Largest grey value added or taken.
        contrast_range: Factor of the grey values.
        saturation_range: Factor of HSV's saturation.
        hue_delta: Largest turn of the hue, in OpenCV's 180 steps.
        each_p: Chance of each of the four.
        p: Chance of any.
    """

    class InitSchema(BaseTransformInitSchema):
        """What may be given."""

        brightness_delta: int = Field(ge=0, le=255)
        contrast_range: tuple[float, float]
        saturation_range: tuple[float, float]
        hue_delta: int = Field(ge=0, le=90)
        each_p: float = Field(ge=0, le=1)

    def __init__(
        self,
        brightness_delta: int = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: int = 18,
        each_p: float = 0.5,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range
        self.saturation_range = saturation_range
        self.hue_delta = hue_delta
        self.each_p = each_p

    def get_params(self) -> dict[str, Any]:
        """Draw every change; a neutral value where there is none."""
        draw, happens = self.py_random, lambda: self.py_random.random() < self.each_p
        delta = self.brightness_delta
        return {
            'brightness': draw.uniform(-delta, delta) if happens() else 0.0,
            'contrast': draw.uniform(*self.contrast_range) if happens() else 1.0,
            'contrast_first': draw.random() < 0.5,
            'saturation': draw.uniform(*self.saturation_range) if happens() else 1.0,
            'hue': draw.randint(-self.hue_delta, self.hue_delta) if happens() else 0,
        }

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Change a picture."""
        tones = _to_bytes(_LEVELS + params['brightness'])
        contrast = _to_bytes(_LEVELS * params['contrast'])
        if params['contrast_first']:
            return self._turn(cv2.LUT(img, contrast[tones]), params)
        return cv2.LUT(self._turn(cv2.LUT(img, tones), params), contrast)

    def _turn(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        if params['saturation'] == 1 and params['hue'] == 0:
            return image
        hue = ((np.arange(256) + params['hue']) % 180).astype(np.uint8)
        saturation = _to_bytes(_LEVELS * params['saturation'])
        table = np.stack([hue, saturation, _to_bytes(_LEVELS)], axis=-1)[:, None]
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
