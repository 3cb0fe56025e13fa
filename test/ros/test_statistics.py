"""Counters that add up, rates and percentiles, and how they are judged."""

from dataclasses import replace
import sys
import types

from hypothesis import given
from hypothesis import strategies as st
import pytest

from offroad_seg_ros.camera_statistics import (
    OUTCOMES,
    CameraStatistics,
    Counters,
    FrameFacts,
    FrameTimes,
    Snapshot,
)
from offroad_seg_ros.diagnostics import CameraState, Level, camera_status
from offroad_seg_ros.params import NodeParams
from offroad_seg_ros.throttle import Throttle

TIMES = FrameTimes(20.0, 1.0, 2.0, 10.0, 3.0, 4.0)
STEADY = (
    'received',
    *OUTCOMES,
    *('waiting', 'lost_in_transport', 'fps_in', 'fps_out', 'passes', 'input_size', 'encoding'),
    *('latency_p50_ms', 'latency_p95_ms', 'engine_p50_ms', 'engine_p95_ms', 'reliability'),
    *('preprocess_p50_ms', 'decode_p50_ms', 'publish_p50_ms', 'convert_p50_ms'),
)


@given(st.lists(st.sampled_from(['receive', 'reset', 'lose', *OUTCOMES]), max_size=60))
def test_the_counters_add_up_whatever_happens(events):
    statistics = CameraStatistics()
    for event in events:
        waiting = statistics.snapshot().counters.waiting
        if event == 'receive':
            statistics.receive()
        elif event == 'reset':
            statistics.reset()
        elif event == 'lose':
            statistics.lose(2)
        elif not waiting:
            continue
        elif event == 'processed':
            statistics.finish_processed(TIMES, FrameFacts())
        else:
            statistics.finish(event)
        counters = statistics.snapshot().counters
        ended = sum(getattr(counters, name) for name in OUTCOMES)
        assert counters.received == ended + counters.waiting


def test_new_counts_start_at_the_reset_in_between():
    statistics = CameraStatistics()
    statistics.lose(4)
    before = statistics.snapshot().counters
    statistics.lose(1)
    assert statistics.snapshot().counters.since(before).lost_in_transport == 1
    statistics.reset()
    assert statistics.snapshot().counters.since(before).lost_in_transport == 0
    statistics.lose(2)
    assert statistics.snapshot().counters.since(before).lost_in_transport == 2


def test_percentiles_of_the_last_200_frames():
    statistics = CameraStatistics()
    for number in range(300):
        statistics.receive()
        statistics.finish_processed(
            replace(TIMES, latency_ms=float(number)), FrameFacts((2, 3), 'bgr8', (2, 3), 1)
        )
    snapshot = statistics.snapshot()
    p50, p95 = snapshot.times['latency_ms']
    assert p50 == pytest.approx(199.5)  # of 100 … 299
    assert p95 == pytest.approx(100 + 0.95 * 199)
    assert snapshot.times['engine_ms'] == (10.0, 10.0)
    assert snapshot.facts.encoding == 'bgr8'


def test_rates(monkeypatch):
    now = [100.0]
    monkeypatch.setattr('offroad_seg_ros.camera_statistics.time.monotonic', lambda: now[0])
    statistics = CameraStatistics()
    assert statistics.snapshot().fps_in == 0.0
    for _ in range(21):
        statistics.receive()
        now[0] += 0.1
    assert statistics.snapshot().fps_in == pytest.approx(10.0, rel=0.01)
    assert statistics.snapshot().fps_out == 0.0
    now[0] += 10.0
    snapshot = statistics.snapshot()
    assert snapshot.fps_in == 0.0
    assert snapshot.seconds_since_frame == pytest.approx(10.1)


def test_how_long_no_frame_came_to_its_end(monkeypatch):
    now = [100.0]
    monkeypatch.setattr('offroad_seg_ros.camera_statistics.time.monotonic', lambda: now[0])
    statistics = CameraStatistics()

    def stalled_s():
        now[0] += 1.0
        return statistics.snapshot().seconds_stalled

    assert stalled_s() == 0.0
    statistics.receive()
    assert stalled_s() == 1.0
    statistics.receive()  # takes the place of the first
    statistics.finish('dropped_busy')
    assert stalled_s() == 2.0
    statistics.receive()
    statistics.finish('failed')
    assert stalled_s() == 1.0  # the other still waits
    statistics.finish_processed(TIMES, FrameFacts())
    assert stalled_s() == 0.0
    now[0] += 10.0
    statistics.receive()
    assert stalled_s() == 1.0
    statistics.reset()
    assert stalled_s() == 1.0
    statistics.finish('dropped_busy')  # by the stream that stops
    assert stalled_s() == 0.0


def _state(counters=None, previous=None, **changes):
    snapshot = Snapshot(
        counters=counters or Counters(received=5, processed=5),
        fps_in=10.0,
        fps_out=10.0,
        times={'latency_ms': (20.0, 30.0), 'engine_ms': (float('nan'), float('nan'))},
        facts=FrameFacts((1200, 1920), 'bgr8', (1200, 1920), 1),
        last_error=changes.pop('last_error', ''),
        seconds_since_frame=changes.pop('silence_s', 0.1),
        seconds_stalled=changes.pop('stalled_s', 0.0),
    )
    state = CameraState(
        name='windshield',
        snapshot=snapshot,
        previous=previous or Counters(),
        is_active=True,
        wants_images=True,
        wants_info=True,
        topic='/windshield/image',
        topic_problem='',
        num_publishers=1,
        reliability='reliable',
    )
    return replace(state, **changes)


