"""Where each pixel's ray meets the heightfield.

Every image column of a level camera is a vertical plane. Along each such plane the slope from the
camera to the ground is sampled at growing distances; its running maximum is what is visible
(voxel-space method). A table over (slope, plane) then answers every pixel, whatever the
camera's pitch and roll, by one look-up and one linear interpolation.
"""

from __future__ import annotations

import numpy as np

from offroad_seg_core.world.camera import Pose, Rays
from offroad_seg_core.world.terrain import Terrain

NEAREST_M, FARTHEST_M, STEP = 0.5, 2000.0, 1.017


def cast_terrain(terrain: Terrain, pose: Pose, rays: Rays) -> np.ndarray:
    """Return the axial depth of the ground, ``(H, W)`` float32 metres, inf where only sky is."""
    num_rows, num_columns = rays.z.shape[0] * 3, rays.z.shape[1]
    aside = rays.aside / rays.ahead
    slope = rays.z / rays.ahead
    low_aside, high_aside = float(aside.min()), float(aside.max())
    low, high = float(slope.min()), float(slope.max())
    planes = np.linspace(low_aside, high_aside, num_columns, dtype=np.float32)
    distances, relative, visible = _profiles(terrain, pose, planes)

    per_row = np.float32((num_rows - 1) / (high - low))
    row_of = np.floor((visible - np.float32(low)) * per_row)
    bins = np.clip(row_of, -1, num_rows - 1).astype(np.int32) + 1
    bins *= num_columns
    bins += np.arange(num_columns, dtype=np.int32)
    counts = np.bincount(bins.ravel(), minlength=(num_rows + 1) * num_columns)
    first_hit = np.cumsum(counts.reshape(-1, num_columns), axis=0, dtype=np.int32)

    row = ((slope - np.float32(low)) * per_row + np.float32(0.5)).astype(np.int32)
    per_column = np.float32((num_columns - 1) / (high_aside - low_aside))
    column = ((aside - np.float32(low_aside)) * per_column + np.float32(0.5)).astype(np.int32)
    hit = first_hit.ravel().take(row * num_columns + column)
    missed = hit == len(distances)
    np.clip(hit, 1, len(distances) - 1, out=hit)
    at = hit * num_columns
    at += column
    flat = relative.ravel()
    after, before = flat.take(at), flat.take(at - num_columns)
    far, near = distances.take(hit), distances.take(hit - 1)
    crossing = (slope * near - before) / np.maximum((after - before) - slope * (far - near), 1e-6)
    np.clip(crossing, -2.0, 3.0, out=crossing)  # the table row may be one step off
    depth = (near + crossing * (far - near)) / rays.ahead
    depth[missed] = np.inf
    return depth


def _profiles(
    terrain: Terrain, pose: Pose, planes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances (K,), ground height relative to the camera and visible slope (K, C)."""
    steps = int(np.ceil(np.log(FARTHEST_M / NEAREST_M) / np.log(STEP)))
    distances = (NEAREST_M * STEP ** np.arange(steps)).astype(np.float32)
    yaw = np.radians(pose.yaw_deg)
    cos, sin = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
    x = np.float32(pose.x_m) + distances[:, None] * (cos + planes * sin)[None]
    y = np.float32(pose.y_m) + distances[:, None] * (sin - planes * cos)[None]
    relative = terrain.height(x, y) - np.float32(pose.z_m)
    visible = np.maximum.accumulate(relative / distances[:, None], axis=0)
    return distances, relative, visible
