import numpy as np
import pytest

from offroad_seg_core.world import DEMO_SEED, Drive


@pytest.fixture(scope='module')
def drive():
    return Drive(2, 40, 30.0, (64, 96))


def test_demo_seed():
    assert DEMO_SEED == 7


def test_frames_come_camera_by_camera_with_exact_stamps(drive):
    first = [next_frame for next_frame, _ in zip(drive, range(6), strict=False)]
    assert [(f.index, f.camera) for f in first] == [
        (0, 'windshield'),
        (0, 'left'),
        (1, 'windshield'),
        (1, 'left'),
        (2, 'windshield'),
        (2, 'left'),
    ]
    assert [f.stamp_ns for f in first[::2]] == [0, 33_333_333, 66_666_667]
    assert drive.stamp_ns(30) == 1_000_000_000
    assert drive.stamp_ns(30 * 3600) == 3600 * 1_000_000_000
    assert len(drive) == 80
    assert not np.array_equal(first[0].frame.label_map, first[1].frame.label_map)


def test_the_cameras_ride_above_the_ground_and_look_where_they_should(drive):
    front, left = drive.pose(5, 'windshield'), drive.pose(5, 'left')
    turn = (left.yaw_deg - front.yaw_deg) % 360.0
    assert turn == pytest.approx(90.0)
    for pose in (front, left):
        ground = float(drive.scene.terrain.height_at(np.array([[pose.x_m, pose.y_m]]))[0])
        assert pose.z_m - ground == pytest.approx(1.9, abs=0.35)


def test_the_path_is_smooth_and_as_fast_as_asked(drive):
    poses = [drive.pose(i, 'windshield') for i in range(40)]
    places = np.array([pose.position for pose in poses])
    steps = np.diff(places, axis=0)
    np.testing.assert_allclose(np.linalg.norm(steps[:, :2], axis=1), 4.0 / 30.0, rtol=0.1)
    for name in ('yaw_deg', 'pitch_deg', 'roll_deg'):
        angles = np.unwrap([getattr(pose, name) for pose in poses], period=360.0)
        assert np.abs(np.diff(angles)).max() < 1.2
        assert np.abs(np.diff(angles, n=2)).max() < 0.6


def test_the_lap_is_closed(drive):
    track = drive.scene.track
    np.testing.assert_allclose(track.at(0.0), track.at(track.length_m), atol=1e-9)
    assert np.linalg.norm(track.points, axis=1).max() < 125.0
    assert 350.0 < track.length_m < 900.0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'num_frames': 0}, 'num_frames 0 is below 1'),
        ({'num_frames': 1, 'rate_hz': 0.0}, 'not positive'),
        ({'num_frames': 1, 'cameras': ('roof',)}, 'windshield, left'),
        ({'num_frames': 1, 'cameras': ()}, 'windshield, left'),
    ],
)
def test_wrong_arguments_say_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        Drive(1, **arguments)
