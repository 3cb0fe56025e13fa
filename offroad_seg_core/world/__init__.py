"""The procedural off-road world: scenes with exact labels and depth, and drives through them."""

from offroad_seg_core.world.camera import Camera, Pose
from offroad_seg_core.world.drive import DEMO_SEED, MOUNTS, Drive, DriveFrame, Mount, vehicle_pose
from offroad_seg_core.world.render import BIOMES, Frame, Scene, render

__all__ = [
    'BIOMES',
    'DEMO_SEED',
    'MOUNTS',
    'Camera',
    'Drive',
    'DriveFrame',
    'Frame',
    'Mount',
    'Pose',
    'Scene',
    'render',
    'vehicle_pose',
]
