"""What player and recorder are made of: QoS, time, message types, options."""

import struct
import subprocess
import sys

import pytest
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy
from std_msgs.msg import String

from offroad_seg_core.bags.definitions import Definitions, UnknownTypeError, header_stamp_ns
from offroad_seg_core.bags.reading import BagError
from offroad_seg_core.bags.writing import bag_qos
from offroad_seg_ros.bag_qos import publishing_qos
from offroad_seg_ros.message_types import message_class
from offroad_seg_ros.playback import PlayerOptions
from offroad_seg_ros.playback_timer import PlaybackTimer


def test_offers_are_those_of_the_recording():
    reliable, latched = bag_qos(), bag_qos(latched=True, depth=1)
    lossy = bag_qos(reliable=False, depth=5)
    fallback = publishing_qos([])
    assert fallback.reliability == ReliabilityPolicy.RELIABLE
    assert (fallback.history, fallback.depth) == (HistoryPolicy.KEEP_LAST, 10)
    assert publishing_qos([lossy]).reliability == ReliabilityPolicy.BEST_EFFORT
    assert publishing_qos([lossy]).depth == 5
    assert publishing_qos([latched]).durability == DurabilityPolicy.TRANSIENT_LOCAL
    # Publishers that differ: what satisfies the subscribers of either.
    assert publishing_qos([lossy, reliable]).reliability == ReliabilityPolicy.RELIABLE


def test_pauses_take_no_bag_time():
    now = [0]
    timer = PlaybackTimer(2.0, now_ns=lambda: now[0])
    now[0] = 10
    assert timer.elapsed_ns() == 20
    timer.paused = True
    now[0] = 1000
    assert timer.elapsed_ns() == 20
    timer.paused = False
    now[0] = 1005
    assert timer.elapsed_ns() == 30
    with timer.held():
        now[0] = 2000
        timer.paused = True
        assert timer.elapsed_ns() == 30
    now[0] = 3000
    assert timer.elapsed_ns() == 30  # still paused
    timer.paused = False
    with timer.held():
        now[0] = 4000
    now[0] = 4005
    assert timer.elapsed_ns() == 40
    timer.restart()
    assert timer.elapsed_ns() == 0


def test_types_are_found_by_name():
    assert message_class('std_msgs/msg/String') is String
    for name, told in (
        ('nobody_msgs/msg/Thing', 'not installed; fix: install nobody_msgs or source'),
        ('std_msgs/msg/Thing', 'not installed'),
        ('std_msgs/String', 'expected package/msg/Name'),
    ):
        with pytest.raises(UnknownTypeError, match=told):
            message_class(name)


def test_definitions_come_from_the_installed_files_too():
    definitions = Definitions()
    names = ['actionlib_msgs/msg/GoalStatusArray', 'actionlib_msgs/msg/GoalStatus']
    hashes = [definitions.store.hash_rihs01(name) for name in names]
    for name in names:
        del definitions.store.fielddefs[name]
    definitions.learn(names[0])  # and what it is made of
    assert [definitions.store.hash_rihs01(name) for name in names] == hashes
    with pytest.raises(UnknownTypeError, match='no definition'):
        definitions.learn('nobody_msgs/msg/Thing')


def test_stamps_are_read_in_either_byte_order():
    assert header_stamp_ns(b'\0\1\0\0' + struct.pack('<iI', 7, 9)) == 7_000_000_009
    assert header_stamp_ns(b'\0\0\0\0' + struct.pack('>iI', 7, 9)) == 7_000_000_009


@pytest.mark.parametrize(
    ('change', 'message'),
    [({'rate': 0.0}, 'rate: got 0.0'), ({'clock_hz': -1.0}, 'clock_hz: got -1.0')],
)
def test_options_are_checked(change, message):
    with pytest.raises(BagError, match=message):
        PlayerOptions(**change)


@pytest.mark.parametrize('script', ['bag_player', 'bag_recorder'])
def test_a_missing_rosbags_names_the_fix(script):
    code = f'import sys; sys.modules["rosbags"] = None; import offroad_seg_ros.{script}'
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'ImportError: bags need rosbags' in ran.stderr
    assert ran.stderr.strip().endswith('fix: pip install rosbags')
