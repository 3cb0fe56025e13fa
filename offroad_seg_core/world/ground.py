"""What the ground is made of and how it is lit, baked in the world and sampled per pixel.

Light and labels come from maps fixed to the world (so a point keeps its class as the camera
moves), at three scales: fine, medium and far. A pixel takes the scale that fits its footprint;
fine detail fades out with distance, so no class shows up as single far pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from offroad_seg_core.world.biome import (
    DRY_GRASS,
    GROUND_CLUTTER,
    LANDSCAPE,
    Biome,
    Look,
    Ramp,
    pick,
)
from offroad_seg_core.world.noise import fbm, smoothstep, to_byte, value_noise
from offroad_seg_core.world.terrain import (
    FAR_CELL_M,
    FAR_PX,
    NEAR_CELL_M,
    NEAR_HALF_M,
    NEAR_PX,
    RUT_OFFSET_M,
    Terrain,
    sun_light,
)

MAP_PX = 2048
MAP_CELL_M = 2.0 * NEAR_HALF_M / MAP_PX
SUN, OPEN, TONE, TRACK = range(4)
GRASS, CLUTTER = range(2)
_FIELD_RANGE = 3.5
_TILE_CELL_M = 0.01


def light_table(look: Look, hardness: float = 1.0) -> np.ndarray:
    """Return what a display colour is multiplied by for each direct light 0-255.

    Display values are square roots of linear ones, so the factor is the square root of the
    linear light, ``(256, 3)`` float32.
    """
    direct = (np.arange(256, dtype=np.float32) / 255.0)[:, None] * np.float32(hardness)
    return np.sqrt((look.ambient_color + direct * look.sun_color) * np.float32(look.exposure))


class Ground:
    """The baked ground of one scene.

    Attributes:
        near: ``(2048, 2048, 4)`` uint8: direct light, openness, tone, track.
        fields: ``(2048, 2048, 2)`` uint8: grass and clutter densities, 0.16 m cells.
    """

    def __init__(
        self, rng: np.random.Generator, biome: Biome, look: Look, terrain: Terrain, bare: bool
    ) -> None:
        self._bake_fields(rng, biome, terrain, bare)
        self._bake_light(rng, look, terrain)
        self._make_tiles(rng, look)
        self._palette = _ground_palette(rng, biome, look)
        self._light = np.clip(light_table(look) * 128.0, 0, 255).astype(np.uint8)[:, None]

    def _bake_fields(
        self, rng: np.random.Generator, biome: Biome, terrain: Terrain, bare: bool
    ) -> None:
        far_grass = fbm(rng, FAR_PX, 64, 3, 0.6)
        far_moist = fbm(rng, FAR_PX, 64, 3, 0.5)
        steep = np.hypot(*np.gradient(terrain.far, FAR_CELL_M))
        far_grass -= np.float32(3.0) * smoothstep(0.25, 0.55, steep).astype(np.float32)
        cover = rng.uniform(*biome.grass_cover)
        self.grass_threshold = 9.0 if bare else float(np.quantile(far_grass[::4, ::4], 1 - cover))
        base = _enlarge_centre(far_grass)
        detail = fbm(rng, NEAR_PX, 32, 5, 0.62)
        away = smoothstep(1.2, 2.6, terrain.track_distance)
        rut = np.exp(-(((terrain.track_distance - RUT_OFFSET_M) / 0.4) ** 2))
        grass = base + 0.55 * detail - 3.0 * rut - 1.3 * (1.0 - away)
        clutter = fbm(rng, NEAR_PX, 32, 6, 0.7) - 1.5 * rut
        share = rng.uniform(*biome.clutter_cover)
        self.clutter_threshold = 9.0 if bare else float(np.quantile(clutter[::4, ::4], 1 - share))
        self.moist = _enlarge_centre(far_moist)
        self.grass, self.clutter = grass.astype(np.float32), clutter.astype(np.float32)
        size = (MAP_PX, MAP_PX)
        self.fields = cv2.merge(
            [cv2.resize(_field_byte(part), size) for part in (self.grass, self.clutter)]
        )
        self._far_grass = _field_byte(far_grass)

    def _bake_light(self, rng: np.random.Generator, look: Look, terrain: Terrain) -> None:
        far_sun, far_open = sun_light(terrain.far, FAR_CELL_M, look)
        far_tone = fbm(rng, FAR_PX, 16, 6, 0.6)
        near_sun, near_open = sun_light(terrain.near_height(), NEAR_CELL_M, look)
        shade = _enlarge_centre(cv2.GaussianBlur(np.minimum(far_sun, 1.0), (0, 0), 1.0))
        hill_shadow = smoothstep(0.0, 0.08, shade)
        tone = _enlarge_centre(far_tone) + 0.5 * fbm(rng, NEAR_PX, 32, 5, 0.7)
        distance = terrain.track_distance
        rut = np.exp(-(((distance - RUT_OFFSET_M) / 0.27) ** 2))
        bed = 1.0 - smoothstep(1.3, 2.3, distance)
        parts = (
            to_byte(near_sun * hill_shadow, 0.0, 1.0),
            to_byte(near_open, 0.0, 1.0),
            to_byte(tone, -2.4, 2.4),
            to_byte(0.75 * rut + 0.25 * bed, 0.0, 1.0),
        )
        self.near = cv2.merge([cv2.resize(part, (MAP_PX, MAP_PX)) for part in parts])
        zeros = np.zeros((FAR_PX, FAR_PX), np.uint8)
        self._far = cv2.merge(
            [to_byte(far_sun, 0, 1), to_byte(far_open, 0, 1), to_byte(far_tone, -2.2, 2.2), zeros]
        )

    def _make_tiles(self, rng: np.random.Generator, look: Look) -> None:
        """Make the repeating close-up textures, 10 m wide: soil, grass litter and debris."""
        size = 1024
        relief = fbm(rng, size, 16, 7, 0.7)
        slope = np.roll(relief, 1, 1) - np.roll(relief, -1, 1)
        slope = slope * look.sun_vector[0] + (
            (np.roll(relief, 1, 0) - np.roll(relief, -1, 0)) * look.sun_vector[1]
        )
        soil = 0.5 * relief + 2.6 * slope + _gravel(rng, size)
        straw = _scatter_strokes(rng, size, 9000, (5, 16), 1)
        debris = _scatter_strokes(rng, size, 5200, (1, 4), 3)
        jitter = value_noise(rng, size, 32) + 0.8 * value_noise(rng, size, 128)
        fine = cv2.merge([_field_byte(soil), straw, debris, _field_byte(1.4 * jitter)])
        self._tiles = [fine, cv2.resize(fine, (256, 256), interpolation=cv2.INTER_AREA)]

    def finish(self) -> None:
        """Build the medium scale; call it once after the objects' shadows were stamped."""
        quarter = (MAP_PX // 4, MAP_PX // 4)
        self._middle = cv2.resize(self.near, quarter, interpolation=cv2.INTER_AREA)
        self._middle_fields = cv2.resize(self.fields, quarter, interpolation=cv2.INTER_AREA)

    def shade(
        self, x: np.ndarray, y: np.ndarray, depth: np.ndarray, focal_px: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return colour ``(h, w, 3)`` uint8 and labels ``(h, w)`` uint8 of ground points.

        Args:
            x: world x of each pixel, ``(h, w)`` float32 metres.
            y: world y of each pixel.
            depth: axial depth of each pixel, metres; must be finite.
            focal_px: focal length of the camera, which sets the footprint of a pixel.
        """
        baked, fields = self._sample_maps(x, y, depth)
        fine, coarse = self._sample_tiles(x, y, depth)
        footprint = depth * depth * np.float32(0.5 / focal_px)
        closeness = np.float32(1.0) / (np.float32(1.0) + (footprint * np.float32(7.0)) ** 2)
        mid_closeness = np.float32(1.0) / (np.float32(1.0) + (footprint * np.float32(0.8)) ** 2)
        half = np.float32(127.5)
        ragged = (fine[..., 3] - half) * closeness + (coarse[..., 3] - half) * (
            mid_closeness * np.float32(0.5)
        )
        grass = self._cover(fields[..., GRASS], ragged, self.grass_threshold)
        clutter = self._cover(fields[..., CLUTTER], ragged, self.clutter_threshold)
        detail = (fine[..., 0] - half) * closeness
        detail += (coarse[..., 0] - half) * (mid_closeness * np.float32(0.7))
        tone = baked[..., TONE] + detail * np.float32(1.15)
        tone -= baked[..., TRACK] * np.float32(0.16)
        straw = tone * np.float32(0.14) + (fine[..., 1] - half) * closeness * np.float32(0.24) + 26
        litter = (
            tone * np.float32(0.14) + (fine[..., 2] - half) * closeness * np.float32(0.34) + 20
        )
        soil = np.clip(tone * np.float32(0.5), 0, 127)
        layers = (
            (np.clip(litter, 0, 63) + 192, clutter),
            (np.clip(straw, 0, 63) + 128, grass),
        )
        label = np.full(depth.shape, LANDSCAPE, np.uint8)
        label[clutter > 0.5] = GROUND_CLUTTER
        label[grass > 0.5] = DRY_GRASS
        return self._light_up(self._blend(soil, layers), baked), label

    @staticmethod
    def _cover(field: np.ndarray, ragged: np.ndarray, threshold: float) -> np.ndarray:
        """Return how much of a pixel a material covers, 0 to 1; its label starts at one half."""
        edge = np.float32(127.5 + threshold * 127.5 / _FIELD_RANGE)
        cover = (field + ragged * np.float32(0.3) - edge) * np.float32(1.0 / 9.0) + np.float32(0.5)
        return np.clip(cover, 0.0, 1.0, out=cover)

    def _blend(self, soil: np.ndarray, layers: tuple) -> np.ndarray:
        """Paint materials over each other, each by its cover; return the albedo."""
        albedo = cv2.applyColorMap(soil.astype(np.uint8), self._palette)
        for index, cover in layers:
            color = cv2.applyColorMap(index.astype(np.uint8), self._palette)
            if cover.any():
                albedo = cv2.blendLinear(color, albedo, cover, np.float32(1.0) - cover)
        return albedo

    def _light_up(self, albedo: np.ndarray, baked: np.ndarray) -> np.ndarray:
        openness = np.ascontiguousarray(baked[..., OPEN])
        direct = np.ascontiguousarray(baked[..., SUN])
        light = cv2.applyColorMap(direct, self._light)
        light = cv2.multiply(light, cv2.merge([openness] * 3), scale=1.0 / 255.0)
        return cv2.multiply(albedo, light, scale=1.0 / 128.0)

    def _sample_maps(
        self, x: np.ndarray, y: np.ndarray, depth: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = depth.shape
        baked, fields = np.empty((*shape, 4), np.uint8), np.empty((*shape, 2), np.uint8)
        inside = np.maximum(np.abs(x), np.abs(y)) < np.float32(NEAR_HALF_M - 3.0)
        fine = inside & (depth < 22.0)
        far = ~inside
        levels = (
            (fine, self.near, self.fields, MAP_CELL_M),
            (inside & ~fine, self._middle, self._middle_fields, MAP_CELL_M * 4),
            (far, self._far, None, FAR_CELL_M),
        )
        for mask, maps, field_maps, cell in levels:
            rows = np.flatnonzero(mask.any(axis=1))
            if not len(rows):
                continue
            band = slice(rows[0], rows[-1] + 1)
            scale, shift = np.float32(1.0 / cell), np.float32(maps.shape[0] / 2.0 - 0.5)
            column, row = x[band] * scale + shift, y[band] * scale + shift
            chosen = mask[band][..., None]
            np.copyto(baked[band], _remap(maps, column, row), where=chosen)
            if field_maps is None:
                far_field = _remap(self._far_grass, column, row)
                sampled = np.stack([far_field, np.zeros_like(far_field)], axis=-1)
            else:
                sampled = _remap(field_maps, column, row)
            np.copyto(fields[band], sampled, where=chosen)
        return baked, fields

    def _sample_tiles(
        self, x: np.ndarray, y: np.ndarray, depth: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the close-up texture at its own scale and at 7 times its scale, 0-255."""
        fine_tile, small_tile = self._tiles
        near = np.flatnonzero((depth < 30.0).any(axis=1))
        fine = np.full((*depth.shape, 4), 127, np.uint8)
        if len(near):
            band = slice(near[0], near[-1] + 1)
            scale = np.float32(1.0 / _TILE_CELL_M)
            fine[band] = _wrap(fine_tile, x[band] * scale, y[band] * scale)
        scale = np.float32(0.25 / (_TILE_CELL_M * 7.0))
        return fine, _wrap(small_tile, x * scale, y * scale)


def _remap(maps: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    return cv2.remap(maps, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _wrap(tile: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    return cv2.remap(tile, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _field_byte(field: np.ndarray) -> np.ndarray:
    return to_byte(field, -_FIELD_RANGE, _FIELD_RANGE)


def _enlarge_centre(far: np.ndarray) -> np.ndarray:
    """Return the middle of a far grid on the near grid, ``(NEAR_PX, NEAR_PX)``."""
    matrix = np.array([[1, 0, 0], [0, 1, 0]], np.float32) * np.float32(NEAR_CELL_M / FAR_CELL_M)
    shift = (FAR_PX / 2 - 0.5) - (NEAR_PX / 2 - 0.5) * NEAR_CELL_M / FAR_CELL_M
    matrix[:, 2] = shift
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(far, matrix, (NEAR_PX, NEAR_PX), flags=flags)


def _ground_palette(rng: np.random.Generator, biome: Biome, look: Look) -> np.ndarray:
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
