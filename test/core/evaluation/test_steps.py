"""Several frames are labelled at the same time where the engine has several streams."""

from dataclasses import replace
import pickle
import threading

import numpy as np
import pytest

from offroad_seg_core.evaluation import predictors
from offroad_seg_core.evaluation.predictors import (
    Prediction,
    SegmenterPredictor,
    streams_for_throughput,
)
from offroad_seg_core.evaluation.steps import Labeller
from offroad_seg_core.inference.segmenter import Segmenter


class Together:
    """Labels only when as many threads ask as it has streams."""

    num_streams = 2

    def __init__(self, drives):
        self.taxonomy, self.cost_table = drives.TAXONOMY, drives.TAXONOMY.cost_table()
        self._barrier = threading.Barrier(2, timeout=60)

    def predict(self, frame, image, maps):
        self._barrier.wait()
        return Prediction(np.full(image.size, frame.stamp_ns // 10**8 % 10, np.uint8))

    def identity(self):
        return {}

    def description(self):
        return {'model': 'together', 'engine': '', 'options': {}}


def test_frames_are_labelled_together_and_keep_their_order(drives, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', ('front',), 20)
    folder = drives.run(drive, Together(drives), tmp_path / 'result')
    rows = drives.table(folder)
    stamps = [int(row['stamp_ns']) for row in rows]
    assert stamps == sorted(set(stamps))
    names = drives.TAXONOMY.names
    said = [[float(row[f'share_{name}']) for name in names].index(1.0) for row in rows]
    assert said == [stamp // 10**8 % 10 for stamp in stamps]


def test_a_reference_with_one_stream_is_asked_by_one_thread(drives, predictor):
    assert Labeller(Together(drives), None).num_streams == 2
    assert Labeller(Together(drives), predictor).num_streams == 1


def test_streams_say_what_one_says(drives, predictor, palette_bundle, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', num_frames=12)
    alone = drives.run(drive, predictor, tmp_path / 'alone')
    segmenter = Segmenter.open(palette_bundle, 'onnxruntime', num_threads=1)
    segmenter.engine.info = replace(segmenter.engine.info, num_streams=3)  # its own pool is one
    several = SegmenterPredictor(segmenter)
    assert several.num_streams == 3
    assert several.identity() == predictor.identity()
    assert drives.table(drives.run(drive, several, tmp_path / 'several')) == drives.table(alone)
    several.close()


def test_a_frame_that_fails_gives_its_stream_back(drives, predictor, tmp_path):
    """The engine has one: a second failure would wait for ever."""
    drive = drives.write_drive(tmp_path / 'drive', num_frames=4)
    predictor._views = {'front': replace(predictors.UPRIGHT, ego_mask=np.ones((1, 1), bool))}
    rows = drives.table(drives.run(drive, predictor, tmp_path / 'result'))
    said = {camera: {row['problem'] for row in rows if row['camera'] == camera}
            for camera in ('front', 'rear')}  # fmt: skip
    assert said['rear'] == {''}
    assert 'got an ego mask of size (1, 1)' in said['front'].pop()


def test_streams_for_throughput(monkeypatch):
    monkeypatch.setattr(predictors.os, 'sched_getaffinity', lambda _: set(range(16)))
    assert [streams_for_throughput(number) for number in (0, 2, 9)] == [4, 2, 4]
    assert streams_for_throughput(0, 'auto') == 1  # its views depend on the time that is left
    assert streams_for_throughput(0, 'flip') == 4
    monkeypatch.setattr(predictors.os, 'sched_getaffinity', lambda _: {0})
    assert streams_for_throughput() == 1


@pytest.mark.parametrize(('num_streams', 'expected'), [(1, 1), (3, 2)])
def test_a_worker_has_no_more_streams_than_the_command(
    palette_bundle, monkeypatch, num_streams, expected
):
    segmenter = Segmenter.open(palette_bundle, 'onnxruntime', num_threads=1)
    segmenter.engine.info = replace(segmenter.engine.info, num_streams=num_streams)
    content, asked = pickle.dumps(SegmenterPredictor(segmenter)), []

    def create(bundle, *chosen, num_streams, for_throughput):
        asked.append((num_streams, for_throughput))
        return segmenter.engine

    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    monkeypatch.setattr(predictors, 'create_engine', create)
    pickle.loads(content)
    assert asked == [(expected, True)]
    segmenter.close()
