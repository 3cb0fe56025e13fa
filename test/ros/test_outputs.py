"""Every topic that the node offers, seen by another node."""

import json

import cv2
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage

from offroad_seg_core.visualization import overlay

TREES, DRY_GRASS, ROCKS, SKY = 0, 2, 7, 9


def test_every_image_output_carries_the_right_pixels_and_header(
    start_node, probe, halves, frame, pixels_of, taxonomy
):
    start_node()
    names = ['mask', 'confidence', 'traversability', 'overlay', 'class_colors']
    probe.listen(*names, 'overlay/compressed')
    driver = probe.driver()
    picture = halves(DRY_GRASS, SKY)
    probe.send(driver, frame(picture, sec=41, frame_id='front'), 'overlay/compressed')
    probe.send(driver, frame(picture, sec=42, frame_id='front'), 'overlay/compressed')
    got = {name: probe.got[name][-1] for name in (*names, 'overlay/compressed')}
    for message in got.values():
        assert (message.header.stamp.sec, message.header.frame_id) == (42, 'front')
    for name in ('mask', 'confidence', 'traversability'):
        assert got[name].encoding == 'mono8'
        assert (got[name].height, got[name].width, got[name].step) == (128, 192, 192)
    mask = pixels_of(got['mask'])
    assert (mask[:, :96] == DRY_GRASS).all()
    assert (mask[:, 96:] == SKY).all()
    cost = pixels_of(got['traversability'])
    assert (cost[:, :96] == 60).all()
    assert (cost[:, 96:] == 255).all()
    assert pixels_of(got['confidence'])[64, 20] > 250
    np.testing.assert_array_equal(pixels_of(got['class_colors']), taxonomy.palette_bgr[mask])
    drawn = pixels_of(got['overlay'])
    np.testing.assert_array_equal(drawn, overlay(picture, cost))
    np.testing.assert_array_equal(drawn[:, 96:], picture[:, 96:])  # unknown cost: untouched
    assert (drawn[:, :96] != picture[:, :96]).any()
    compressed = got['overlay/compressed']
    assert compressed.format == 'bgr8; jpeg compressed bgr8'
    decoded = cv2.imdecode(np.frombuffer(compressed.data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - drawn).mean() < 5


def test_outputs_are_reliable_volatile_and_labels_latched(start_node, probe):
    start_node()

    def offers(topic):
        (info,) = probe.node.get_publishers_info_by_topic(probe.node.resolve_topic_name(topic))
        return info.topic_type, info.qos_profile.reliability, info.qos_profile.durability

    reliable, volatile = ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE
    outputs = {
        'mask': 'Image',
        'confidence': 'Image',
        'traversability': 'Image',
        'overlay': 'Image',
        'overlay/compressed': 'CompressedImage',
        'class_colors': 'Image',
        'camera_info': 'CameraInfo',
    }
    last = 'windshield/segmentation/camera_info'
    probe.wait(
        lambda: probe.node.count_publishers(probe.node.resolve_topic_name(last)), 'discovery'
    )
    for name, kind in outputs.items():
        expected = (f'sensor_msgs/msg/{kind}', reliable, volatile)
        assert offers(f'windshield/segmentation/{name}') == expected
    expected = ('std_msgs/msg/String', reliable, DurabilityPolicy.TRANSIENT_LOCAL)
    assert offers('segmentation/label_names') == expected


def test_label_names_reach_a_late_subscriber(start_node, probe, taxonomy, tmp_path):
    costs = tmp_path / 'costs.yaml'
    costs.write_text('Logs: 200\n')
    start_node(cost_overrides_file=str(costs))
    probe.spin(0.3)
    probe.listen_labels()
    probe.wait(lambda: probe.got['label_names'], 'label_names')
    content = json.loads(probe.got['label_names'][0].data)
    assert content['taxonomy'] == 'falcon10'
    assert content['ids'] == list(range(10))
    assert content['names'] == list(taxonomy.names)
    assert content['colors'][DRY_GRASS] == '#d2b48c'
    assert content['costs'][taxonomy.index('Logs')] == 200
    assert content['costs'][TREES] == 254
    assert content['unlabeled_id'] == 255


def test_camera_info_is_scaled_to_the_outputs(start_node, probe, halves, frame):
    start_node(output_size='64x48')
    probe.listen('mask', 'camera_info')
    infos = probe.node.create_publisher(CameraInfo, 'windshield/camera_info', 1)
    driver = probe.driver()
    probe.wait(lambda: infos.get_subscription_count() > 0, 'camera_info subscription')
    info = CameraInfo(height=128, width=192, k=[100.0, 0.0, 96.0, 0.0, 100.0, 64.0, 0.0, 0.0, 1.0])
    infos.publish(info)
    message = probe.send(driver, frame(halves(0, 1), sec=9), 'camera_info')
    assert (message.height, message.width) == (64, 48)
    assert list(message.k) == [25.0, 0, 24, 0, 50, 32, 0, 0, 1]
    assert (message.header.stamp.sec, message.header.frame_id) == (9, 'camera_link')


@pytest.mark.parametrize(
    ('output_size', 'expected'),
    [('camera', (100, 200)), ('engine', (48, 96)), ('30x50', (30, 50))],
)
def test_camera_info_alone_needs_no_engine(
    start_node, probe, halves, frame, monkeypatch, output_size, expected
):
    node = start_node(output_size=output_size)
    pipeline = node.node._pipeline
    monkeypatch.setattr(pipeline.segmenter, 'segment', None)
    probe.listen('camera_info')
    infos = probe.node.create_publisher(CameraInfo, 'windshield/camera_info', 1)
    driver = probe.driver()
    probe.wait(lambda: infos.get_subscription_count() > 0, 'camera_info subscription')
    infos.publish(CameraInfo(height=100, width=200))
    message = probe.send(driver, frame(halves(0, 1, (100, 200)), sec=9), 'camera_info')
    assert (message.height, message.width) == expected
    assert message.header.stamp.sec == 9
    assert not pipeline.streams['windshield'].statistics.snapshot().counters.failed
    probe.wait_value('windshield', 'message', lambda text: 'only camera_info' in text)


@pytest.mark.parametrize(
    ('output_size', 'expected'),
    [('camera', (100, 200)), ('engine', (48, 96)), ('30x50', (30, 50))],
)
def test_output_size(start_node, probe, halves, frame, pixels_of, output_size, expected):
    start_node(output_size=output_size)
    probe.listen('mask', 'overlay', 'traversability')
    picture = halves(TREES, ROCKS, (100, 200))
    probe.send(probe.driver(), frame(picture), 'overlay')
    for name in ('mask', 'overlay', 'traversability'):
        assert pixels_of(probe.got[name][-1]).shape[:2] == expected
    mask = pixels_of(probe.got['mask'][-1])
    assert mask[expected[0] // 2, expected[1] // 4] == TREES
    assert mask[expected[0] // 2, -expected[1] // 4] == ROCKS


def test_compressed_input(start_node, probe, halves, pixels_of):
    start_node(transport='compressed')
    probe.listen('mask')
    data = cv2.imencode('.png', halves(DRY_GRASS, ROCKS))[1].tobytes()
    message = CompressedImage(format='bgr8; png compressed bgr8', data=data)
    message.header.frame_id = 'zipped'
    reply = probe.send(probe.driver(message_type=CompressedImage), message)
    assert reply.header.frame_id == 'zipped'
    assert pixels_of(reply)[64, 48] == DRY_GRASS
    assert pixels_of(reply)[64, 144] == ROCKS


def test_two_cameras_with_their_own_views(
    start_node, probe, halves, frame, pixels_of, taxonomy, tmp_path
):
    hood = np.zeros((128, 192), np.uint8)
    hood[100:] = 255
    cv2.imwrite(str(tmp_path / 'hood.png'), hood)
    start_node(
        **{
            'cameras': ['windshield', 'left'],
            'windshield.ego_mask': str(tmp_path / 'hood.png'),
            'left.rotation_deg': 180,
        }
    )
    probe.listen('mask')
    probe.listen('mask', 'camera_info', camera='left')
    picture = halves(DRY_GRASS, ROCKS)
    front = pixels_of(probe.send(probe.driver(), frame(picture)))
    side = pixels_of(probe.send(probe.driver('left'), frame(picture), 'left/mask'))
    assert (front[100:] == 255).all()
    assert (front[:100, :96] == DRY_GRASS).all()
    assert (side[:, :96] == DRY_GRASS).all()  # labels stay at the camera's geometry
    assert (side[:, 96:] == ROCKS).all()


def test_legend_is_drawn_on_request(start_node, probe, halves, frame, pixels_of):
    node = start_node()
    probe.listen('overlay')
    driver = probe.driver()
    picture = frame(halves(SKY, SKY, (256, 384)))
    plain = pixels_of(probe.send(driver, picture, 'overlay')).copy()
    np.testing.assert_array_equal(plain, halves(SKY, SKY, (256, 384)))
    assert node.set('overlay_legend', True).successful
    assert (pixels_of(probe.send(driver, picture, 'overlay')) != plain).any()
