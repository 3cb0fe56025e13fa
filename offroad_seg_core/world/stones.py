"""Rocks cut by planes and logs as cylinders, each pixel's surface found by its ray."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np

from offroad_seg_core.world.noise import fbm
from offroad_seg_core.world.strokes import LEVELS, TILT, View


def _frame(yaw_rad: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return right, up and towards-the-viewer of a view, in model axes."""
    cos, sin, ct, st = math.cos(yaw_rad), math.sin(yaw_rad), math.cos(TILT), math.sin(TILT)
    right = np.array([sin, -cos, 0.0])
    toward = np.array([-cos * ct, -sin * ct, st])
    return right, np.cross(toward, right), toward


def _pack(
    solid: np.ndarray, tone: np.ndarray, normal: np.ndarray, frame: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Return the ``(h, w, 4)`` uint8 picture of a surface with model normals ``(h, w, 3)``."""
    gbuffer = np.zeros((*solid.shape, 4), np.uint8)
    turned = normal @ np.stack(frame, axis=1)
    gbuffer[..., 0] = tone
    gbuffer[..., 1:] = np.clip(127.5 + 127.5 * turned, 0, 255)
    gbuffer[~solid] = 0
    return gbuffer


def _plane(half_width: float, top: float, bottom: float, width_px: int) -> tuple:
    px_per_m = width_px / (2.0 * half_width)
    columns = (np.arange(width_px) + 0.5) / px_per_m - half_width
    rows = top - (np.arange(math.ceil((top - bottom) * px_per_m)) + 0.5) / px_per_m
    return np.meshgrid(columns, rows), (half_width * px_per_m, top * px_per_m), px_per_m


@dataclass(frozen=True)
class Rock:
    """A convex stone of about 1 m: the points with ``normals @ p <= offsets``."""

    normals: np.ndarray
    offsets: np.ndarray
    grain: np.ndarray
    """(128, 128) float32 noise, mean 0, deviation 1."""

    def view(self, yaw_rad: float) -> View:
        """Picture the rock as seen by someone who looks along ``yaw_rad``."""
        right, up, toward = _frame(yaw_rad)
        (columns, rows), foot, px_per_m = _plane(0.66, 0.8, -0.35, 144)
        origin = columns[..., None] * right + rows[..., None] * up
        enter, leave = np.full(columns.shape, 9.0), np.full(columns.shape, -9.0)
        face = np.zeros(columns.shape, int)
        for index, (normal, offset) in enumerate(zip(self.normals, self.offsets, strict=True)):
            facing = float(normal @ toward)
            if abs(facing) < 1e-6:
                facing = 1e-6  # seen edge-on: everything beyond the plane is outside
            reach = (offset - origin @ normal) / facing
            if facing > 0:
                closer = reach < enter
                enter[closer] = reach[closer]
                face[closer] = index
            else:
                leave = np.maximum(leave, reach)
        solid = enter > leave
        surface = origin + enter[..., None] * toward
        at = np.mod(np.rint(surface * 70.0), 128).astype(int)
        grain = self.grain[at[..., 0], at[..., 2]] + self.grain[at[..., 1], at[..., 2]]
        bump = np.stack([grain, self.grain[at[..., 2], at[..., 0]] * 1.4, 0 * grain], -1)
        normal = self.normals[face] + 0.16 * bump
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        layer = np.sin(surface[..., 2] * 26.0 + grain * 0.5)
        height = np.clip(surface[..., 2] / 0.25, 0.0, 1.0)
        tone = 18 + 17 * height + 7.0 * grain + 3.0 * layer + (face % 5) * 1.5
        tone = np.clip(tone, 1, LEVELS - 1)
        return View(_pack(solid, tone, normal, (right, up, toward)), foot, px_per_m)


def rock(rng: np.random.Generator) -> Rock:
    """Cut a stone from an ellipsoid: few planes give a block, many a boulder."""
    count = int(rng.choice([14, 20, 30, 54]))
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[0] = (0, 0, 1)
    axes = np.array([rng.uniform(0.38, 0.58), rng.uniform(0.34, 0.5), rng.uniform(0.22, 0.42)])
    support = np.linalg.norm(normals * axes, axis=1)
    offsets = support * rng.uniform(0.7, 1.0, count) + normals[:, 2] * axes[2] * 0.75
    box = np.concatenate([np.eye(3), -np.eye(3)])
    reach = np.concatenate([axes, axes]) * 0.98 + box[:, 2] * axes[2] * 0.75
    return Rock(
        np.concatenate([normals, box]), np.concatenate([offsets, reach]), fbm(rng, 128, 8, 5, 0.6)
    )


@dataclass(frozen=True)
class Log:
    """A lying trunk along the model's x axis."""

    half_length: float
    radius: float
    yaw_rad: float
    bend: float
    grain: np.ndarray

    def view(self, yaw_rad: float) -> View:
        """Picture the log as seen by someone who looks along ``yaw_rad``."""
        right, up, toward = _frame(yaw_rad + self.yaw_rad)
        half = self.half_length + 0.1
        (columns, rows), foot, px_per_m = _plane(half, 3.0 * self.radius + 0.35, -0.4, 384)
        origin = columns[..., None] * right + rows[..., None] * up
        origin[..., 2] -= self.radius
        origin[..., 1] -= self.bend * np.cos(origin[..., 0] * 1.6)
        radius = self._radius(origin[..., 0])
        a = toward[1] ** 2 + toward[2] ** 2
        b = origin[..., 1] * toward[1] + origin[..., 2] * toward[2]
        c = origin[..., 1] ** 2 + origin[..., 2] ** 2 - radius**2
        root = b * b - a * c
        reach = (-b + np.sqrt(np.maximum(root, 0.0))) / a
        side = origin + reach[..., None] * toward
        on_side = (root > 0) & (np.abs(side[..., 0]) < self.half_length)
        end_x = math.copysign(self.half_length, toward[0])
        end = origin + ((end_x - origin[..., 0]) / (toward[0] + 1e-6))[..., None] * toward
        centre_distance = np.hypot(end[..., 1], end[..., 2])
        on_end = (centre_distance < self._radius(end[..., 0])) & ~on_side
        angle = np.arctan2(side[..., 2], side[..., 1])
        bark = self._bark(side[..., 0], angle)
        normal = np.stack([0.2 * bark, np.cos(angle + 0.3 * bark), np.sin(angle + 0.3 * bark)], -1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        tone = np.clip(30 + 10 * bark + 8 * np.sin(angle), 1, LEVELS - 1)
        rings = 34 + 12 * np.sin(centre_distance * 160.0)
        tone = np.where(on_end, LEVELS + np.clip(rings, 1, LEVELS - 1), tone)
        normal[on_end] = (math.copysign(1.0, toward[0]), 0.0, 0.0)
        gbuffer = _pack(on_side | on_end, tone, normal, (right, up, toward))
        return View(gbuffer, foot, px_per_m)

    def _radius(self, along: np.ndarray) -> np.ndarray:
        return self.radius * (
            1.0 - 0.16 * along / self.half_length + 0.1 * np.sin(along * 4.0 + 9 * self.bend)
        )

    def _bark(self, along: np.ndarray, angle: np.ndarray) -> np.ndarray:
        column = np.mod(np.rint(along * 42.0), 128).astype(int)
        row = np.mod(np.rint(angle * 20.0), 128).astype(int)
        return self.grain[row, column]


def log(rng: np.random.Generator) -> Log:
    """Cut a trunk of 2 to 3.6 m."""
    return Log(
        half_length=float(rng.uniform(1.0, 1.8)),
        radius=float(rng.uniform(0.13, 0.22)),
        yaw_rad=float(rng.uniform(0.0, np.pi)),
        bend=float(rng.uniform(-0.16, 0.16)),
        grain=fbm(rng, 128, 16, 4, 0.7),
    )
