"""Each bad input is counted and told with its reason, and the next good frame is served."""

from array import array
import shutil
import time

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

GOOD = 3


def _unknown_encoding(message):
    message.encoding = 'thermal14'


def _short_step(message):
    message.step = 100


def _long_step(message):
    message.step += 8


def _truncated(message):
    message.data = message.data[:1000]


def _empty(message):
    message.data = array('B')


def _too_long(message):
    message.data = message.data + array('B', bytes(64))


def _zero_size(message):
    message.height = 0
    message.data = array('B')


@pytest.mark.parametrize(
    ('spoil', 'reason'),
    [
        (_unknown_encoding, "'thermal14'.*bgr8.*cv_bridge"),
        (_short_step, 'step: got 100, expected at least 576'),
        (_long_step, r'step 584 x 128 rows = 74752'),
        (_truncated, r'1000 bytes \(truncated\)'),
        (_empty, r'0 bytes \(empty\)'),
        (_too_long, 'too long'),
        (_zero_size, '0 rows of 192 pixels'),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_a_bad_image_is_counted_and_the_next_good_one_served(
    start_node, probe, halves, frame, pixels_of, spoil, reason
):
    node = start_node()
    probe.listen('mask')
    driver = probe.driver()
    good = frame(halves(GOOD, GOOD))
    probe.send(driver, good)
    bad = frame(halves(0, 0))
    spoil(bad)
    driver.publish(bad)
    statistics = node.node._pipeline.streams['windshield'].statistics
    probe.wait(lambda: statistics.snapshot().counters.failed == 1, 'the failure')
    probe.spin(0.05)
    _assert_matches(reason, statistics.snapshot().last_error)
    assert (pixels_of(probe.send(driver, good)) == GOOD).all()
    assert statistics.snapshot().counters.failed == 1


def _assert_matches(pattern: str, text: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


@pytest.mark.parametrize('kind', ['garbage', 'truncated', 'empty'])
def test_bad_jpeg(start_node, probe, halves, pixels_of, kind):
    node = start_node(transport='compressed')
    probe.listen('mask')
    driver = probe.driver(message_type=CompressedImage)
    jpeg = cv2.imencode('.jpg', halves(GOOD, GOOD))[1].tobytes()
    good = CompressedImage(format='jpeg', data=jpeg)
    probe.send(driver, good)
    data = {'garbage': b'no picture at all', 'truncated': jpeg[: len(jpeg) // 2], 'empty': b''}
    driver.publish(CompressedImage(format='jpeg', data=data[kind]))
    statistics = node.node._pipeline.streams['windshield'].statistics
    probe.wait(lambda: statistics.snapshot().counters.failed == 1, 'the failure')
    _assert_matches(r"compressed image: got \d+ bytes.*'jpeg'", statistics.snapshot().last_error)
    assert (pixels_of(probe.send(driver, good)) == GOOD).all()


def test_failures_reach_diagnostics(start_node, probe, halves, frame):
    start_node(input_timeout_s=60.0)
    probe.listen('mask')
    driver = probe.driver()
    bad = frame(halves(0, 0))
    bad.encoding = 'thermal14'
    probe.wait_value('windshield', 'level', lambda level: level == 0)
    driver.publish(bad)
    values = probe.wait_value('windshield', 'failed', lambda count: count == '1')
    assert values['level'] == 2
    assert 'thermal14' in values['message']
    assert 'thermal14' in values['last_error']
    probe.send(driver, frame(halves(0, 0)))
    probe.wait_value('windshield', 'level', lambda level: level == 0)


def test_the_size_may_change_with_every_frame(start_node, probe, halves, frame, pixels_of):
    start_node()
    probe.listen('mask', 'overlay')
    driver = probe.driver()
    for size in [(128, 192), (64, 96), (480, 720), (128, 192), (1, 1), (3, 500), (64, 96)]:
        mask = pixels_of(probe.send(driver, frame(halves(GOOD, GOOD, size))))
        assert mask.shape == size
        if size != (3, 500):  # less than one block of the network is covered there
            assert (mask == GOOD).all()


def test_two_publishers_of_different_sizes(start_node, probe, halves, frame, pixels_of):
    start_node()
    probe.listen('mask')
    first = probe.driver()
    second = probe.node.create_publisher(Image, 'windshield/image', 5)
    probe.wait(lambda: second.get_subscription_count() > 0, 'the second driver')
    for _ in range(3):
        assert (pixels_of(probe.send(first, frame(halves(2, 2)))) == 2).all()
        mask = pixels_of(probe.send(second, frame(halves(7, 7, (96, 96)))))
        assert mask.shape == (96, 96)
        assert (mask == 7).all()


def test_an_ego_mask_of_another_size_fails_the_frame_with_the_fix(
    start_node, probe, halves, frame, tmp_path
):
    cv2.imwrite(str(tmp_path / 'hood.png'), np.zeros((10, 10), np.uint8))
    node = start_node(**{'windshield.ego_mask': str(tmp_path / 'hood.png')})
    probe.listen('mask')
    driver = probe.driver()
    statistics = node.node._pipeline.streams['windshield'].statistics
    driver.publish(frame(halves(0, 0)))
    probe.wait(lambda: statistics.snapshot().counters.failed, 'the failure')
    _assert_matches(r'ego mask of size \(10, 10\).*\(128, 192\)', statistics.snapshot().last_error)


def test_a_stamp_before_1970_fails_the_frame_and_not_the_worker(
    start_node, probe, halves, frame, pixels_of
):
    node = start_node(age_source='stamp', max_age_ms=3_600_000.0)
    probe.listen('mask')
    driver = probe.driver()
    statistics = node.node._pipeline.streams['windshield'].statistics
    now_s = int(time.time())
    probe.send(driver, frame(halves(GOOD, GOOD), sec=now_s))
    driver.publish(frame(halves(GOOD, GOOD), sec=-1))
    probe.wait(lambda: statistics.snapshot().counters.failed == 1, 'the failure')
    _assert_matches(
        'header.stamp: got -1 s.*age_source to receipt', statistics.snapshot().last_error
    )
    assert (pixels_of(probe.send(driver, frame(halves(GOOD, GOOD), sec=now_s))) == GOOD).all()


def test_a_fault_with_changing_numbers_is_logged_once(start_node, probe, halves, frame):
    node = start_node()
    probe.listen('mask')
    driver = probe.driver()
    probe.send(driver, frame(halves(GOOD, GOOD)))
    statistics = node.node._pipeline.streams['windshield'].statistics
    for count in (1, 2, 3):
        bad = frame(halves(GOOD, GOOD))
        bad.data = bad.data[: 1000 * count]
        driver.publish(bad)
        probe.wait(lambda c=count: statistics.snapshot().counters.failed == c, 'the failure')
    probe.wait_said('1000 bytes (truncated)')
    probe.spin(0.2)
    assert sum('(truncated)' in line for line in probe.log) == 1


def _missing(folder):
    shutil.rmtree(folder)


def _damaged(folder):
    (folder / 'model.onnx').write_bytes(b'damaged')


@pytest.mark.parametrize(
    ('spoil', 'reason'),
    [(_missing, 'no such folder'), (_damaged, 'model.onnx is damaged')],
    ids=['missing', 'damaged'],
)
def test_a_bad_bundle_can_be_replaced_and_configured_again(
    start_node, probe, palette_bundle, tmp_path, halves, frame, pixels_of, spoil, reason, capfd
):
    copy = tmp_path / 'bundle'
    shutil.copytree(palette_bundle, copy)
    spoil(copy)
    node = start_node(bundle=str(copy))
    assert not node.is_active
    assert node.state() == 'unconfigured'
    assert reason in capfd.readouterr().err
    values = probe.wait_value('engine', 'level', lambda level: level == 2)
    assert reason in values['message']
    assert node.set('bundle', str(palette_bundle)).successful
    assert node.run(node.node.autostart)
    probe.listen('mask')
    assert (pixels_of(probe.send(probe.driver(), frame(halves(GOOD, GOOD)))) == GOOD).all()
    probe.wait_value('engine', 'level', lambda level: level == 0)


def test_no_bundle_names_the_ways_to_give_one(start_node, capfd):
    node = start_node(bundle='')
    assert node.state() == 'unconfigured'
    error = capfd.readouterr().err
    assert 'bundle:=DIR' in error
    assert 'ros2 param set /segmentation_node bundle DIR' in error


@pytest.mark.parametrize(
    ('name', 'value', 'reason', 'mended'),
    [
        ('overlay_alpha', 1.5, 'overlay_alpha: got 1.5, expected 0.0 to 1.0', 0.5),
        ('cameras', ['left', 'left'], 'give left once', ['left']),
        ('cameras', ['front left'], "got 'front left', expected a valid part", ['left']),
        ('tta', 'double', "got 'double', expected one of off, flip", 'flip'),
        ('deadline_ms', 'soon', "got 'soon', expected a float", 50.0),
        ('output_size', '544*960', 'HEIGHTxWIDTH', '544x960'),
        ('cameras', [1, 2], 'a list of texts', ['left']),
    ],
)
def test_a_bad_parameter_at_start_can_be_mended(start_node, capfd, name, value, reason, mended):
    node = start_node(**{name: value})
    assert node.state() == 'unconfigured'
    assert reason in capfd.readouterr().err
    assert node.set(name, mended).successful
    assert node.run(node.node.autostart)
