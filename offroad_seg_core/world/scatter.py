"""Where the objects stand, and the shadows that they cast on the ground."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from offroad_seg_core.world.biome import DRY_GRASS, Biome, Look, ObjectKind
from offroad_seg_core.world.ground import MAP_CELL_M, MAP_PX, OPEN, SUN, Ground
from offroad_seg_core.world.noise import smoothstep
from offroad_seg_core.world.sprites import SpriteSet
from offroad_seg_core.world.terrain import NEAR_CELL_M, Terrain, sample_points, to_grid
from offroad_seg_core.world.track import Track


@dataclass(frozen=True)
class Population:
    """All objects of one kind; arrays of length N."""

    kind: ObjectKind
    sprites: SpriteSet
    position: np.ndarray
    """(N, 3) float32 metres; z is the foot."""
    scale: np.ndarray
    model: np.ndarray
    light: np.ndarray
    """Share of daylight at the foot, 0 to 1: objects in a hill's shadow are dark."""


def populate(
    rng: np.random.Generator, biome: Biome, look: Look, world: tuple[Terrain, Track, Ground]
) -> list[Population]:
    """Scatter every kind of the biome over the ground and stamp the shadows."""
    terrain, track, ground = world
    populations = []
    for kind in biome.objects:
        sprites = SpriteSet(rng, kind, biome, look)
        points = _wild(rng, kind, look, ground)
        points = np.concatenate([points, _roadside(rng, kind, look, track)])
        distance = terrain.track_distance_at(points)
        points = points[distance > kind.clearance_m]
        points = points[terrain.steepness_at(points) < kind.max_slope]
        count = len(points)
        spread = rng.uniform(0.0, 1.0, count) ** 1.6
        scale = kind.scale[0] + (kind.scale[1] - kind.scale[0]) * spread
        height = terrain.height_at(points)
        position = np.column_stack([points, height]).astype(np.float32)
        light = _light_at(ground, position)
        model = rng.integers(0, kind.num_models, count)
        populations.append(
            Population(kind, sprites, position, scale.astype(np.float32), model, light)
        )
    _cast_shadows(populations, look, world)
    return populations


def _wild(rng: np.random.Generator, kind: ObjectKind, look: Look, ground: Ground) -> np.ndarray:
    """Return ``(N, 2)`` points where the kind's noise field lets it grow."""
    area_ha = (2.0 * kind.extent_m) ** 2 / 1e4
    density = look.density * rng.lognormal(0.0, 0.35)
    points = rng.uniform(
        -kind.extent_m, kind.extent_m, (rng.poisson(kind.per_ha * density * area_ha), 2)
    )
    if kind.field == 'any':
        return points
    field = {'grass': ground.grass, 'moist': ground.moist, 'clutter': ground.clutter}[kind.field]
    value = sample_points(field, points, NEAR_CELL_M, cv2.BORDER_REFLECT)
    start = {'grass': ground.grass_threshold, 'moist': 0.1, 'clutter': ground.clutter_threshold}[
        kind.field
    ]
    chance = smoothstep(start - 0.25, start + 0.5, value) + 0.02
    return points[rng.uniform(size=len(points)) < chance]


def _roadside(rng: np.random.Generator, kind: ObjectKind, look: Look, track: Track) -> np.ndarray:
    """Return ``(N, 2)`` points beside the track, in small groups."""
    density = look.density * rng.lognormal(0.0, 0.35)
    count = rng.poisson(kind.roadside_per_km * density * track.length_m / 1000.0)
    along = rng.uniform(0.0, track.length_m, count)
    heading = track.heading_rad(along)
    side = rng.choice([-1.0, 1.0], count) * rng.uniform(*kind.roadside_m, count)
    offset = np.stack([-np.sin(heading), np.cos(heading)], axis=1) * side[:, None]
    return track.at(along) + offset + rng.normal(0.0, 0.8, (count, 2))


