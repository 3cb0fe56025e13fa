"""Colours and close-up textures of the ground, and the factors of its light."""

from __future__ import annotations

import cv2
import numpy as np

from offroad_seg_core.world.biome import Biome, Look, Ramp, pick
from offroad_seg_core.world.noise import fbm, to_byte, value_noise

FIELD_RANGE = 3.5
"""A byte of a noise field covers -3.5 to 3.5 standard deviations."""


def field_byte(field: np.ndarray) -> np.ndarray:
    """Store a standardised noise field as uint8."""
    return to_byte(field, -FIELD_RANGE, FIELD_RANGE)


def light_table(look: Look) -> np.ndarray:
    """Return what a display colour is multiplied by for each direct light 0-255.

    Display values are square roots of linear ones, so the factor is the square root of the
    linear light, ``(256, 3)`` float32.
    """
    direct = (np.arange(256, dtype=np.float32) / 255.0)[:, None]
    return np.sqrt((look.ambient_color + direct * look.sun_color) * np.float32(look.exposure))


def make_tiles(rng: np.random.Generator, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Make the repeating close-up textures, 10 m wide, and their quarter-size copy.

    Each is ``(n, n, 4)`` uint8: soil relief lit by the sun, straw, debris, and the raggedness
    of edges.
    """
    size = 1024
    relief = fbm(rng, size, 16, 7, 0.7)
    east = np.roll(relief, 1, 1) - np.roll(relief, -1, 1)
    north = np.roll(relief, 1, 0) - np.roll(relief, -1, 0)
    slope = east * look.sun_vector[0] + north * look.sun_vector[1]
    soil = 0.5 * relief + 2.6 * slope + _gravel(rng, size)
    straw = _scatter_strokes(rng, size, 9000, (5, 16), 1)
    debris = _scatter_strokes(rng, size, 5200, (1, 4), 3)
    ragged = value_noise(rng, size, 32) + 0.8 * value_noise(rng, size, 128)
    fine = cv2.merge([field_byte(soil), straw, debris, field_byte(1.4 * ragged)])
    return fine, cv2.resize(fine, (256, 256), interpolation=cv2.INTER_AREA)


def ground_palette(rng: np.random.Generator, biome: Biome, look: Look) -> np.ndarray:
    """Return ``(256, 1, 3)`` uint8: soil 0-127, dry grass 128-191, litter 192-255.

    Grass and litter let some of the soil shine through.
    """
    chosen = [pick(biome.soils, look.soil_choice), pick(biome.grass, look.grass_choice)]
    chosen.append(biome.litter[rng.integers(len(biome.litter))])
    soil, straw, litter = (
        ramp_colors(ramp, steps, rng) for ramp, steps in zip(chosen, (128, 64, 64), strict=True)
    )
    parts = [soil, 0.72 * straw + 0.28 * soil[::2], 0.55 * litter + 0.45 * soil[::2]]
    return np.clip(np.concatenate(parts), 0, 255).astype(np.uint8)[:, None]


def ramp_colors(ramp: Ramp, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``(steps, 3)`` float64 display colours of a ramp, slightly tinted by the seed."""
    tint = rng.normal(1.0, 0.02, 3)
    weight = np.linspace(0.0, 1.0, steps)[:, None]
    return (np.array(ramp.dark) * (1 - weight) + np.array(ramp.light) * weight) * tint


def _gravel(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a tile of single grains and small stones, bright above and dark below, float32."""
    tile = np.zeros((size, size), np.float32)
    for count, radius in ((5000, 0), (2400, 1), (420, 2), (60, 3)):
        for x, y in rng.integers(3, size - 3, (count, 2)).tolist():
            cv2.circle(tile, (x + 1, y + 1), radius, -1.6, -1)
            cv2.circle(tile, (x, y), radius, float(rng.uniform(-0.8, 1.6)), -1)
    return tile


def _scatter_strokes(
    rng: np.random.Generator, size: int, count: int, length_px: tuple[int, int], width: int
) -> np.ndarray:
    """Return a tile of short strokes, each dark or bright, over a mid grey, uint8."""
    tile = np.full((size, size), 90, np.uint8)
    starts = rng.uniform(0, size, (count, 2))
    angles, lengths = rng.uniform(0, 2 * np.pi, count), rng.uniform(*length_px, count)
    tips = starts + np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None]
    values = rng.integers(20, 250, count)
    for start, tip, value in zip(starts.astype(int), tips.astype(int), values, strict=True):
        shadow = (int(start[0]) + 1, int(start[1]) + 1), (int(tip[0]) + 1, int(tip[1]) + 1)
        cv2.line(tile, *shadow, 30, width)
        cv2.line(tile, tuple(map(int, start)), tuple(map(int, tip)), int(value), width)
    return tile
