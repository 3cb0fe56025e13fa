import math

import numpy as np
import pytest

from offroad_seg_core.world import Camera, Drive, Pose, Scene, render
from offroad_seg_core.world.camera import cast_rays

SIZE = (136, 240)
SKY = 9


@pytest.fixture(scope='module')
def drive():
    return Drive(5, 8, 0.5, SIZE)


@pytest.fixture(scope='module')
def frames(drive):
    return [shot.frame for shot in drive]


@pytest.fixture(scope='module')
def plain():
    return Scene(3, bare_plain=True)


def test_shapes_and_types(frames):
    for frame in frames:
        assert frame.image_rgb.shape == (*SIZE, 3)
        assert frame.image_rgb.dtype == np.uint8
        assert frame.label_map.shape == SIZE
        assert frame.label_map.dtype == np.uint8
        assert frame.depth_m.shape == SIZE
        assert frame.depth_m.dtype == np.float32


def test_labels_are_the_ten_classes_and_all_appear(frames):
    seen = np.bincount(np.concatenate([f.label_map.ravel() for f in frames]), minlength=10)
    assert len(seen) == 10
    assert (seen > 0).all(), seen
    sky = seen[SKY] / seen.sum()
    assert 0.1 < sky < 0.6


def test_sky_is_where_depth_is_infinite(frames):
    for frame in frames:
        np.testing.assert_array_equal(frame.label_map == SKY, np.isinf(frame.depth_m))
        assert (frame.depth_m > 0.3).all()
        assert not np.isnan(frame.depth_m).any()


def test_same_seed_same_picture_and_other_seed_other_picture(drive, frames):
    scene = Scene(5)
    pose = drive.pose(0, 'windshield')
    again = render(scene, drive.cameras['windshield'], pose)
    np.testing.assert_array_equal(again.image_rgb, frames[0].image_rgb)
    np.testing.assert_array_equal(again.label_map, frames[0].label_map)
    # NumPy's loops may differ in the last bit, depending on where arrays lie in memory.
    np.testing.assert_allclose(again.depth_m, frames[0].depth_m, rtol=1e-6)
    other = render(Scene(6), drive.cameras['windshield'], pose)
    assert (other.image_rgb != again.image_rgb).any(axis=-1).mean() > 0.5


@pytest.mark.parametrize('pose', [Pose(3, -4, 2.0), Pose(3, -4, 2.0, 40.0, -10.0)])
def test_range_on_flat_ground_is_height_over_sine(plain, pose):
    camera = Camera((240, 320), 70.0)
    frame = render(plain, camera, pose)
    for row in (150, 180, 239):
        below_axis = math.atan((row + 0.5 - 120) / camera.focal_px)
        angle = below_axis - math.radians(pose.pitch_deg)
        # The middle columns look straight ahead, half a pixel to the side.
        assert frame.depth_m[row, 160] == pytest.approx(2.0 / math.sin(angle), rel=0.01)
    np.testing.assert_array_equal(frame.label_map[150:], 8)


def test_range_on_flat_ground_under_roll(plain):
    camera, pose = Camera((120, 160), 80.0), Pose(0, 0, 1.5, -70.0, -8.0, 12.0)
    frame, rays = render(plain, camera, pose), cast_rays(camera, pose)
    expected = 1.5 * rays.length / np.maximum(-rays.z, 1e-6)
    near = (rays.z < 0) & (expected < 100.0)
    assert near.mean() > 0.4
    close = near & (expected < 25.0)
    np.testing.assert_allclose(frame.depth_m[close], expected[close], rtol=0.02)
    # Far away a row of pixels spans many metres; the point must lie within a third of a row.
    implied = -1.5 * rays.length / frame.depth_m
    assert np.abs(implied - rays.z)[near].max() < 0.35 / camera.focal_px
    assert (frame.label_map[rays.z > 0.01] == SKY).all()


def test_points_keep_their_class_when_the_camera_moves(drive):
    camera = Camera((272, 480), 80.0)
    here = drive.pose(1, 'windshield')
    forward = here.axes()[2]
    there = Pose(
        here.x_m + 0.4 * forward[0],
        here.y_m + 0.4 * forward[1],
        here.z_m + 0.02,
        here.yaw_deg + 1.0,
        here.pitch_deg,
        here.roll_deg,
    )
    first, second = render(drive.scene, camera, here), render(drive.scene, camera, there)
    rays = cast_rays(camera, here)
    solid = np.isfinite(first.depth_m)
    axial = first.depth_m[solid] / rays.length[solid]
    points = here.position + np.stack([rays.x, rays.y, rays.z], -1)[solid] * axial[:, None]
    right, down, ahead = ((points - there.position) @ np.stack(there.axes()).T).T
    u = np.floor(right / ahead * camera.focal_px + 240).astype(int)
    v = np.floor(down / ahead * camera.focal_px + 136).astype(int)
    inside = (u >= 0) & (u < 480) & (v >= 0) & (v < 272) & (ahead > 0)
    seen = second.depth_m[v[inside], u[inside]]
    expected = np.linalg.norm(points - there.position, axis=1)[inside]
    same_surface = np.abs(seen - expected) < 0.02 * expected + 0.05
    assert same_surface.mean() > 0.85
    labels = first.label_map[solid][inside][same_surface]
    agreement = labels == second.label_map[v[inside], u[inside]][same_surface]
    assert agreement.mean() > 0.95


def test_far_ground_has_no_single_pixel_speckle(frames):
    """A lone pixel differs from all of its eight neighbours; very few may."""
    for frame in frames:
        label = frame.label_map
        middle = label[1:-1, 1:-1]
        lone = np.ones(middle.shape, bool)
        for dy in (0, 1, 2):
            for dx in (0, 1, 2):
                if (dy, dx) != (1, 1):
                    height, width = middle.shape
                    lone &= label[dy : dy + height, dx : dx + width] != middle
        assert lone.mean() < 0.005


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(ValueError, match='available: desert'):
        Scene(1, 'moon')
    with pytest.raises(ValueError, match='use 0 or more'):
        Scene(-1)