def _light_at(ground: Ground, position: np.ndarray) -> np.ndarray:
    column, row = to_grid(position[:, 0], position[:, 1], MAP_CELL_M, MAP_PX)
    column = np.clip(np.rint(column), 0, MAP_PX - 1).astype(int)
    row = np.clip(np.rint(row), 0, MAP_PX - 1).astype(int)
    return np.clip(ground.near[row, column, SUN].astype(np.float32) / 50.0, 0.0, 1.0)


def _cast_shadows(
    populations: list[Population], look: Look, world: tuple[Terrain, Track, Ground]
) -> None:
    """Lay the silhouettes along the sunlight on the light map, and darken the ground at the feet.

    Low plants far from the track get none; they are seen too small.
    """
    terrain, _, ground = world
    shadow, contact = (np.zeros((MAP_PX, MAP_PX), np.uint8) for _ in range(2))
    for population in populations:
        if population.kind.is_flat:
            continue
        away_m = terrain.track_distance_at(population.position[:, :2])
        limit = 18.0 if population.kind.label == DRY_GRASS else 70.0
        _stamp_population(population, np.flatnonzero(away_m < limit), look, (shadow, contact))
    near = ground.near
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.7)
    contact = cv2.GaussianBlur(contact, (0, 0), 1.4)
    for channel, veil in ((SUN, _inverse(shadow, 0.85)), (OPEN, _inverse(contact, 0.55))):
        near[..., channel] = cv2.multiply(near[..., channel].copy(), veil, scale=1.0 / 255.0)


def _stamp_population(
    population: Population,
    index: np.ndarray,
    look: Look,
    canvases: tuple[np.ndarray, np.ndarray],
) -> None:
    shadow, contact = canvases
    away = -look.sun_vector[:2] / np.hypot(*look.sun_vector[:2])
    across = np.array([away[1], -away[0]])
    stretch = min(1.0 / np.tan(np.radians(look.sun_elevation_deg)), 3.0)
    yaw = float(np.arctan2(away[1], away[0]))
    silhouettes: dict[int, tuple] = {}
    column, row = to_grid(population.position[:, 0], population.position[:, 1], MAP_CELL_M, MAP_PX)
    for i in index.tolist():
        u, v, scale, model = column[i], row[i], population.scale[i], int(population.model[i])
        if not (8 < u < MAP_PX - 8 and 8 < v < MAP_PX - 8):
            continue
        if model not in silhouettes:
            silhouettes[model] = _small_silhouette(population, model, yaw)
        alpha, foot, px_per_m = silhouettes[model]
        unit = scale / px_per_m / MAP_CELL_M
        basis = np.column_stack([across * unit, -away * unit * stretch])
        _stamp(shadow, alpha, basis, np.array([u, v]) - basis @ foot)
        reach = max(1, round(0.2 * alpha.shape[1] * unit))
        cv2.circle(contact, (round(float(u)), round(float(v))), reach, 150, -1)


def _inverse(image: np.ndarray, strength: float) -> np.ndarray:
    table = np.clip(255.0 - strength * np.arange(256), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table)


def _small_silhouette(population: Population, model: int, yaw: float) -> tuple:
    alpha, view = population.sprites.silhouette(model, yaw)
    factor = 4
    size = (max(2, alpha.shape[1] // factor), max(2, alpha.shape[0] // factor))
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    foot = np.array(view.foot_px) * (size[0] / alpha.shape[1])
    return small, foot, view.px_per_m * size[0] / alpha.shape[1]


def _stamp(canvas: np.ndarray, alpha: np.ndarray, basis: np.ndarray, origin: np.ndarray) -> None:
    """Warp ``alpha`` onto ``canvas`` with the affine map (basis, origin), keeping the maximum."""
    height, width = alpha.shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ basis.T + origin
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 2, canvas.shape[0])
    if (high - low < 1).any():
        return
    matrix = np.column_stack([basis, origin - low])
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    warped = cv2.warpAffine(alpha, matrix, size, flags=cv2.INTER_LINEAR)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    np.maximum(region, warped, out=region)
