"""A checkpoint and a dataset travel to the workers of a fleet, and the numbers are the same."""

from dataclasses import replace
import json
import pickle

import cv2
import pytest
import torch

pytest.importorskip('plotly')
pytest.importorskip('fsspec', reason='fleets need requirements/fleet.txt')

from offroad_seg_core.evaluation.evaluate import Evaluation
from offroad_seg_core.evaluation.predictions import CheckpointPredictor
from offroad_seg_core.evaluation.sources import dataset
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.fleet.run import Fleet
from offroad_seg_core.fleet.worker import Worker, models_identity
from offroad_seg_core.training.checkpoint import load_checkpoint


def test_a_checkpoint_on_workers_gives_the_numbers_of_its_validation(
    finished, monkeypatch, tmp_path
):
    monkeypatch.setattr(dataset, 'FRAMES_A_PART', 1)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')  # a worker sets it for its process
    config = finished[0]
    predictor = CheckpointPredictor(load_checkpoint(config.folder / 'last.ckpt'))
    assert predictor.identity()['version of torch'] == torch.__version__
    frames = config.dataset.frames('validation', predictor.taxonomy)
    source = dataset.DatasetFrames(frames, 'mine')
    evaluation = Evaluation(source, predictor, tmp_path / 'fleet')

    def perform(waiting):
        worker = Worker(pickle.dumps(replace(evaluation, source=SeveralSources({}))), 1)
        assert worker.open() == models_identity(evaluation)
        while waiting:
            task = waiting.popleft()
            yield task, worker.run(pickle.loads(pickle.dumps(task[0])), task[1])

    told = []
    folder = Fleet(evaluation, lambda *counts: told.append(counts)).evaluate(perform)
    cv2.setNumThreads(-1)
    assert told == [(1, 2, 1), (2, 2, 2)]
    said = json.loads((folder / 'summary.json').read_text())
    known = json.loads((config.folder / 'result.json').read_text())
    assert set(said['counts']) == set(known['environments'])
    for name, entry in known['environments'].items():
        assert said['counts'][name]['confusion_matrix'] == entry['confusion_matrix']
