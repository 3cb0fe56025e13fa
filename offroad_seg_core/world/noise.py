"""Tileable value noise at several scales: the raw material of terrain, ground and clouds."""

from __future__ import annotations

import cv2
import numpy as np


def value_noise(rng: np.random.Generator, size_px: int, cells: int) -> np.ndarray:
    """Return smooth tileable noise, ``(size_px, size_px)`` float32, mean near 0, std near 0.5.

    A ``cells`` x ``cells`` grid of random values is wrapped and enlarged with a cubic kernel, so
    the result repeats without a seam. ``size_px`` must be a multiple of ``cells``.
    """
    scale, remainder = divmod(size_px, cells)
    if remainder or scale < 1:
        raise ValueError(
            f'size_px {size_px} is not a multiple of cells {cells}; use powers of two'
        )
    grid = rng.uniform(-1.0, 1.0, (cells, cells)).astype(np.float32)
    if scale == 1:
        return grid
    margin = 3
    padded = np.pad(grid, margin, mode='wrap')
    side = (cells + 2 * margin) * scale
    enlarged = cv2.resize(padded, (side, side), interpolation=cv2.INTER_CUBIC)
    first = margin * scale
    return np.ascontiguousarray(enlarged[first : first + size_px, first : first + size_px])


def fbm(
    rng: np.random.Generator, size_px: int, cells: int, octaves: int, gain: float = 0.5
) -> np.ndarray:
    """Return fractal noise: ``octaves`` of value noise, each twice as fine and ``gain`` as tall.

    The sum is scaled to mean 0 and standard deviation 1, ``(size_px, size_px)`` float32.
    """
    total = np.zeros((size_px, size_px), np.float32)
    amplitude = 1.0
    for _ in range(octaves):
        if cells > size_px:
            break
        total += np.float32(amplitude) * value_noise(rng, size_px, cells)
        cells, amplitude = cells * 2, amplitude * gain
    return standardise(total)


def ridged(rng: np.random.Generator, size_px: int, cells: int, octaves: int) -> np.ndarray:
    """Return noise with sharp crests, ``(size_px, size_px)`` float32 in [0, 1]."""
    total = np.zeros((size_px, size_px), np.float32)
    amplitude, weight = 1.0, 0.0
    for _ in range(octaves):
        crest = 1.0 - np.abs(value_noise(rng, size_px, cells)) * 1.6
        total += np.float32(amplitude) * np.clip(crest, 0.0, 1.0) ** 2
        weight += amplitude
        cells, amplitude = cells * 2, amplitude * 0.5
    return total / np.float32(weight)


def standardise(field: np.ndarray) -> np.ndarray:
    """Shift and scale a field to mean 0 and standard deviation 1."""
    mean, deviation = cv2.meanStdDev(field)
    return (field - np.float32(mean[0, 0])) * np.float32(1.0 / max(deviation[0, 0], 1e-9))


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Return 0 below ``low``, 1 above ``high`` and a smooth cubic between them."""
    ramp = np.clip((value - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return ramp * ramp * (np.float32(3.0) - np.float32(2.0) * ramp)


def to_byte(field: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] to 0-255 uint8, saturating outside."""
    scale = 255.0 / (high - low)
    return np.clip((field - np.float32(low)) * np.float32(scale), 0, 255).astype(np.uint8)
