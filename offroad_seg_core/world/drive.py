"""A drive along the track: frames of several cameras at a fixed rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import math

import numpy as np

from offroad_seg_core.world.camera import Camera, Pose
from offroad_seg_core.world.render import Frame, Scene, render

DEMO_SEED = 7
"""The drive of the demo; no training set may contain it."""


@dataclass(frozen=True)
class Mount:
    """How a camera sits on the vehicle: forward, left and up of the ground point, and its aim."""

    forward_m: float
    left_m: float
    up_m: float
    yaw_deg: float
    pitch_deg: float
    fov_deg: float = 80.0


MOUNTS: Mapping[str, Mount] = {
    'windshield': Mount(0.6, 0.0, 1.9, 0.0, -5.0),
    'left': Mount(0.0, 0.6, 1.9, 90.0, -7.0),
}


@dataclass(frozen=True)
class DriveFrame:
    """One picture of a drive."""

    index: int
    stamp_ns: int
    """Nanoseconds since the start of the drive; cameras of one index share it."""
    camera: str
    frame: Frame


class Drive:
    """Frames along the track, index by index, and camera by camera within an index.

    Args:
        seed: seed of the scene.
        num_frames: frames of each camera, 1 or more.
        rate_hz: frames a second of each camera.
        size: (height, width) of the pictures.
        cameras: names in ``MOUNTS``.
        speed_m_s: driving speed.
        biome: see ``Scene``.
    """

    def __init__(
        self,
        seed: int,
        num_frames: int,
        rate_hz: float = 10.0,
        size: tuple[int, int] = (544, 960),
        cameras: Sequence[str] = ('windshield', 'left'),
        *,
        speed_m_s: float = 4.0,
        biome: str = 'desert',
    ) -> None:
        if num_frames < 1:
            raise ValueError(f'num_frames {num_frames} is below 1; ask for at least one frame')
        if not rate_hz > 0.0:
            raise ValueError(f'rate_hz {rate_hz} is not positive; give frames a second')
        unknown = [name for name in cameras if name not in MOUNTS]
        if unknown or not cameras:
            raise ValueError(f'cameras {list(cameras)} must be some of {", ".join(MOUNTS)}')
        self.scene = Scene(seed, biome)
        self.num_frames, self.rate_hz, self.speed_m_s = num_frames, rate_hz, speed_m_s
        self.cameras = {name: Camera(size, MOUNTS[name].fov_deg) for name in cameras}
        lap = self.scene.track.length_m
        self.start_m = float(np.random.default_rng([seed, 1]).uniform(0.0, lap))

    def __len__(self) -> int:
        return self.num_frames * len(self.cameras)

    def stamp_ns(self, index: int) -> int:
        """Return the time of frame ``index``, rounded to whole nanoseconds."""
        return round(index * 1_000_000_000 / self.rate_hz)

    def pose(self, index: int, camera: str) -> Pose:
        """Return where a camera is at frame ``index``."""
        travelled = self.start_m + self.speed_m_s * index / self.rate_hz
        return vehicle_pose(self.scene, travelled, MOUNTS[camera])

    def frame(self, index: int, camera: str) -> DriveFrame:
        """Render one frame of one camera."""
        picture = render(self.scene, self.cameras[camera], self.pose(index, camera))
        return DriveFrame(index, self.stamp_ns(index), camera, picture)

    def __iter__(self) -> Iterator[DriveFrame]:
        for index in range(self.num_frames):
            for camera in self.cameras:
                yield self.frame(index, camera)


def vehicle_pose(scene: Scene, travelled_m: float, mount: Mount) -> Pose:
    """Return the pose of a mounted camera on a vehicle that has driven ``travelled_m``.

    The body follows the ground under its four wheels, averaged over a car's length as its springs
    do, and sways a little.
    """
    track = scene.track
    centre = track.at(travelled_m)
    heading = float(track.heading_rad(travelled_m, 5.0))
    ahead = np.array([math.cos(heading), math.sin(heading)])
    left = np.array([-ahead[1], ahead[0]])
    offsets = np.linspace(-2.2, 2.2, 12)
    wheels = np.concatenate(
        [centre + o * ahead + side * left for side in (-0.85, 0.85) for o in offsets[:, None]]
    ).reshape(2, len(offsets), 2)
    height = scene.terrain.height_at(wheels.reshape(-1, 2)).reshape(2, -1).astype(float)
    slope = np.polyfit(offsets, height.mean(axis=0), 1)[0]
    bank = (height[1].mean() - height[0].mean()) / 1.7
    yaw = math.degrees(heading) + mount.yaw_deg + 0.5 * math.sin(travelled_m * 0.7)
    turn = math.radians(mount.yaw_deg)
    nose_up, right_down = math.degrees(math.atan(slope)), math.degrees(math.atan(bank))
    pitch = nose_up * math.cos(turn) + right_down * math.sin(turn)
    roll = right_down * math.cos(turn) - nose_up * math.sin(turn)
    place = centre + mount.forward_m * ahead + mount.left_m * left
    z = float(height.mean()) + mount.up_m + mount.forward_m * slope + mount.left_m * bank
    return Pose(
        float(place[0]),
        float(place[1]),
        z,
        yaw,
        float(np.clip(mount.pitch_deg + pitch, -30, 30)),
        float(np.clip(roll, -20, 20)),
    )
