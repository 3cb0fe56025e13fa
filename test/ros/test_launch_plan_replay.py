"""What replays make of a bag and of their arguments, against hand-written answers."""

import pytest
import yaml

from offroad_seg_core.bags.camera_topics import CameraTopic, camera_names, find_cameras
from offroad_seg_ros.launch_arguments import LaunchError
from offroad_seg_ros.launch_plan import plan_replay

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / 'bundle'
    folder.mkdir()
    (folder / 'manifest.yaml').touch()
    return str(folder)


@pytest.fixture
def make_bag(tmp_path):
    def make(topics):
        entries = [
            {'topic_metadata': {'name': name, 'type': kind}, 'message_count': count}
            for name, kind, count in topics
        ]
        content = {'rosbag2_bagfile_information': {'topics_with_message_count': entries}}
        (tmp_path / 'metadata.yaml').write_text(yaml.safe_dump(content))
        return str(tmp_path)

    return make


def test_replay_takes_the_cameras_of_the_bag(bundle, make_bag):
    bag = make_bag(
        [
            ('/front/image_raw', IMAGE, 3),
            ('/front/depth/image', IMAGE, 3),
            ('/left/image_raw', IMAGE, 3),
            ('/rear/image_raw', IMAGE, 0),
            ('/left/imu', 'sensor_msgs/msg/Imu', 9),
        ]
    )
    plan = plan_replay({'bag': bag, 'bundle': bundle, 'rate': '0.5', 'loop': 'true'}, {})
    assert plan.parameters['cameras'] == ['left', 'front']
    assert plan.parameters['use_sim_time'] is True
    assert plan.input_topics == {'left': '/left/image_raw', 'front': '/front/image_raw'}
    assert plan.player_arguments == (
        *(bag, '--rate', '0.5', '--wait-for-subscribers', '120.0', '--loop'),
        *('--wait-for', '/left/image_raw', '/front/image_raw'),
    )
    cameras = ('left=/left/image_raw', 'front=/front/image_raw')
    assert plan.recorder_arguments == ('replay_latencies', '--cameras', *cameras)


def test_replay_takes_the_cameras_that_are_named(bundle):
    given = {'bag': 'no_metadata.mcap', 'bundle': bundle, 'windshield': '/w', 'left': ''}
    plan = plan_replay({**given, 'start_paused': 'true'}, {})
    assert plan.parameters['cameras'] == ['windshield']
    assert plan.player_arguments[-3:] == ('--start-paused', '--wait-for', '/w')
    assert plan_replay({**given, 'latencies': 'none'}, {}).recorder_arguments == ()
    plan = plan_replay({**given, 'player': 'rosbag2'}, {})
    assert plan.player_arguments[-4:] == ('--player', 'rosbag2', '--wait-for', '/w')


@pytest.mark.parametrize('rate', ['0', '-1', 'fast', 'nan', 'inf'])
def test_replay_refuses_other_rates(bundle, rate):
    with pytest.raises(LaunchError, match=f"rate: got '{rate}', expected a number above 0"):
        plan_replay({'bag': 'b', 'rate': rate, 'bundle': bundle}, {})


def test_replay_errors_name_what_the_bag_holds(bundle, make_bag, tmp_path):
    with pytest.raises(LaunchError, match='fix: bag:=PATH'):
        plan_replay({'bundle': bundle}, {})
    with pytest.raises(LaunchError, match=r'no readable metadata.yaml.*windshield:=TOPIC'):
        plan_replay({'bag': str(tmp_path / 'none'), 'bundle': bundle}, {})
    bag = make_bag([('/imu', 'sensor_msgs/msg/Imu', 9)])
    with pytest.raises(LaunchError, match=r'no camera images.*/imu \(sensor_msgs/msg/Imu\)'):
        plan_replay({'bag': bag, 'bundle': bundle}, {})


@pytest.mark.parametrize(
    ('topics', 'names'),
    [
        (['/windshield/image_raw', '/left/image_raw'], ['windshield', 'left']),
        (['/sensor/camera/left/image_rect_color'], ['left']),
        (['/a/left/image', '/b/left/image'], ['a_left', 'b_left']),
        (['/camera/camera/color/image_raw'], ['camera']),
        (['/image_raw'], ['camera']),
        (['/zed2/3d__cam/image'], ['camera_3d_cam']),
        (['/cam/rgb', '/cam/image'], ['camera_1', 'camera_2']),
        (
            ['/front/image_raw', '/front/image_rect', '/front_1/image_raw'],
            ['front_2', 'front_3', 'front_1'],
        ),
    ],
)
def test_cameras_are_named_after_their_topics(topics, names):
    assert camera_names(topics) == names


def test_cameras_of_a_recording():
    topics = {
        '/left/image_raw': IMAGE,
        '/left/image_raw/compressed': COMPRESSED,
        '/rear/image_raw/compressed': COMPRESSED,
        '/left/ground_truth/label_map': IMAGE,
        '/left/segmentation/overlay': IMAGE,
    }
    # Both have compressed pictures, only one has raw ones.
    assert find_cameras(topics) == (
        CameraTopic('left', '/left/image_raw/compressed', 'compressed'),
        CameraTopic('rear', '/rear/image_raw/compressed', 'compressed'),
    )
    assert find_cameras({'/left/image_raw': IMAGE, '/left/image_raw/compressed': COMPRESSED}) == (
        CameraTopic('left', '/left/image_raw'),
    )
