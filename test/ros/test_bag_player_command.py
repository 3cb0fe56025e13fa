"""The player's command line, and `ros2 bag play` in its place, of which a stand-in is run."""

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from rclpy.node import Node
from sensor_msgs.msg import Image

from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.bags.library import zstd
from offroad_seg_core.bags.writing import AtomicBag, bag_qos
from offroad_seg_ros.spinning import spinning

TOPIC = '/played_by_rosbag2/image_raw'
ROS2 = """#!/bin/sh
printf '%s\\n' "$@" > "$HELD"
exit 3
"""
DEADLINE_S = 60.0


@pytest.fixture
def bag(tmp_path):
    atomic, definitions = AtomicBag(tmp_path / 'drive'), Definitions()
    kind = 'sensor_msgs/msg/Image'
    connection = definitions.add_connection(atomic.writer, TOPIC, kind, [bag_qos()])
    types = definitions.store.types
    stamp = types['builtin_interfaces/msg/Time'](1, 0)
    header = types['std_msgs/msg/Header'](stamp, 'camera')
    image = types[kind](header, 2, 2, 'bgr8', 0, 6, np.zeros(12, np.uint8))
    atomic.writer.write(connection, 10**9, definitions.store.serialize_cdr(image, kind))
    atomic.close()
    return str(atomic.path)


@pytest.fixture
def environment(tmp_path):
    """A `ros2` that writes its arguments into the file `held`, and ends with status 3."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    (folder / 'ros2').write_text(ROS2)
    (folder / 'ros2').chmod(0o755)
    path = f'{folder}{os.pathsep}{os.environ["PATH"]}'
    return {**os.environ, 'PATH': path, 'HELD': str(tmp_path / 'held')}


def _player(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, '-m', 'offroad_seg_ros.bag_player', *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_topics_are_renamed(bag, environment):
    for_ros = ['--ros-args', '-r', '__ns:=/x']
    process = _player(environment, bag, '--remap', f'{TOPIC}:=/renamed', *for_ros)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output
    assert '[x.bag_player]' in output
    assert 'at rate 1, /renamed\n' in output
    assert 'deprecated' not in output


def test_every_argument_is_handed_over(bag, environment, tmp_path):
    given = ['--loop', '--start-paused', '--topics', TOPIC, '--remap', f'{TOPIC}:=/a']
    numbers = ['--rate', '0.5', '--duration', '2.5', '--clock', '50']
    process = _player(environment, bag, '--player', 'rosbag2', *given, *numbers)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 3, output  # that of ros2 bag play
    assert (tmp_path / 'held').read_text().split('\n')[:-1] == [
        *('bag', 'play', bag, '--rate', '0.5', '--clock', '50', '--playback-duration', '2.5'),
        *('--loop', '--start-paused', '--topics', TOPIC, '--remap', f'{TOPIC}:=/a'),
    ]


def test_there_is_one_source_of_time(environment, tmp_path):
    atomic, definitions = AtomicBag(tmp_path / 'drive'), Definitions()
    for topic in ('/b', '/clock', '/a'):
        kind = 'builtin_interfaces/msg/Time'
        connection = definitions.add_connection(atomic.writer, topic, kind, [bag_qos()])
        data = definitions.store.serialize_cdr(definitions.store.types[kind](1, 0), kind)
        atomic.writer.write(connection, 10**9, data)
    atomic.close()
    expected = ['bag', 'play', str(atomic.path), '--rate', '1']
    for clock, words in (('9', ['--clock', '9', '--topics', '/a', '/b']), ('0', [])):
        process = _player(environment, str(atomic.path), '--player', 'rosbag2', '--clock', clock)
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 3, output
        assert (tmp_path / 'held').read_text().split() == expected + words


def test_it_waits_for_the_subscriber(bag, environment, tmp_path):
    given = ['--player', 'rosbag2', '--clock', '0', '--wait-for-subscribers', '30']
    process = _player(environment, bag, *given)
    node = Node('listener')
    try:
        while not node.get_publishers_info_by_topic(TOPIC):
            assert process.poll() is None
        assert not (tmp_path / 'held').exists()
        node.create_subscription(Image, TOPIC, lambda _: None, 1)
        with spinning(node):
            output, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        node.destroy_node()
        process.kill()
    assert process.returncode == 3, output
    assert 'has no subscriber' not in output
    assert (tmp_path / 'held').read_text().split() == ['bag', 'play', bag, '--rate', '1']


def test_no_room_to_unpack_is_said(environment, tmp_path):
    packed = tmp_path / 'drive.mcap.zstd'
    packed.write_bytes(zstd.compress(bytes(2_000_000)))

    def let_files_be_small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    command = [sys.executable, '-m', 'offroad_seg_ros.bag_player', str(packed)]
    ran = subprocess.run(
        command, env=environment, preexec_fn=let_files_be_small, capture_output=True, text=True
    )
    assert ran.returncode == 1, ran.stderr
    assert f'{packed}: got "File too large" while it was unpacked into' in ran.stderr
    assert 'Traceback' not in ran.stderr


def test_a_ros_without_rosbag2_is_said(bag, environment, tmp_path):
    process = _player({**environment, 'PATH': str(tmp_path)}, bag, '--player', 'rosbag2')
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert 'got rosbag2, expected the command ros2 on the PATH; fix: source ROS' in output
    assert 'Traceback' not in output
