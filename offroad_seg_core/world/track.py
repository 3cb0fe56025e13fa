"""The closed loop that the vehicle follows: two ruts through the middle of the world."""

from __future__ import annotations

import numpy as np

RADIUS_M = 82.0
STEP_M = 0.5


class Track:
    """A smooth closed curve around the origin, within 125 m of it.

    Attributes:
        points: ``(N, 2)`` float64 metres, about ``STEP_M`` apart, the last joins the first.
        length_m: the length of one lap.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        angle = np.linspace(0.0, 2.0 * np.pi, 8192, endpoint=False)
        radius = np.full_like(angle, RADIUS_M)
        for wave, amplitude in ((2, 9.0), (3, 8.0), (5, 4.0), (8, 1.8), (13, 0.7)):
            phase = rng.uniform(0.0, 2.0 * np.pi)
            radius += amplitude * rng.uniform(0.4, 1.0) * np.cos(wave * angle + phase)
        dense = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        steps = np.linalg.norm(np.roll(dense, -1, axis=0) - dense, axis=1)
        along = np.concatenate([[0.0], np.cumsum(steps)])
        self.length_m = float(along[-1])
        closed = np.concatenate([dense, dense[:1]])
        even = np.linspace(0.0, self.length_m, round(self.length_m / STEP_M), endpoint=False)
        self.points = np.stack([np.interp(even, along, closed[:, i]) for i in range(2)], axis=1)

    def at(self, distance_m: float | np.ndarray) -> np.ndarray:
        """Return the points at distances along the lap (wrapping), ``(..., 2)`` metres."""
        along = np.arange(len(self.points) + 1) * (self.length_m / len(self.points))
        closed = np.concatenate([self.points, self.points[:1]])
        wrapped = np.mod(distance_m, self.length_m)
        return np.stack([np.interp(wrapped, along, closed[:, i]) for i in range(2)], axis=-1)

    def heading_rad(self, distance_m: float | np.ndarray, span_m: float = 3.0) -> np.ndarray:
        """Return the heading of the chord of ``span_m`` around the points, radians."""
        distance = np.asarray(distance_m, float)
        chord = self.at(distance + span_m / 2.0) - self.at(distance - span_m / 2.0)
        return np.arctan2(chord[..., 1], chord[..., 0])
