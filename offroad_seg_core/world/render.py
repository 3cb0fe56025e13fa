"""The scene and its picture: colour, exact labels and depth from one pose."""

from __future__ import annotations

from dataclasses import dataclass
import math

import cv2
import numpy as np

from offroad_seg_core.world.biome import SKY, Biome, Look, draw_look
from offroad_seg_core.world.camera import Camera, Pose, Rays, cast_rays
from offroad_seg_core.world.desert import DESERT
from offroad_seg_core.world.ground import Ground
from offroad_seg_core.world.raycast import cast_terrain
from offroad_seg_core.world.scatter import Population, populate
from offroad_seg_core.world.sky import Sky
from offroad_seg_core.world.sprites import NUM_BINS, warp_sprite
from offroad_seg_core.world.terrain import Terrain
from offroad_seg_core.world.track import Track

BIOMES: dict[str, Biome] = {'desert': DESERT}
TALLEST_M = {'tree': 4.2, 'log': 1.9}


@dataclass(frozen=True)
class Frame:
    """A picture with exact ground truth; every array covers the same pixels.

    Attributes:
        image_rgb: ``(H, W, 3)`` uint8 RGB.
        label_map: ``(H, W)`` uint8 class ids of the falcon10 taxonomy.
        depth_m: ``(H, W)`` float32, distance along the ray in metres, inf in the sky.
    """

    image_rgb: np.ndarray
    label_map: np.ndarray
    depth_m: np.ndarray


class Scene:
    """A piece of off-road country, the same for the same seed.

    Args:
        seed: any non-negative integer.
        biome: a name in ``BIOMES``.
        bare_plain: flat, empty ground instead of the landscape, to check camera geometry.
    """

    def __init__(self, seed: int, biome: str = 'desert', *, bare_plain: bool = False) -> None:
        if biome not in BIOMES:
            raise ValueError(f'unknown biome {biome!r}; available: {", ".join(sorted(BIOMES))}')
        if seed < 0:
            raise ValueError(f'seed {seed} is negative; use 0 or more')
        self.seed, self.biome = int(seed), biome
        data = BIOMES[biome]
        streams = np.random.default_rng(self.seed).spawn(6)
        self.look: Look = draw_look(streams[0])
        self.track = Track(streams[1])
        self.terrain = Terrain(streams[2], data, self.look, self.track, flat=bare_plain)
        self.ground = Ground(streams[3], data, self.look, self.terrain, bare=bare_plain)
        self.sky = Sky(streams[4], self.look)
        self.populations: list[Population] = []
        if not bare_plain:
            world = (self.terrain, self.track, self.ground)
            self.populations = populate(streams[5], data, self.look, world)
        self.ground.finish()


def render(scene: Scene, camera: Camera, pose: Pose) -> Frame:
    """Render one frame. Deterministic: the same arguments give the same bits."""
    rays = cast_rays(camera, pose)
    depth = cast_terrain(scene.terrain, pose, rays)
    ground = np.isfinite(depth)
    color = np.empty((*depth.shape, 3), np.uint8)
    label = np.full(depth.shape, SKY, np.uint8)
    rows = np.flatnonzero(ground.any(axis=1))
    if len(rows):
        band = slice(rows[0], rows[-1] + 1)
        reach = np.where(ground[band], depth[band], np.float32(1.0))
        x = np.float32(pose.x_m) + rays.x[band] * reach
        y = np.float32(pose.y_m) + rays.y[band] * reach
        shaded, classes = scene.ground.shade(x, y, reach, camera.focal_px)
        color[band] = shaded
        np.copyto(label[band], classes, where=ground[band])
    sky_rows = np.flatnonzero(~ground.all(axis=1))
    if len(sky_rows):
        band = slice(sky_rows[0], sky_rows[-1] + 1)
        np.copyto(color[band], scene.sky.paint(rays, band), where=~ground[band][..., None])
    canvas = _Canvas(color, label, depth)
    _draw_objects(scene, camera, pose, canvas)
    image = _veil(scene, rays, canvas)
    return Frame(image, label, depth * rays.length)


@dataclass
class _Canvas:
    """What has been drawn so far; depth is axial."""

    color: np.ndarray
    label: np.ndarray
    depth: np.ndarray


def _draw_objects(scene: Scene, camera: Camera, pose: Pose, canvas: _Canvas) -> None:
    """Draw all visible objects, far ones first, each tested against the ground's depth."""
    batches = [
        _visible(population, number, (camera, pose), canvas.depth)
        for number, population in enumerate(scene.populations)
    ]
    if not batches:
        return
    rows = np.concatenate(batches)
    rows = rows[np.argsort(-rows[:, 5], kind='stable')]
    height, width = camera.size
    focal, roll = camera.focal_px, math.radians(pose.roll_deg)
    for number, index, direction, right, down, ahead, squash in rows.tolist():
        population = scene.populations[int(number)]
        i = int(index)
        sprite = population.sprites.get(int(population.model[i]), int(direction))
        scale = float(population.scale[i])
        if not population.kind.is_flat:
            down += population.kind.sink * scale * sprite.height_m
        centre = (right / ahead * focal + width / 2, down / ahead * focal + height / 2)
        zoom = focal / ahead * scale / sprite.px_per_m
        stamp = warp_sprite(sprite, centre, zoom, (roll, squash), camera.size)
        if stamp is not None:
            _paint(canvas, stamp, population, i, ahead)


