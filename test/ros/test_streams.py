"""Cameras that are served at the same time, where that gives more frames."""

import threading

import numpy as np
import pytest

from offroad_seg_ros.model_loading import wanted_streams
from offroad_seg_ros.params import NodeParams

CAMERAS = ['windshield', 'left']


@pytest.fixture
def streams_win(monkeypatch):
    """What is measured does not matter."""
    monkeypatch.setattr('offroad_seg_core.inference.engines.selection._CLEARLY_MORE', 0.0)


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({}, 2),
        ({'num_streams': 1}, 1),
        ({'num_streams': 3}, 2),
        ({'cameras': ('left',)}, 1),
        ({'num_threads': 1}, 1),
        ({'num_threads': 3, 'cameras': ('a', 'b', 'c', 'd')}, 3),
    ],
)
def test_no_more_than_cameras_and_cores(monkeypatch, changes, expected):
    monkeypatch.setattr('os.sched_getaffinity', lambda _: set(range(8)))
    assert wanted_streams(NodeParams(**changes)) == expected


def test_a_camera_does_not_wait_for_the_other(
    start_node, probe, halves, frame, pixels_of, streams_win, tmp_path
):
    node = start_node(cameras=CAMERAS, num_threads=2, engine_cache=str(tmp_path))
    segmenter = node.node._pipeline.segmenter
    assert segmenter.engine.info.num_streams == 2
    probe.wait_value('engine', 'num_streams', lambda text: text == '2')
    run, held, is_held = segmenter.engine.run, threading.Event(), threading.Event()

    def hold_the_first(images):
        if not is_held.is_set():
            is_held.set()
            assert held.wait(60)
        return run(images)

    segmenter.engine.run = hold_the_first
    for camera in CAMERAS:
        probe.listen('mask', camera=camera)
    windshield, left = (probe.driver(camera) for camera in CAMERAS)

    def is_served():
        windshield.publish(frame(halves(9, 9)))
        return is_held.is_set()

    probe.wait(is_served, 'the first frame to reach the engine')
    mask = probe.send(left, frame(halves(2, 7)), 'left/mask')
    assert (np.unique(pixels_of(mask)) == [2, 7]).all()
    assert probe.got['mask'] == []
    held.set()
    probe.wait(lambda: probe.got['mask'], 'the mask of the first frame')
    assert (pixels_of(probe.got['mask'][-1]) == 9).all()


def test_run_time_parameters_reach_every_camera(
    start_node, probe, halves, frame, pixels_of, streams_win, tmp_path
):
    node = start_node(cameras=CAMERAS, num_threads=2, engine_cache=str(tmp_path))
    drivers = {camera: probe.driver(camera) for camera in CAMERAS}
    for camera in CAMERAS:
        probe.listen('mask', camera=camera)
    node.set('absent_classes', ['Rocks'])
    for camera, driver in drivers.items():
        name = 'mask' if camera == 'windshield' else f'{camera}/mask'
        mask = probe.send(driver, frame(halves(2, 7)), name)
        assert 7 not in pixels_of(mask)
