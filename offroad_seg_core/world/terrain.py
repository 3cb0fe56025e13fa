"""The heightfield: hills to the horizon, detail where the vehicle drives, sun and shadow."""

from __future__ import annotations

import cv2
import numpy as np

from offroad_seg_core.world.biome import Biome, Look
from offroad_seg_core.world.noise import fbm, ridged, smoothstep, value_noise
from offroad_seg_core.world.track import Track

FAR_PX, FAR_CELL_M = 1024, 4.0
NEAR_PX, NEAR_CELL_M = 1024, 0.3125
NEAR_HALF_M = NEAR_PX * NEAR_CELL_M / 2.0
RUT_OFFSET_M = 0.85
_EDGE_M = 25.0


def to_grid(x: np.ndarray, y: np.ndarray, cell_m: float, size_px: int) -> tuple:
    """Return the float32 (column, row) of world points in a square grid around the origin."""
    scale, shift = np.float32(1.0 / cell_m), np.float32(size_px / 2.0 - 0.5)
    return x * scale + shift, y * scale + shift


def sample(
    grid: np.ndarray, x: np.ndarray, y: np.ndarray, cell_m: float, border: int
) -> np.ndarray:
    """Sample a square grid bilinearly at world points ``(h, w)`` float32; rows are y."""
    column, row = to_grid(x, y, cell_m, grid.shape[0])
    return cv2.remap(grid, column, row, cv2.INTER_LINEAR, borderMode=border)


