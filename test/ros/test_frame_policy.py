"""Newest frame wins, old frames are dropped, nothing is computed for nobody, counts add up."""

import threading
import time

from builtin_interfaces.msg import Time as TimeMessage
import pytest
from rosgraph_msgs.msg import Clock

from offroad_seg_ros.camera_statistics import OUTCOMES


def _counters(node, camera='windshield'):
    return node.node._pipeline.streams[camera].statistics.snapshot().counters


def _adds_up(counters) -> bool:
    ended = sum(getattr(counters, name) for name in OUTCOMES)
    return counters.received == ended + counters.waiting


class _Gate:
    """Holds the engine until it is opened, and knows how often it ran."""

    def __init__(self, node):
        self._engine = node.node._pipeline.segmenter.engine
        self._run = self._engine.run
        self._engine.run = self._held
        self.open = threading.Event()
        self.runs = 0

    def _held(self, images):
        self.runs += 1
        assert self.open.wait(10)
        return self._run(images)


def test_without_a_listener_the_engine_does_not_run(start_node, probe, halves, frame):
    node = start_node()
    gate = _Gate(node)
    driver = probe.driver()
    for _ in range(5):
        driver.publish(frame(halves(0, 0)))
        probe.spin(0.05)
    values = probe.wait_value('windshield', 'skipped_idle', lambda count: int(count) >= 4)
    assert values['message'] == 'idle: nobody subscribes to an output'
    assert values['level'] == 0
    assert gate.runs == 0
    gate.open.set()
    probe.listen('mask')
    probe.send(driver, frame(halves(0, 0)))
    assert gate.runs >= 1
    assert _adds_up(_counters(node))


def test_disabled_drops_frames_until_enabled(start_node, probe, halves, frame):
    node = start_node(enabled=False)
    probe.listen('mask')
    driver = probe.driver()
    driver.publish(frame(halves(0, 0)))
    values = probe.wait_value('windshield', 'skipped_idle', lambda count: count == '1')
    assert 'disabled' in values['message']
    assert node.set('enabled', True).successful
    probe.send(driver, frame(halves(0, 0)))
    assert _counters(node).processed >= 1


def test_only_the_newest_frame_waits(start_node, probe, halves, frame):
    node = start_node()
    probe.listen('mask')
    driver = probe.driver()
    probe.send(driver, frame(halves(0, 0)))
    probe.wait(lambda: not _counters(node).waiting, 'an idle worker')
    before = _counters(node)
    probe.got['mask'].clear()
    gate = _Gate(node)
    for sec in range(100, 106):
        driver.publish(frame(halves(0, 0), sec=sec))
        wanted = before.received + sec - 99
        probe.wait(lambda wanted=wanted: _counters(node).received == wanted, 'receipt')
        if sec == 100:
            probe.wait(lambda: gate.runs == 1, 'the first frame in work')
    held = _counters(node)
    assert held.waiting == 2  # one in work, the newest next
    assert held.dropped_busy - before.dropped_busy == 4
    assert _adds_up(held)
    gate.open.set()
    probe.wait(lambda: _counters(node).processed == before.processed + 2, 'both')
    probe.spin(0.1)
    assert [message.header.stamp.sec for message in probe.got['mask']][-1] == 105
    assert _adds_up(_counters(node))


def test_a_fast_camera_does_not_starve_a_slow_one(start_node, probe, halves, frame):
    node = start_node(cameras=['windshield', 'left'])
    probe.listen('mask')
    probe.listen('mask', camera='left')
    fast, slow = probe.driver(), probe.driver('left')
    probe.send(fast, frame(halves(0, 0)))
    probe.send(slow, frame(halves(0, 0)), 'left/mask')
    engine = node.node._pipeline.segmenter.engine
    run = engine.run
    engine.run = lambda images: time.sleep(0.05) or run(images)
    before = _counters(node), _counters(node, 'left')
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        for _ in range(4):
            fast.publish(frame(halves(0, 0)))
            probe.spin(0.005)
        slow.publish(frame(halves(0, 0)))
    done = [
        _counters(node, name).processed - old.processed
        for name, old in zip(('windshield', 'left'), before, strict=True)
    ]
    assert min(done) >= 0.35 * sum(done), done


def test_stale_by_receipt(start_node, probe, halves, frame):
    node = start_node(max_age_ms=30.0)
    probe.listen('mask')
    driver = probe.driver()
    probe.send(driver, frame(halves(0, 0)))
    probe.wait(lambda: not _counters(node).waiting, 'an idle worker')
    gate = _Gate(node)
    driver.publish(frame(halves(0, 0)))
    probe.wait(lambda: gate.runs == 1, 'the first frame in work')
    driver.publish(frame(halves(0, 0)))
    probe.wait(lambda: _counters(node).waiting == 2, 'the next frame')
    before = _counters(node)
    probe.spin(0.1)
    gate.open.set()
    probe.wait(lambda: not _counters(node).waiting, 'the end')
    counters = _counters(node)
    assert counters.dropped_stale == before.dropped_stale + 1
    assert _adds_up(counters)


