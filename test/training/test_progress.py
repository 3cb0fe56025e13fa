"""What one sees of a training while it runs."""

import io
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from offroad_seg_core.config import ConfigError
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training import progress, tensorboard_log
from offroad_seg_core.training.progress import Progress, describe_progress
from offroad_seg_core.training.run import train
from offroad_seg_core.training.tensorboard_log import compose_picture

SCORES = SimpleNamespace(miou_present=0.41239)


class Run:
    """A trainer and its clock: every step takes half a second."""

    def __init__(self, monkeypatch, first_step=0):
        self.now_s = 100.0
        monkeypatch.setattr(progress.time, 'monotonic', lambda: self.now_s)
        self.trainer = SimpleNamespace(
            is_global_zero=True,
            global_step=first_step,
            max_steps=100,
        )
        rates = {'body': 2e-3, 'encoder': 2e-4}
        self.task = SimpleNamespace(terms={'total': 0.53217}, learning_rates=rates)

    def go(self, shown, steps):
        shown.on_train_start(self.trainer, self.task)
        for _ in range(steps):
            self.now_s += 0.5
            self.trainer.global_step += 1
            shown.on_train_batch_end(self.trainer, self.task, None, None, 0)
        shown.on_train_end(self.trainer, self.task)


def test_line():
    assert describe_progress(24.06, 3725.4, 0.53217, 2e-3, SCORES) == (
        '24.1 images/s, 1:02:05 left, loss 0.5322, learning rate 2.00e-03, mIoU 0.4124'
    )
    assert describe_progress(24.06, 3725.4, 0.53217, 2e-3, None).endswith('2.00e-03')


def test_log_without_a_terminal(monkeypatch, caplog):
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    run = Run(monkeypatch, first_step=40)
    with caplog.at_level(logging.INFO):
        run.go(Progress(8, lambda: SCORES, log_every_s=10), steps=45)
    assert [record.getMessage() for record in caplog.records] == [
        # 8 images in half a second; the 40 and 20 steps that are left take half a second each
        'step 60 of 100: 16.0 images/s, 0:00:20 left, loss 0.5322, learning rate 2.00e-03, '
        'mIoU 0.4124',
        'step 80 of 100: 16.0 images/s, 0:00:10 left, loss 0.5322, learning rate 2.00e-03, '
        'mIoU 0.4124',
    ]
    assert sys.stderr.getvalue() == ''


def test_bar_in_a_terminal(monkeypatch, caplog):
    stream = io.StringIO()
    monkeypatch.setattr(stream, 'isatty', lambda: True, raising=False)
    monkeypatch.setattr(sys, 'stderr', stream)
    with caplog.at_level(logging.INFO):
        Run(monkeypatch).go(Progress(8, lambda: None), steps=100)
    *_, last = stream.getvalue().replace('\n', '\r').strip('\r').split('\r')
    assert last.startswith('100% |')
    assert '| step 100 of 100, 16.0 images/s, 0:00:00 left, loss 0.5322' in last
    assert caplog.records == []


def test_other_processes_are_silent(monkeypatch, caplog):
    run = Run(monkeypatch)
    run.trainer.is_global_zero = False
    with caplog.at_level(logging.INFO):
        run.go(Progress(8, lambda: None, log_every_s=0), steps=5)
    assert caplog.records == []


class TestTensorBoard:
    def test_curves_and_pictures(self, make_config):
        pytest.importorskip('tensorboard')
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        config = make_config('tensorboard=true', 'log_every=1')
        scores = train(config)
        events = EventAccumulator(str(config.folder / 'tensorboard'))
        events.Reload()
        tags = events.Tags()
        assert {'loss/cross_entropy', 'loss/dice', 'loss/total', 'learning_rate/body'} <= set(
            tags['scalars']
        )
        assert [event.step for event in events.Scalars('loss/total')] == [1, 2, 3, 4]
        rates = [(event.step, event.value) for event in events.Scalars('learning_rate/body')]
        assert rates[0] == pytest.approx((1, 1e-3))  # half of the warm-up
        assert [step for step, _ in rates] == [1, 2, 3, 4]
        miou = events.Scalars('validation/miou_present')
        assert [event.step for event in miou] == [2, 4]
        assert miou[-1].value == pytest.approx(scores.miou_present)
        assert 'validation_iou/Sky' in tags['scalars']
        assert 'validation_iou/Trees' not in tags['scalars']  # absent
        assert tags['images'] == ['validation/0', 'validation/1']
        image = events.Images('validation/0')[-1]
        assert (image.height, image.width) == (64, 3 * 128 + 8)

    def test_picture(self):
        taxonomy = load_taxonomy('falcon10')
        frame = {
            'image': torch.full((8, 8, 3), 7, dtype=torch.uint8),
            'content_size': (4, 8),
            'target': np.full((2, 4), 9, np.uint8),
        }
        picture = compose_picture(frame, np.array([[8] * 4, [9] * 4], np.uint8), taxonomy)
        assert picture.shape == (4, 32, 3)
        colors = taxonomy.palette_rgb
        assert (picture[:, [8, 11, 20, 23]] == 255).all()
        assert (picture[:, :8] == 7).all()
        assert (picture[:, 12:20] == colors[9]).all()
        assert (picture[:2, 24:] == colors[8]).all()
        assert (picture[2:, 24:] == colors[9]).all()

    def test_it_must_be_installed(self, make_config, monkeypatch):
        monkeypatch.setattr(tensorboard_log, 'find_spec', lambda name: None)
        with pytest.raises(ConfigError, match='the package is not installed; pip install'):
            train(make_config('tensorboard=true'))


def test_the_first_frames_are_learned_by_heart(make_config):
    config = make_config(
        'overfit_frames=2', 'optimizer.max_steps=30', 'validate_every=30',
        'optimizer.ema_decay=0.8', 'mix={kind: classmix}',
    )  # fmt: skip
    scores = train(config)
    assert scores.miou_present > 0.6
    assert scores.num_pixels == 2 * 64 * 128
    text = (config.folder / 'result.json').read_text()
    assert '"train"' in text  # the environment: it was validated on training frames
    assert '"mix": null' in text
