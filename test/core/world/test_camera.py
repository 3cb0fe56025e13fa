import math

import numpy as np
import pytest

from offroad_seg_core.world import Camera, Pose
from offroad_seg_core.world.camera import cast_rays


def test_focal_length_from_the_horizontal_field_of_view():
    assert Camera((100, 200), 90.0).focal_px == pytest.approx(100.0)
    assert Camera((544, 960), 80.0).focal_px == pytest.approx(480 / math.tan(math.radians(40)))


@pytest.mark.parametrize(
    ('pose', 'right', 'down', 'forward'),
    [
        (Pose(0, 0, 0), (0, -1, 0), (0, 0, -1), (1, 0, 0)),
        (Pose(0, 0, 0, yaw_deg=90), (1, 0, 0), (0, 0, -1), (0, 1, 0)),
        (
            Pose(0, 0, 0, pitch_deg=-30),
            (0, -1, 0),
            (-0.5, 0, -math.sqrt(0.75)),
            (math.sqrt(0.75), 0, -0.5),
        ),
        (
            Pose(0, 0, 0, roll_deg=30),
            (0, -math.sqrt(0.75), -0.5),
            (0, 0.5, -math.sqrt(0.75)),
            (1, 0, 0),
        ),
    ],
)
def test_axes(pose, right, down, forward):
    np.testing.assert_allclose(pose.axes(), (right, down, forward), atol=1e-12)


def test_the_middle_ray_is_the_forward_axis():
    pose = Pose(1, 2, 3, yaw_deg=33, pitch_deg=-12, roll_deg=7)
    rays = cast_rays(Camera((65, 97), 70.0), pose)
    middle = [part[32, 48] for part in (rays.x, rays.y, rays.z)]
    np.testing.assert_allclose(middle, pose.axes()[2], atol=1e-6)
    assert rays.length[32, 48] == pytest.approx(1.0)
    assert rays.length[0, 0] == pytest.approx(
        math.sqrt(rays.x[0, 0] ** 2 + rays.y[0, 0] ** 2 + rays.z[0, 0] ** 2), rel=1e-5
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [({'size': (8, 100)}, 'outside 16..8192'), ({'fov_deg': 150.0}, 'outside 10..110')],
)
def test_camera_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Camera(**arguments)


def test_pose_refuses_a_camera_that_looks_at_its_feet():
    with pytest.raises(ValueError, match='pitch_deg -80'):
        Pose(0, 0, 2, pitch_deg=-80)