@pytest.mark.parametrize(
    ('state', 'level', 'message'),
    [
        (_state(), Level.OK, 'running'),
        (_state(is_active=False, silence_s=99.0), Level.OK, 'inactive'),
        (
            _state(wants_images=False, wants_info=False),
            Level.OK,
            'idle: nobody subscribes to an output',
        ),
        (_state(wants_images=False), Level.OK, 'idle: only camera_info is subscribed'),
        (_state(silence_s=2.5), Level.WARN, 'no frame for 2.5 s'),
        (_state(silence_s=11.0), Level.ERROR, 'no frame for 11.0 s'),
        (_state(stalled_s=2.5), Level.WARN, 'no frame came to its end for 2.5 s'),
        (_state(stalled_s=11.0), Level.ERROR, 'no frame came to its end for 11.0 s'),
        (_state(stalled_s=11.0, is_active=False), Level.OK, 'inactive'),
        (_state(topic_problem='/x: nobody'), Level.WARN, '/x: nobody'),
        (
            _state(Counters(received=3, processed=2, failed=1), last_error='bad step'),
            Level.WARN,
            '1 frames failed: bad step',
        ),
        (
            _state(Counters(received=3, failed=3), last_error='bad step'),
            Level.ERROR,
            '3 frames failed: bad step',
        ),
        (
            _state(
                Counters(received=3, failed=3, processed=9),
                previous=Counters(received=3, failed=3, processed=4),
            ),
            Level.OK,
            'running',
        ),
        (
            _state(Counters(received=4, dropped_stale=4)),
            Level.WARN,
            'all 4 frames were older than max_age_ms',
        ),
        (_state(Counters(lost_in_transport=3)), Level.WARN, '3 frames lost in transport'),
        (
            _state(
                Counters(received=99, failed=1, resets=2),
                previous=Counters(received=90, failed=90, resets=1),
            ),
            Level.ERROR,
            '1 frames failed: ',
        ),
    ],
)
def test_camera_status(state, level, message):
    status = camera_status(state, NodeParams())
    assert (status.level, status.message) == (level, message)


def test_the_worst_finding_comes_first_and_none_is_lost():
    state = _state(silence_s=50.0, topic_problem='/x: nobody')
    status = camera_status(state, NodeParams())
    assert status.level == Level.ERROR
    assert status.message == 'no frame for 50.0 s; /x: nobody'


def test_disabled_is_said():
    status = camera_status(_state(), NodeParams(enabled=False))
    assert status.message == 'disabled by the parameter enabled'


def test_figures_of_a_working_camera(start_node, probe, halves, frame):
    start_node()
    probe.listen('mask')
    driver = probe.driver()
    probe.send(driver, frame(halves(0, 0)))
    values = probe.wait_value('windshield', 'processed', lambda count: int(count) > 0)
    assert set(STEADY) <= set(values)
    assert values['input_size'] == '128x192'
    assert values['encoding'] == 'bgr8'
    assert values['passes'] == '1'
    assert 0 < float(values['engine_p50_ms']) <= float(values['latency_p50_ms']) < 1000
    engine = probe.diagnostics['engine']
    assert engine['engine'] == 'onnxruntime'
    assert engine['precision'] == 'fp32'
    assert engine['bundle'].startswith('palette (')
    assert engine['state'] == 'active'
    assert engine['cpu']


def test_throttle(monkeypatch):
    now = [0.0]
    monkeypatch.setattr('offroad_seg_ros.throttle.time.monotonic', lambda: now[0])
    throttle = Throttle(5.0)
    assert throttle.allows('a')
    assert not throttle.allows('a')
    assert throttle.allows('b')
    now[0] = 5.0
    assert throttle.allows('a')


def test_label_info_where_vision_msgs_is_installed(start_node, monkeypatch, taxonomy):
    # No wheel has vision_msgs: a stand-in with its fields, and a publisher that records.
    published = []

    class _Message:
        def __init__(self, **fields):
            self.__dict__.update(fields)

    class _LabelInfo(_Message):
        def __init__(self):
            super().__init__(header=types.SimpleNamespace(stamp=None))

    module = types.ModuleType('vision_msgs.msg')
    module.LabelInfo, module.VisionClass = _LabelInfo, _Message
    monkeypatch.setitem(sys.modules, 'vision_msgs', types.ModuleType('vision_msgs'))
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', module)
    node = start_node(autostart=False)
    create = node.node.create_publisher

    def record(message_type, topic, *arguments, **keywords):
        if message_type is _LabelInfo:
            assert topic == 'segmentation/label_info'
            return types.SimpleNamespace(publish=published.append)
        return create(message_type, topic, *arguments, **keywords)

    destroy = node.node.destroy_publisher
    monkeypatch.setattr(node.node, 'create_publisher', record)
    monkeypatch.setattr(
        node.node,
        'destroy_publisher',
        lambda publisher: isinstance(publisher, types.SimpleNamespace) or destroy(publisher),
    )
    assert node.run(node.node.trigger_configure).name == 'SUCCESS'
    assert node.set('confidence_threshold', 0.25).successful
    first, second = published
    assert [(entry.class_id, entry.class_name) for entry in first.class_map] == list(
        enumerate(taxonomy.names)
    )
    assert (first.threshold, second.threshold) == (0.0, 0.25)
