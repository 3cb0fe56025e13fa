"""Unlit pictures of objects, and objects made of strokes in space.

A picture holds material and normal of every pixel. Objects are seen without perspective, from
slightly above unless they lie flat. Model axes: x, y level, z up, metres, the foot at the origin.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import cv2
import numpy as np

TILT = 0.24
"""How far the views look down, radians."""
LEVELS = 64
"""Brightness steps of a material; tone = material * LEVELS + level, 0 is empty."""


@dataclass(frozen=True)
class View:
    """An unlit picture of a shape.

    ``gbuffer`` is ``(h, w, 4)`` uint8: tone (0 empty) and the normal (right, up, to the viewer) as
    127.5 + 127.5 n. ``foot_px`` is the (column, row) of the model's origin.
    """

    gbuffer: np.ndarray
    foot_px: tuple[float, float]
    px_per_m: float
    tilt: float = TILT


@dataclass(frozen=True)
class Strokes:
    """A plant: strokes from ``start`` to ``end`` (N, 3), all in metres."""

    start: np.ndarray
    end: np.ndarray
    width: np.ndarray
    tone: np.ndarray
    """(N,) int, material * 64 + level 1..63."""
    normal: np.ndarray
    resolution_px: int
    tilt: float = TILT

    def view(self, yaw_rad: float) -> View:
        """Draw the plant as seen by someone who looks along ``yaw_rad``."""
        start, end, normal = (
            _turn(part, yaw_rad, self.tilt) for part in (self.start, self.end, self.normal)
        )
        both = np.concatenate([start[:, :2], end[:, :2]])
        margin = float(self.width.max())
        low, high = both.min(axis=0) - margin, both.max(axis=0) + margin
        px_per_m = self.resolution_px / float(max(high - low))
        size = np.ceil((high - low) * px_per_m).astype(int) + 2
        canvas = np.zeros((size[1], size[0], 4), np.uint8)
        order = np.argsort(start[:, 2] + end[:, 2])
        flip = np.array([1.0, -1.0])
        corner = np.array([low[0], -high[1]])
        a = np.rint(((start[:, :2] * flip - corner) * px_per_m) * 8).astype(int)[order]
        b = np.rint(((end[:, :2] * flip - corner) * px_per_m) * 8).astype(int)[order]
        thick = np.maximum(1, np.rint(self.width * px_per_m)).astype(int)[order]
        paint = np.column_stack([self.tone, 127.5 + 127.5 * normal]).astype(int)[order]
        for p, q, width, color in zip(
            a.tolist(), b.tolist(), thick.tolist(), paint.tolist(), strict=True
        ):
            cv2.line(canvas, p, q, color, width, cv2.LINE_8, 3)
        foot = -corner * px_per_m
        return View(canvas, (float(foot[0]), float(foot[1])), px_per_m, self.tilt)


def _turn(vectors: np.ndarray, yaw_rad: float, tilt: float) -> np.ndarray:
    """Return (right, up, towards the viewer) of model vectors for a viewing direction."""
    cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
    right = vectors[:, 0] * sin - vectors[:, 1] * cos
    toward = -(vectors[:, 0] * cos + vectors[:, 1] * sin)
    ct, st = math.cos(tilt), math.sin(tilt)
    return np.stack([right, vectors[:, 2] * ct - toward * st, toward * ct + vectors[:, 2] * st], 1)


class Bundle:
    """Collects strokes while a plant is built."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(
        self,
        start: np.ndarray,
        end: np.ndarray,
        width: float | np.ndarray,
        tone: tuple[int, np.ndarray],
        normal: np.ndarray,
    ) -> None:
        """Add ``(N, 3)`` strokes; tone is (material, level 1 to 63), widths in metres."""
        count = len(start)
        material, level = tone
        index = material * LEVELS + np.clip(np.broadcast_to(level, count), 1, LEVELS - 1)
        self._parts.append((start, end, np.broadcast_to(width, count), index, normal))

    def finish(self, resolution_px: int, tilt: float = TILT) -> Strokes:
        """Return the plant; its larger side is drawn with ``resolution_px`` pixels."""
        start, end, width, tone, normal = (
            np.concatenate(parts) for parts in zip(*self._parts, strict=True)
        )
        normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        return Strokes(start, end, width, tone.astype(int), normal, resolution_px, tilt)
