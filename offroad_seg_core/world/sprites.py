"""Lit pictures of the shapes, for the sun and the colours of a scene, at several sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
import math
from typing import Protocol
import zlib

import cv2
import numpy as np

from offroad_seg_core.world import plants, stones
from offroad_seg_core.world.biome import Biome, Look, ObjectKind, pick
from offroad_seg_core.world.materials import light_table, ramp_colors
from offroad_seg_core.world.strokes import LEVELS, View

NUM_BINS = 24
"""Viewing directions of a shape, 15 degrees apart."""
_LIBRARY = 12
"""Shapes of a kind; a scene uses some of them."""


class Shape(Protocol):
    """Anything that can be pictured from a side."""

    def view(self, yaw_rad: float) -> View:
        """Return the unlit picture for a viewing direction."""
        ...


BUILDERS: dict[str, Callable[[np.random.Generator], Shape]] = {
    'grass': plants.grass,
    'dry_bush': plants.dry_bush,
    'lush_bush': plants.lush_bush,
    'tree': plants.tree,
    'flower': plants.flower,
    'clutter': plants.clutter,
    'rock': stones.rock,
    'log': stones.log,
}


@lru_cache(maxsize=256)
def _shape(name: str, number: int) -> Shape:
    """Build a shape; the same in every scene and process."""
    return BUILDERS[name](np.random.default_rng([zlib.crc32(name.encode()), number]))


@lru_cache(maxsize=1024)
def _view(name: str, number: int, direction: int) -> View:
    return _shape(name, number).view(direction * 2.0 * math.pi / NUM_BINS)


@dataclass(frozen=True)
class Sprite:
    """A lit picture.

    ``levels[i]`` is ``(h, w, 4)`` uint8 RGBA with the colour multiplied by alpha (so that no rim
    shows), each half the size of the one before.
    """

    levels: tuple[np.ndarray, ...]
    foot_px: tuple[float, float]
    px_per_m: float

    @property
    def height_m(self) -> float:
        """Height above the foot, metres."""
        return self.foot_px[1] / self.px_per_m


class SpriteSet:
    """The sprites of one object kind in one scene, made when first seen."""

    def __init__(
        self, rng: np.random.Generator, kind: ObjectKind, biome: Biome, look: Look
    ) -> None:
        self._kind, self._look = kind, look
        self.numbers = rng.permutation(_LIBRARY)[: kind.num_models]
        choice = look.grass_choice if kind.field == 'grass' else float(rng.uniform())
        ramps = pick(kind.palettes, choice)
        colors = np.zeros((256, 3))
        for material, ramp in enumerate(ramps):
            colors[material * LEVELS : (material + 1) * LEVELS] = ramp_colors(ramp, LEVELS, rng)
        soil = ramp_colors(pick(biome.soils, look.soil_choice), LEVELS, rng)
        grown = slice(0, len(ramps) * LEVELS)
        colors[grown] += (np.tile(soil, (len(ramps), 1)) - colors[grown]) * kind.soil_share
        colors[0] = 0.0
        self._colors = np.clip(colors, 0, 255).astype(np.uint8)[:, None]
        self._cache: dict[tuple[int, int], Sprite] = {}

    def get(self, model: int, direction: int) -> Sprite:
        """Return model ``model`` lit and seen along direction bin ``direction``."""
        key = (model, direction)
        if key not in self._cache:
            name, number = self._kind.shape, int(self.numbers[model])
            self._cache[key] = self._light(_view(name, number, direction), direction)
        return self._cache[key]

    def silhouette(self, model: int, yaw_rad: float) -> tuple[np.ndarray, View]:
        """Return the alpha ``(h, w)`` uint8 of the shape seen along the sunlight."""
        direction = round(yaw_rad * NUM_BINS / (2 * math.pi)) % NUM_BINS
        view = _view(self._kind.shape, int(self.numbers[model]), direction)
        return np.where(view.gbuffer[..., 0] > 0, 255, 0).astype(np.uint8), view

    def _light(self, view: View, direction: int) -> Sprite:
        buffer = view.gbuffer
        yaw = direction * 2.0 * math.pi / NUM_BINS
        east, north, up = (float(v) for v in self._look.sun_vector)
        right = east * math.sin(yaw) - north * math.cos(yaw)
        toward = -(east * math.cos(yaw) + north * math.sin(yaw))
        ct, st = math.cos(view.tilt), math.sin(view.tilt)
        sun = np.array([0.0, right, up * ct - toward * st, toward * ct + up * st], np.float32)
        cosine = _cosine(buffer, sun)
        wrap = np.float32(self._kind.wrap)
        direct = np.clip((cosine + wrap * 0.75) / (1 + wrap * 0.75), 0.0, 1.0)
        factors = np.clip(light_table(self._look) * 128.0, 0, 255).astype(np.uint8)[:, None]
        light = cv2.applyColorMap((direct * 255).astype(np.uint8), factors)
        albedo = cv2.applyColorMap(np.ascontiguousarray(buffer[..., 0]), self._colors)
        color = cv2.multiply(albedo, light, scale=1.0 / 128.0)
        return Sprite(_pyramid(color, buffer[..., 0] > 0), view.foot_px, view.px_per_m)


def _cosine(buffer: np.ndarray, sun: np.ndarray) -> np.ndarray:
    """Return the dot product of the packed normals with the sun, ``(h, w)`` float32."""
    matrix = (sun / 127.5).astype(np.float32)[None]
    return cv2.transform(buffer.astype(np.float32), matrix) - np.float32(sun.sum())


def _pyramid(color: np.ndarray, solid: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the picture, black where it is empty, at halving sizes."""
    levels = [np.dstack([color, solid.astype(np.uint8) * 255])]
    while len(levels) < 6 and min(levels[-1].shape[:2]) >= 8:
        height, width = levels[-1].shape[:2]
        half = (width // 2, height // 2)
        levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def warp_sprite(
    sprite: Sprite,
    centre: tuple[float, float],
    zoom: float,
    bearing: tuple[float, float],
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]] | None:
    """Return a sprite as it falls on the screen: RGBA, opacity and region; None outside.

    Args:
        sprite: what to draw.
        centre: (column, row) of its foot on the screen.
        zoom: screen pixels for a pixel of the sprite's largest picture.
        bearing: (roll in radians, vertical squash).
        size: (height, width) of the screen.
    """
    roll, squash = bearing
    level = max(0, math.floor(0.35 - math.log2(max(zoom, 1e-6))))
    level = min(level, len(sprite.levels) - 1)
    picture = sprite.levels[level]
    height, width = picture.shape[:2]
    ratio_x = sprite.levels[0].shape[1] / width
    ratio_y = sprite.levels[0].shape[0] / height
    cos, sin = math.cos(roll) * zoom, -math.sin(roll) * zoom
    a, b, c, d = cos * ratio_x, -sin * ratio_y * squash, sin * ratio_x, cos * ratio_y * squash
    foot_x, foot_y = sprite.foot_px[0] / ratio_x, sprite.foot_px[1] / ratio_y
    tx, ty = centre[0] - a * foot_x - b * foot_y, centre[1] - c * foot_x - d * foot_y
    xs = (tx, tx + a * width, tx + b * height, tx + a * width + b * height)
    ys = (ty, ty + c * width, ty + d * height, ty + c * width + d * height)
    left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
    right, bottom = min(size[1], math.ceil(max(xs)) + 1), min(size[0], math.ceil(max(ys)) + 1)
    if right <= left or bottom <= top:
        return None
    half = 0.5
    matrix = np.array(
        [[a, b, tx - left - half + half * (a + b)], [c, d, ty - top - half + half * (c + d)]]
    )
    warped = cv2.warpAffine(picture, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    warped = cv2.cvtColor(warped, cv2.COLOR_mRGBA2RGBA)
    # Thin parts lose coverage when averaged: without this a twig vanishes from a distance.
    alpha = cv2.convertScaleAbs(cv2.extractChannel(warped, 3), alpha=1.0 + 0.25 * min(level, 2))
    return warped, alpha, (slice(top, bottom), slice(left, right))
