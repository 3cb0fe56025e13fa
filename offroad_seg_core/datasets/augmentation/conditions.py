"""What a field robot's camera meets: dust, spots on the lens, the sun in view, too little light.

Pictures only; the labels stay. Fields are drawn at a fraction of the resolution and enlarged:
what they show is out of focus anyway, and each takes a few milliseconds.
"""

from __future__ import annotations

from typing import Any, Literal

import albumentations
from albumentations.core.transforms_interface import BaseTransformInitSchema
import cv2
import numpy as np
from pydantic import Field, model_validator

Range = tuple[float, float]


class _Ranges(BaseTransformInitSchema):
    """Every range is (low, high) with 0 <= low <= high."""

    @model_validator(mode='after')
    def _ordered(self) -> Any:
        for name, value in self:
            if name.endswith('_range') and not 0 <= value[0] <= value[1]:
                raise ValueError(f'got {name} {value}; expected 0 <= low <= high')
        return self


class DustHaze(albumentations.ImageOnlyTransform):
    """Dust in the air: the farther, the more of its colour; clouds of it drift.

    The distance is not known: it grows from the bottom of the picture to a random horizon.
    The scattering model is Koschmieder's, ``I t + A (1 - t)`` with ``t = exp(-density depth)``.

    Args:
        density_range: Optical depth at the horizon.
        p: Chance of dust.
    """

    class InitSchema(_Ranges):
        """What may be given."""

        density_range: Range

    def __init__(self, density_range: Range = (0.3, 1.5), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.density_range = density_range

    def get_params(self) -> dict[str, Any]:
        """Draw density, horizon, colour and clouds."""
        rng = self.random_generator
        return {
            'density': rng.uniform(*self.density_range),
            'horizon': rng.uniform(0.25, 0.55),
            'color': np.array([1.0, rng.uniform(0.84, 0.95), rng.uniform(0.66, 0.88)]),
            'clouds': rng.uniform(0.4, 1.6, (4, 7)).astype(np.float32),
        }

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Veil a picture."""
        height, width = img.shape[:2]
        above = 1 - np.arange(height, dtype=np.float32) / height
        depth = np.minimum(1, above / (1 - params['horizon'])) ** 2
        clouds = cv2.resize(params['clouds'], (width, height), interpolation=cv2.INTER_CUBIC)
        through = np.exp(-params['density'] * depth[:, None] * np.maximum(clouds, 0.1))
        # Dust is as bright as the day: it does not glow at dusk.
        light = np.clip(1.5 * img[::8, ::8].mean(), 20, 235)
        veil = np.empty_like(img)
        veil[:] = np.round(light * params['color'])
        return cv2.blendLinear(img, veil, through, 1 - through)


class LensSpots(albumentations.ImageOnlyTransform):
    """Spots on the lens, out of focus: dried dirt darkens, a drop shows the scene upside down.

    Args:
        mode: ``dirt`` or ``drops``.
        num_range: Fewest and most spots.
        radius_range: Of a spot, as a share of the picture's width.
        p: Chance of spots.
    """

    class InitSchema(_Ranges):
        """What may be given."""

        mode: Literal['dirt', 'drops']
        num_range: tuple[int, int]
        radius_range: Range = Field(description='share of the width')

    def __init__(
        self,
        mode: Literal['dirt', 'drops'] = 'dirt',
        num_range: tuple[int, int] = (3, 25),
        radius_range: Range = (0.004, 0.03),
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.mode = mode
        self.num_range = num_range
        self.radius_range = radius_range

    def get_params(self) -> dict[str, Any]:
        """Draw x, y (shares), radius (share of the width), flatness and opacity of each spot."""
        rng = self.random_generator
        count = int(rng.integers(self.num_range[0], self.num_range[1] + 1))
        low, high = np.log(np.maximum(self.radius_range, 1e-4))
        spots = np.column_stack(
            [
                rng.random((count, 2)),
                np.exp(rng.uniform(low, high, count)),
                rng.uniform(0.6, 1.4, count),
                rng.uniform(0.3, 0.9, count),
            ]
        )
        return {'spots': spots}

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Cover a picture."""
        height, width = img.shape[:2]
        cover = self._cover((max(1, height // 2), max(1, width // 2)), params['spots'])
        cover = cv2.resize(cover, (width, height), interpolation=cv2.INTER_LINEAR)
        behind = cv2.resize(
            img, (max(1, width // 16), max(1, height // 16)), interpolation=cv2.INTER_AREA
        )
        behind = cv2.GaussianBlur(behind, (0, 0), 1.5)
        if self.mode == 'dirt':
            behind = np.round(behind * np.array([0.42, 0.36, 0.3])).astype(np.uint8)
        else:
            behind = np.ascontiguousarray(behind[::-1, ::-1])
        behind = cv2.resize(behind, (width, height), interpolation=cv2.INTER_LINEAR)
        return cv2.blendLinear(img, behind, 1 - cover, cover)

    @staticmethod
    def _cover(size: tuple[int, int], spots: np.ndarray) -> np.ndarray:
        """Return how much each pixel is covered, ``size`` float32 in 0 to 1."""
        cover = np.zeros(size, np.float32)
        for x, y, radius, flatness, opacity in spots:
            radius_px = max(1.0, radius * size[1])
            center = (round(x * size[1]), round(y * size[0]))
            axes = (max(1, round(radius_px * flatness)), max(1, round(radius_px)))
            cv2.ellipse(cover, center, axes, 0, 0, 360, float(opacity), cv2.FILLED)
        return cv2.GaussianBlur(cover, (0, 0), max(1.0, 0.007 * size[1]))


class SunGlare(albumentations.ImageOnlyTransform):
    """The sun in or near the upper half of the picture: a bright disc and a veil around it.

    Args:
        strength_range: Of the light added, 1 for a disc of full white.
        p: Chance of glare.
    """

    class InitSchema(_Ranges):
        """What may be given."""

        strength_range: Range

    def __init__(self, strength_range: Range = (0.4, 1.0), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.strength_range = strength_range

    def get_params(self) -> dict[str, Any]:
        """Draw the sun's place (shares) and size and the colour of its light."""
        rng = self.random_generator
        return {
            'place': (rng.uniform(-0.1, 1.1), rng.uniform(-0.1, 0.4)),
            'radius': rng.uniform(0.02, 0.06),
            'light': rng.uniform(*self.strength_range)
            * np.array([255.0, rng.uniform(230, 255), rng.uniform(190, 250)]),
        }

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Add the light."""
        height, width = img.shape[:2]
        rows, columns = np.ogrid[0:height:8, 0:width:8]
        x, y = params['place'][0] * width, params['place'][1] * height
        distance = np.hypot(rows - y, columns - x) / (params['radius'] * width)
        glow = np.exp(-(distance**2)) + 0.5 / (1 + (distance / 3) ** 2)
        light = np.minimum(255, glow[..., None] * params['light']).astype(np.uint8)
        light = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
        return cv2.add(img, light)


class LowLight(albumentations.ImageOnlyTransform):
    """Too little light, amplified again in part: shot and read noise stand out.

    Args:
        light_range: Share of the light that is left.
        noise_range: Standard deviation of the noise in a grey value of 255, before it is
            amplified by less light.
        p: Chance of dusk.
    """

    class InitSchema(_Ranges):
        """What may be given."""

        light_range: Range
        noise_range: Range

    def __init__(
        self,
        light_range: Range = (0.25, 0.6),
        noise_range: Range = (2.0, 6.0),
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.light_range = light_range
        self.noise_range = noise_range

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw how dark it is and the noise of every pixel."""
        rng = self.random_generator
        return {
            'light': rng.uniform(*self.light_range),
            'noise': rng.uniform(*self.noise_range),
            'field': rng.standard_normal(params['shape'], np.float32),
        }

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Darken a picture and add noise."""
        levels = np.arange(256, dtype=np.float32) * np.float32(params['light'])
        dark = levels.astype(np.uint8)
        # Shot noise grows with the root of the light; 0.3 of full scale is the sensor's own.
        share = np.sqrt(np.arange(256) / 255) + 0.3
        deviation = (params['noise'] * np.sqrt(params['light']) * share).astype(np.float32)
        noise = params['field'] * cv2.LUT(img, deviation)
        return cv2.add(cv2.LUT(img, dark), noise, dtype=cv2.CV_8U)
