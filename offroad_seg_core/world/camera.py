"""The pinhole camera and its pose, and the ray of every pixel.

World axes: x east, y north, z up, metres. Camera axes: right, down, forward.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion whose principal point is the image centre."""

    size: tuple[int, int] = (544, 960)
    """(height, width) in pixels."""
    fov_deg: float = 80.0
    """Horizontal field of view, 10 to 110 degrees."""

    def __post_init__(self) -> None:
        height, width = self.size
        if height < 16 or width < 16 or height > 8192 or width > 8192:
            raise ValueError(
                f'camera size {self.size} is outside 16..8192 px; use (height, width)'
            )
        if not 10.0 <= self.fov_deg <= 110.0:
            raise ValueError(f'fov_deg {self.fov_deg} is outside 10..110; give the horizontal one')

    @property
    def focal_px(self) -> float:
        """Focal length in pixels, equal along both axes."""
        return self.size[1] / 2.0 / math.tan(math.radians(self.fov_deg) / 2.0)

    def plane_grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Return right ``(1, W)`` and down ``(H, 1)`` image-plane coordinates at distance 1."""
        height, width = self.size
        right = (np.arange(width, dtype=np.float32) + 0.5 - width / 2.0) / self.focal_px
        down = (np.arange(height, dtype=np.float32) + 0.5 - height / 2.0) / self.focal_px
        return right[None].astype(np.float32), down[:, None].astype(np.float32)


@dataclass(frozen=True)
class Pose:
    """Where a camera is and where it looks."""

    x_m: float
    y_m: float
    z_m: float
    yaw_deg: float = 0.0
    """Heading, anticlockwise from +x seen from above."""
    pitch_deg: float = 0.0
    """Positive looks up, -45 to 45 degrees."""
    roll_deg: float = 0.0
    """Positive lowers the right side, -45 to 45 degrees."""

    def __post_init__(self) -> None:
        for name in ('pitch_deg', 'roll_deg'):
            value = getattr(self, name)
            if not -45.0 <= value <= 45.0:
                raise ValueError(
                    f'{name} {value} is outside -45..45; the terrain caster needs that'
                )

    @property
    def position(self) -> np.ndarray:
        """The camera centre, ``(3,)`` float64 metres."""
        return np.array([self.x_m, self.y_m, self.z_m])

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the unit vectors right, down and forward of the camera in the world."""
        yaw, pitch, roll = np.radians([self.yaw_deg, self.pitch_deg, self.roll_deg])
        cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
        forward = np.array([cp * cy, cp * sy, sp])
        level_right = np.array([sy, -cy, 0.0])
        level_up = np.array([-sp * cy, -sp * sy, cp])
        right = level_right * math.cos(roll) - level_up * math.sin(roll)
        up = level_up * math.cos(roll) + level_right * math.sin(roll)
        return right, -up, forward


@dataclass(frozen=True)
class Rays:
    """The ray of every pixel, scaled so that it advances 1 m along the optical axis."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    ahead: np.ndarray
    """Component along the level heading, (H, W) float32, positive."""
    aside: np.ndarray
    """Component to the level right, (H, W) float32."""
    length: np.ndarray
    """Length of the ray, (H, W) float32, at least 1: range = axial depth * length."""


def cast_rays(camera: Camera, pose: Pose) -> Rays:
    """Return the rays of a camera at a pose; every array is ``(H, W)`` float32."""
    right, down = camera.plane_grid()
    axis_right, axis_down, axis_forward = (axis.astype(np.float32) for axis in pose.axes())
    x, y, z = ((axis_forward[i] + right * axis_right[i]) + down * axis_down[i] for i in range(3))
    yaw = math.radians(pose.yaw_deg)
    cos, sin = np.float32(math.cos(yaw)), np.float32(math.sin(yaw))
    ahead, aside = x * cos + y * sin, x * sin - y * cos
    length = np.sqrt(np.float32(1.0) + right * right + down * down)
    return Rays(x, y, z, ahead, aside, length)
