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
)
from offroad_seg_core.world.materials import (
    FIELD_RANGE,
    field_byte,
    ground_palette,
    light_table,
    make_tiles,
)
from offroad_seg_core.world.noise import fbm, smoothstep, to_byte
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
_TILE_CELL_M = 0.01


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
        self._tiles = make_tiles(rng, look)
        self._palette = ground_palette(rng, biome, look)
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
            [cv2.resize(field_byte(part), size) for part in (self.grass, self.clutter)]
        )
        self._far_grass = field_byte(far_grass)

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
        tone -= baked[..., TRACK] * np.float32(0.22)
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
        edge = np.float32(127.5 + threshold * 127.5 / FIELD_RANGE)
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


def _enlarge_centre(far: np.ndarray) -> np.ndarray:
    """Return the middle of a far grid on the near grid, ``(NEAR_PX, NEAR_PX)``."""
    matrix = np.array([[1, 0, 0], [0, 1, 0]], np.float32) * np.float32(NEAR_CELL_M / FAR_CELL_M)
    shift = (FAR_PX / 2 - 0.5) - (NEAR_PX / 2 - 0.5) * NEAR_CELL_M / FAR_CELL_M
    matrix[:, 2] = shift
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(far, matrix, (NEAR_PX, NEAR_PX), flags=flags)
