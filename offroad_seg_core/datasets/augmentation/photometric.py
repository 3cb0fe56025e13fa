"""Random changes of colour, light and sharpness: what another place, hour or camera would do."""

from __future__ import annotations

import cv2
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT

Image = np.ndarray


@dataclass(frozen=True, config=STRICT)
class PhotometricConfig:
    """How far pictures are changed. Each value is the bound of a random draw; 0 is off.

    Attributes:
        strength: Multiplies every bound below; 0 leaves pictures as they are.
        exposure: Of the natural logarithm of the light.
        gamma: Of the natural logarithm of the tone curve's exponent.
        contrast: Around the middle grey, relative.
        white_balance: Of each channel's gain, relative.
        saturation: Relative.
        hue_deg: On the colour circle of 360 degrees.
        gray_probability: Chance of a picture without colour.
        blur_px: Sigma of a Gaussian blur, in half of the pictures.
        noise: Standard deviation of sensor noise in grey values, in half of the pictures.
    """

    strength: float = Field(default=1.0, ge=0, le=2)
    exposure: float = Field(default=0.5, ge=0)
    gamma: float = Field(default=0.3, ge=0)
    contrast: float = Field(default=0.35, ge=0)
    white_balance: float = Field(default=0.12, ge=0)
    saturation: float = Field(default=0.5, ge=0)
    hue_deg: float = Field(default=15.0, ge=0, le=180)
    gray_probability: float = Field(default=0.05, ge=0, le=1)
    blur_px: float = Field(default=1.2, ge=0)
    noise: float = Field(default=8.0, ge=0)


def distort_colors(image: Image, config: PhotometricConfig, rng: np.random.Generator) -> Image:
    """Return a randomly changed picture, ``(H, W, 3)`` uint8 RGB, of the same size."""
    if config.strength == 0:
        return image
    image = cv2.LUT(image, _tone_curves(config, rng))
    image = _shift_colors(image, config, rng)
    sigma_px = rng.uniform(0, config.strength * config.blur_px)
    if rng.random() < 0.5 and sigma_px > 0.3:  # below, the kernel is a single pixel
        image = cv2.GaussianBlur(image, (0, 0), sigma_px)
    deviation = rng.uniform(0, config.strength * config.noise)
    if rng.random() < 0.5 and deviation > 0:
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(deviation)
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    return image


def _tone_curves(config: PhotometricConfig, rng: np.random.Generator) -> Image:
    """Return ``(256, 1, 3)`` uint8, one table a channel: gain, tone curve and contrast."""
    strength = config.strength
    gain = np.exp(strength * config.exposure * rng.uniform(-1, 1))
    gains = gain * (1 + strength * config.white_balance * rng.uniform(-1, 1, 3))
    gamma = np.exp(strength * config.gamma * rng.uniform(-1, 1))
    contrast = 1 + strength * config.contrast * rng.uniform(-1, 1)
    values = np.clip(np.linspace(0, 1, 256)[:, None] * gains, 0, 1) ** gamma
    values = (values - 0.5) * contrast + 0.5
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)[:, None]


def _shift_colors(image: Image, config: PhotometricConfig, rng: np.random.Generator) -> Image:
    hue_deg = config.strength * config.hue_deg * rng.uniform(-1, 1)
    saturation = max(0.0, 1 + config.strength * config.saturation * rng.uniform(-1, 1))
    if rng.random() < config.gray_probability:
        saturation = 0.0
    # A colour is a point around the grey axis: hue turns it about the axis, saturation pulls it
    # towards it. One 3x3 matrix does both, three times faster than going through HSV.
    angle_rad = np.deg2rad(hue_deg)
    cos, sin = np.cos(angle_rad), np.sin(angle_rad) / np.sqrt(3)
    gray = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    turn = cos * (np.eye(3) - gray) + sin * cross
    return cv2.transform(image, saturation * turn + gray)