def sample_points(grid: np.ndarray, points: np.ndarray, cell_m: float, border: int) -> np.ndarray:
    """Sample a square grid bilinearly at ``(N, 2)`` world points, any N; return ``(N,)``."""
    width = 1024  # cv2.remap refuses sides of 32767 and more, so a list is folded to a picture
    padded = np.zeros((-(-len(points) // width) * width, 2), np.float32)
    padded[: len(points)] = points
    x, y = (np.ascontiguousarray(padded[:, i].reshape(-1, width)) for i in range(2))
    if not len(points):
        return np.zeros(0, grid.dtype)
    return sample(grid, x, y, cell_m, border).ravel()[: len(points)]


class Terrain:
    """Ground height and its light, on a far grid and a near one.

    Attributes:
        far: ``(1024, 1024)`` float32 heights in metres, 4 m cells: the hills to the horizon.
        near_delta: ``(1024, 1024)`` float32, 0.31 m cells: what is added to ``far`` around the
            track; 0 at its border, so that the sum has no step.
        track_distance: ``(1024, 1024)`` float32 metres to the middle of the track, near grid.
    """

    def __init__(
        self, rng: np.random.Generator, biome: Biome, look: Look, track: Track, flat: bool = False
    ) -> None:
        self.track_distance = _track_distance(track)
        if flat:
            self.far = np.zeros((FAR_PX, FAR_PX), np.float32)
            self.near_delta = np.zeros((NEAR_PX, NEAR_PX), np.float32)
        else:
            self.far = _far_heights(rng, biome, look)
            detail = _near_detail(rng, biome, look)
            self.near_delta = self._carve(self._near_base(), detail)

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the ground height in metres at world points ``(h, w)`` float32."""
        far = sample(self.far, x, y, FAR_CELL_M, cv2.BORDER_REPLICATE)
        return far + sample(self.near_delta, x, y, NEAR_CELL_M, cv2.BORDER_CONSTANT)

    def height_at(self, points: np.ndarray) -> np.ndarray:
        """Return the ground height at ``(N, 2)`` points as ``(N,)`` float32."""
        far = sample_points(self.far, points, FAR_CELL_M, cv2.BORDER_REPLICATE)
        near = sample_points(self.near_delta, points, NEAR_CELL_M, cv2.BORDER_CONSTANT)
        return far + near

    def track_distance_at(self, points: np.ndarray) -> np.ndarray:
        """Return the distance of ``(N, 2)`` points to the middle of the track, ``(N,)`` m."""
        return sample_points(self.track_distance, points, NEAR_CELL_M, cv2.BORDER_REPLICATE)

    def steepness_at(self, points: np.ndarray) -> np.ndarray:
        """Return the slope of the far hills at ``(N, 2)`` points, rise over run, ``(N,)``."""
        steep = np.hypot(*np.gradient(self.far, FAR_CELL_M)).astype(np.float32)
        return sample_points(steep, points, FAR_CELL_M, cv2.BORDER_REPLICATE)

    def near_height(self) -> np.ndarray:
        """Return the full height on the near grid, ``(1024, 1024)`` float32."""
        return self._near_base() + self.near_delta

    def _near_base(self) -> np.ndarray:
        axis = (np.arange(NEAR_PX, dtype=np.float32) - (NEAR_PX / 2 - 0.5)) * NEAR_CELL_M
        x, y = np.meshgrid(axis, axis)
        return sample(self.far, x, y, FAR_CELL_M, cv2.BORDER_REPLICATE)

    def _carve(self, base: np.ndarray, detail: np.ndarray) -> np.ndarray:
        """Smooth the ground along the track and press the ruts; return the change to base."""
        height = base + detail
        level = cv2.GaussianBlur(height, (0, 0), 9.0, borderType=cv2.BORDER_REFLECT)
        near_track = np.exp(-((self.track_distance / 4.0) ** 2))
        height += (level - height) * near_track
        rut = np.exp(-(((self.track_distance - RUT_OFFSET_M) / 0.3) ** 2))
        height -= np.float32(0.07) * rut
        return (height - base) * _edge_fade()


def _edge_fade() -> np.ndarray:
    axis = (np.arange(NEAR_PX, dtype=np.float32) - (NEAR_PX / 2 - 0.5)) * NEAR_CELL_M
    ramp = np.clip((NEAR_HALF_M - 2.0 - np.abs(axis)) / _EDGE_M, 0.0, 1.0)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return ramp[:, None] * ramp[None]


def _track_distance(track: Track) -> np.ndarray:
    column, row = to_grid(track.points[:, 0], track.points[:, 1], NEAR_CELL_M, NEAR_PX)
    corners = np.rint(np.stack([column, row], axis=1) * 16).astype(np.int32)
    canvas = np.full((NEAR_PX, NEAR_PX), 255, np.uint8)
    cv2.polylines(canvas, [corners[:, None]], True, 0, 1, cv2.LINE_8, shift=4)
    distance = cv2.distanceTransform(canvas, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return cv2.GaussianBlur(distance, (0, 0), 0.8) * np.float32(NEAR_CELL_M)


def _far_heights(rng: np.random.Generator, biome: Biome, look: Look) -> np.ndarray:
    axis = (np.arange(FAR_PX, dtype=np.float32) - (FAR_PX / 2 - 0.5)) * FAR_CELL_M
    radius = np.hypot(axis[:, None], axis[None])
    height = fbm(rng, FAR_PX, 8, 6, 0.42) * np.float32(9.0 * look.roughness)
    height *= smoothstep(60.0, 420.0, radius) * 0.85 + 0.15
    mountains = ridged(rng, FAR_PX, 4, 7) * (value_noise(rng, FAR_PX, 4) * 0.5 + 0.6)
    height += mountains * rng.uniform(*biome.mountain_m) * smoothstep(380.0, 1700.0, radius)
    if rng.uniform() < biome.mesa_chance:
        plateau = fbm(rng, FAR_PX, 8, 5, 0.45)
        cliff = smoothstep(0.55, 0.75, plateau) + 0.35 * smoothstep(0.1, 0.5, plateau)
        height += cliff * rng.uniform(35.0, 85.0) * smoothstep(330.0, 620.0, radius)
    return height.astype(np.float32)


def _near_detail(rng: np.random.Generator, biome: Biome, look: Look) -> np.ndarray:
    hills = rng.uniform(*biome.hill_m) * look.roughness
    detail = fbm(rng, NEAR_PX, 4, 2, 0.4) * np.float32(hills)
    detail += fbm(rng, NEAR_PX, 16, 2, 0.4) * np.float32(0.28 * look.roughness)
    return detail + fbm(rng, NEAR_PX, 64, 3, 0.55) * np.float32(0.05 * look.roughness)


def sun_light(height: np.ndarray, cell_m: float, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Return the direct light and the openness to the sky of a height grid, each in [0, 1].

    Direct light is the cosine to the sun, 0 where a hill stands in between; the shadow is found
    by shifting the grid along the sun's azimuth in growing steps.
    """
    dy, dx = np.gradient(height, cell_m)
    sun = look.sun_vector
    inverse = 1.0 / np.sqrt(1.0 + dx * dx + dy * dy)
    cosine = np.clip((sun[2] - dx * sun[0] - dy * sun[1]) * inverse, 0.0, 1.0)
    flat = float(np.hypot(sun[0], sun[1]))
    blocker = np.full_like(height, -1e9)
    distance = cell_m * 2.0
    while distance < cell_m * 160:
        shift = np.float32(distance / flat / cell_m)
        matrix = np.array([[1, 0, shift * sun[0]], [0, 1, shift * sun[1]]], np.float32)
        moved = cv2.warpAffine(
            height,
            matrix,
            height.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        np.maximum(blocker, moved - np.float32(distance * sun[2] / flat), out=blocker)
        distance *= 1.22
    softness = np.float32(0.4 + cell_m * 0.6)
    lit = np.clip((height - blocker) / softness + 0.5, 0.0, 1.0)
    hollow = height - cv2.GaussianBlur(height, (0, 0), 5.0)
    openness = np.clip(0.85 + hollow * np.float32(0.5 / cell_m), 0.45, 1.0)
    return (cosine * lit).astype(np.float32), openness.astype(np.float32)