def _visible(
    population: Population, number: int, seen_by: tuple[Camera, Pose], depth: np.ndarray
) -> np.ndarray:
    """Return the objects in view, one row each.

    Columns: population, index, direction bin, right, down, ahead (m), squash (height on the
    screen of what lies flat, as a share of its length).
    """
    camera, pose = seen_by
    kind = population.kind
    relative = population.position - pose.position.astype(np.float32)
    right, down, ahead = (relative @ np.stack(pose.axes()).astype(np.float32).T).T
    inverse = camera.focal_px / np.maximum(ahead, np.float32(0.1))
    tall_px = inverse * population.scale * np.float32(TALLEST_M.get(kind.shape, 0.9))
    squash = np.ones_like(tall_px)
    if kind.is_flat:
        distance = np.sqrt((relative**2).sum(axis=1))
        squash = np.clip(-relative[:, 2] / np.maximum(distance, 0.1), 0.02, 1.0)
    height, width = camera.size
    keep = (ahead > 0.8) & (tall_px * squash > kind.min_height_px)
    keep &= np.abs(right * inverse) < width / 2 + tall_px * 1.2
    keep &= np.abs(down * inverse) < height / 2 + tall_px * 1.2
    index = np.flatnonzero(keep)
    screen = np.stack([right * inverse + width / 2, down * inverse + height / 2], 1)[index]
    index = index[~_hidden(screen, tall_px[index], ahead[index], depth)]
    azimuth = np.arctan2(relative[index, 1], relative[index, 0])
    turns = azimuth * (kind.num_directions / (2 * np.pi)) + (index % 7) / 7.0 - 0.43
    direction = np.rint(turns).astype(int) * (NUM_BINS // kind.num_directions) % NUM_BINS
    columns = (index, direction, right[index], down[index], ahead[index], squash[index])
    return np.column_stack([np.full(len(index), number), *columns])


def _hidden(
    foot_px: np.ndarray, tall_px: np.ndarray, ahead: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Return which objects have ground in front of all of 15 points of their outline's box."""
    height, width = depth.shape
    behind = np.ones(len(ahead), bool)
    for across in (-0.8, 0.0, 0.8):
        column = np.clip(foot_px[:, 0] + across * tall_px, 0, width - 1).astype(int)
        for rise in (-0.1, 0.2, 0.5, 0.8, 1.1):
            row = np.clip(foot_px[:, 1] - rise * tall_px, 0, height - 1).astype(int)
            behind &= depth[row, column] < ahead * 0.985 - 0.2
    return behind


def _paint(
    canvas: _Canvas, stamp: tuple, population: Population, index: int, ahead: float
) -> None:
    """Put a warped sprite on the canvas where no ground stands in front of it."""
    warped, alpha, region = stamp
    kind = population.kind
    depth = canvas.depth[region]
    if kind.is_flat:
        visible = np.abs(depth - ahead) < 0.3 + 0.12 * ahead
    else:
        visible = depth > ahead * 0.985 - 0.2
    solid = visible & (alpha > 127)
    if not solid.any():
        return
    color, paint = canvas.color[region], cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)
    light = float(population.light[index])
    if light < 0.95:
        paint = cv2.convertScaleAbs(paint, alpha=0.5 + 0.5 * light)
    if alpha.shape[1] > 24:
        weight = (alpha * visible).astype(np.float32) * np.float32(1 / 255)
        paint = cv2.blendLinear(paint, np.ascontiguousarray(color), weight, 1 - weight)
        np.copyto(color, paint, where=(weight > 0.05)[..., None])
    else:
        np.copyto(color, paint, where=solid[..., None])
    np.copyto(canvas.label[region], kind.label, where=solid)
    if not kind.is_flat:
        np.copyto(depth, ahead, where=solid)


def _veil(scene: Scene, rays: Rays, canvas: _Canvas) -> np.ndarray:
    """Fade what is far into the haze and apply the camera's contrast curve."""
    look = scene.look
    distance = np.minimum(canvas.depth, np.float32(1e6))
    clear = cv2.exp(distance * np.float32(-1.0 / look.haze_length_m))
    clear[canvas.label == SKY] = 1.0
    image = cv2.blendLinear(canvas.color, scene.sky.haze(rays), clear, 1.0 - clear)
    levels = np.arange(256) / 255.0
    curve = levels + (look.contrast - 1.0) * (levels - 0.5) * 4 * levels * (1 - levels)
    return cv2.LUT(image, np.clip(curve * 255.0 + 0.5, 0, 255).astype(np.uint8))
