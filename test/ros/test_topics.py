"""Inputs that do not fit: reliability, wrong type, nobody there, lost messages."""

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from offroad_seg_ros import camera_stream, monitor, transport

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture(autouse=True)
def _fast_discovery(monkeypatch):
    monkeypatch.setattr(camera_stream, 'DISCOVERY_S', 0.5)


def _asked(probe, camera='windshield'):
    topic = probe.node.resolve_topic_name(f'{camera}/image')
    return [
        info.qos_profile.reliability for info in probe.node.get_subscriptions_info_by_topic(topic)
    ]


def test_auto_asks_for_what_every_publisher_offers(start_node, probe, halves, frame):
    start_node()
    probe.listen('mask')
    probe.wait(lambda: _asked(probe) == [ReliabilityPolicy.BEST_EFFORT], 'best effort at first')
    reliable = probe.driver(qos=RELIABLE)
    probe.wait(lambda: _asked(probe) == [ReliabilityPolicy.RELIABLE], 'reliable')
    probe.send(reliable, frame(halves(0, 0)))
    probe.wait_value('windshield', 'reliability', lambda text: text == 'reliable')
    best_effort = probe.node.create_publisher(Image, 'windshield/image', BEST_EFFORT)
    probe.wait(lambda: _asked(probe) == [ReliabilityPolicy.BEST_EFFORT], 'best effort again')
    probe.send(best_effort, frame(halves(1, 1)))
    probe.send(reliable, frame(halves(0, 0)))


@pytest.mark.parametrize('offered', [RELIABLE, BEST_EFFORT], ids=['reliable', 'best_effort'])
def test_forced_best_effort_takes_both(start_node, probe, halves, frame, offered):
    start_node(input_reliability='best_effort')
    probe.listen('mask')
    probe.send(probe.driver(qos=offered), frame(halves(0, 0)))
    assert _asked(probe) == [ReliabilityPolicy.BEST_EFFORT]


def test_forced_reliable_with_a_best_effort_driver_is_told(start_node, probe):
    start_node(input_reliability='reliable')
    probe.node.create_publisher(Image, 'windshield/image', BEST_EFFORT)
    text = probe.wait_said('does not offer the requested RELIABILITY')
    assert '/windshield/image' in text
    assert "input_reliability to 'auto'" in text


def test_a_subscriber_that_asks_for_too_much_is_told(start_node, probe):
    start_node()
    probe.listen('mask', qos=QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    assert 'windshield/segmentation/mask' in probe.wait_said('asks for DURABILITY')


def test_a_topic_that_nobody_publishes_lists_those_that_exist(start_node, probe):
    probe.node.create_publisher(Image, 'sensor/front', RELIABLE)
    probe.node.create_publisher(CompressedImage, 'sensor/side', RELIABLE)
    start_node()
    values = probe.wait_value('windshield', 'message', lambda text: 'nobody publishes' in text)
    assert values['level'] >= 1
    for text in ('windshield/image', 'sensor/front (Image)', 'sensor/side (CompressedImage)'):
        assert text in values['message']
    assert 'segmentation/' not in values['message']  # the node's own outputs are no inputs
    probe.wait_said('nobody publishes')


@pytest.mark.parametrize(
    ('wrong', 'expected'),
    [(CompressedImage, "set transport to 'compressed'"), (String, 'remap the input')],
)
def test_a_wrong_type_is_told(start_node, remote_probe, wrong, expected):
    # One participant cannot even have two types on a topic.
    start_node()
    remote_probe.node.create_publisher(wrong, 'windshield/image', RELIABLE)
    values = remote_probe.wait_value('windshield', 'message', lambda text: 'got type' in text)
    assert 'expected sensor_msgs/msg/Image' in values['message']
    assert expected in values['message']


def test_lost_messages_are_counted_and_advised_once_without_a_profile(
    start_node, probe, monkeypatch
):
    monkeypatch.setattr(monitor, 'missing_profile', lambda: True)
    node = start_node()
    statistics = node.node._pipeline.streams['windshield'].statistics
    for _ in range(2):
        before = statistics.snapshot().counters.lost_in_transport
        statistics.lose(3)
        values = probe.wait_value(
            'windshield', 'lost_in_transport', lambda count, b=before: count == str(b + 3)
        )
    assert '3 frames lost in transport' in values['message']
    assert 'fastdds_shm.xml' in probe.wait_said('FASTRTPS_DEFAULT_PROFILES_FILE')
    assert sum('FASTRTPS_DEFAULT_PROFILES_FILE' in line for line in probe.log) == 1


def test_missing_profile(monkeypatch):
    monkeypatch.delenv('FASTRTPS_DEFAULT_PROFILES_FILE')
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE')
    monkeypatch.setattr(transport, 'get_rmw_implementation_identifier', lambda: 'rmw_fastrtps_cpp')
    assert transport.missing_profile()
    monkeypatch.setenv('FASTDDS_DEFAULT_PROFILES_FILE', '/profile.xml')
    assert not transport.missing_profile()
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE')
    monkeypatch.setattr(
        transport, 'get_rmw_implementation_identifier', lambda: 'rmw_cyclonedds_cpp'
    )
    assert not transport.missing_profile()


def test_a_publisher_that_leaves_is_told_once_and_costs_no_calibration(start_node, probe):
    node = start_node(input_timeout_s=60.0)
    stream = node.node._pipeline.streams['windshield']
    info_subscription = stream._info_subscription
    driver = probe.driver(qos=RELIABLE)
    probe.wait_value('windshield', 'reliability', lambda text: text == 'reliable')
    probe.wait_value('windshield', 'level', lambda level: level == 0)
    probe.log.clear()
    probe.node.destroy_publisher(driver)
    probe.wait_value('windshield', 'message', lambda text: 'nobody publishes' in text)
    probe.spin(0.3)
    assert sum('nobody publishes' in line for line in probe.log) == 1
    assert stream._info_subscription is info_subscription