def test_a_clock_that_goes_wrong_later_is_told_too(start_node, probe, halves, frame):
    node = start_node(age_source='stamp', max_age_ms=500.0)
    probe.listen('mask')
    driver = probe.driver()
    fresh = frame(halves(0, 0))
    fresh.header.stamp = node.node.get_clock().now().to_msg()
    fresh.header.stamp.sec += 60
    probe.send(driver, fresh)
    probe.wait_value('windshield', 'processed', lambda count: int(count) > 0)
    for count in range(1, 7):
        driver.publish(frame(halves(0, 0)))
        probe.wait(lambda c=count: _counters(node).dropped_stale == c, 'a stale frame')
    probe.wait_said('windshield: all frames are older than max_age_ms')


def test_stale_by_stamp_warns_once_with_the_fix(start_node, probe, halves, frame):
    node = start_node(age_source='stamp', max_age_ms=500.0)
    probe.listen('mask')
    driver = probe.driver()
    for _ in range(8):
        driver.publish(frame(halves(0, 0), sec=7))  # 1970
        probe.spin(0.03)
    values = probe.wait_value('windshield', 'level', lambda level: level == 1)
    assert 'max_age_ms' in values['message']
    for _ in range(3):
        driver.publish(frame(halves(0, 0), sec=7))
        probe.spin(0.4)
    assert 'use_sim_time' in probe.wait_said('set age_source to receipt')
    assert sum('set age_source to receipt' in line for line in probe.log) == 1
    assert _counters(node).processed == 0
    fresh = frame(halves(0, 0))
    fresh.header.stamp = node.node.get_clock().now().to_msg()
    probe.send(driver, fresh)
    assert node.set('age_source', 'receipt').successful
    probe.send(driver, frame(halves(0, 0), sec=7))


def test_a_clock_that_jumps_back_starts_the_statistics_anew(start_node, probe, halves, frame):
    node = start_node(use_sim_time=True, age_source='stamp', max_age_ms=500.0)
    probe.listen('mask')
    clock = probe.node.create_publisher(Clock, '/clock', 10)
    driver = probe.driver()
    probe.wait(lambda: clock.get_subscription_count() > 0, 'the clock')

    def play(sec):
        clock.publish(Clock(clock=TimeMessage(sec=sec)))
        probe.wait(lambda: node.node.get_clock().now().nanoseconds == sec * 10**9, 'the time')
        return probe.send(driver, frame(halves(0, 0), sec=sec))

    play(1000)
    play(1001)
    assert _counters(node).processed >= 2
    clock.publish(Clock(clock=TimeMessage(sec=500)))
    probe.wait(lambda: _counters(node).processed == 0, 'the reset')
    assert play(500).header.stamp.sec == 500  # and nothing is stale
    assert _adds_up(_counters(node))


def test_the_watchdog_warns_then_errs_and_recovers(start_node, probe, halves, frame):
    node = start_node(input_timeout_s=0.6)
    probe.listen('mask')
    driver = probe.driver()
    probe.send(driver, frame(halves(0, 0)))
    probe.log.clear()
    values = probe.wait_value('windshield', 'level', lambda level: level == 1)
    assert 'no frame for' in values['message']
    probe.wait_value('windshield', 'level', lambda level: level == 2)
    assert node.set('input_timeout_s', 2.0).successful
    probe.send(driver, frame(halves(0, 0)))
    probe.wait_value('windshield', 'level', lambda level: level == 0)
    probe.wait_said('recovered')
    told = [line for line in probe.log if line.startswith('camera windshield')]
    assert len(told) == 3, told  # WARN, ERROR, recovered: once each


@pytest.mark.parametrize('error', [RuntimeError('out of memory'), ValueError('odd')])
def test_an_engine_that_fails_costs_one_frame(start_node, probe, halves, frame, error):
    node = start_node()
    probe.listen('mask')
    driver = probe.driver()
    probe.send(driver, frame(halves(0, 0)))
    engine = node.node._pipeline.segmenter.engine
    run = engine.run

    def fail(images):
        engine.run = run
        raise error

    engine.run = fail
    driver.publish(frame(halves(0, 0)))
    probe.wait(lambda: _counters(node).failed == 1, 'the failure')
    probe.wait_said(str(error))
    probe.send(driver, frame(halves(0, 0)))
    assert _adds_up(_counters(node))


def test_an_engine_that_hangs_is_told(start_node, probe, halves, frame):
    node = start_node(input_timeout_s=0.1)
    engine, go = node.node._pipeline.segmenter.engine, threading.Event()
    run = engine.run
    engine.run = lambda images: go.wait(60) and run(images)
    probe.listen('mask')
    driver = probe.driver()

    def is_told():
        driver.publish(frame(halves(2, 7)))
        camera = probe.diagnostics.get('windshield', {'level': 0})
        return camera['level'] == 2 and 'no frame came to its end for' in camera['message']

    try:
        probe.wait(is_told, 'an error')
    finally:
        go.set()
    probe.wait_value('windshield', 'message', lambda text: 'its end' not in text)
