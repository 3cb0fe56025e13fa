"""What a resumed run needs, keeps and leaves alone; test_run.py has its weights."""

import csv
import json

import pytest
from safetensors.torch import save_file
import torch

from offroad_seg_core.models import create_model
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.checkpoint import Checkpoint, load_checkpoint
from offroad_seg_core.training.recorder import Recorder
from offroad_seg_core.training.run import train


class KilledError(Exception):
    """Stands for a power cut."""


@pytest.fixture
def train_until(monkeypatch):
    """Return a function that trains and is killed right after a step."""

    def run(config, step, **options):
        def kill(self, trainer, *arguments):
            original(self, trainer, *arguments)
            if trainer.global_step == step:
                raise KilledError

        original = Recorder.on_train_batch_end
        with monkeypatch.context() as patch:
            patch.setattr(Recorder, 'on_train_batch_end', kill)
            with pytest.raises(KilledError):
                train(config, **options)

    return run


def test_the_last_scores_stay_until_the_next(make_config, train_until):
    config = make_config('checkpoint_every=1', 'log_every=1')
    train_until(config, 2)
    before = load_checkpoint(config.folder / 'last.ckpt').info
    log = config.folder / 'steps.csv'
    lines = log.read_text().splitlines()
    log.write_text(''.join(f'{line.rpartition(",")[0]}\n' for line in lines))  # a column less
    train_until(config, 3, resume=True)
    after = load_checkpoint(config.folder / 'last.ckpt').info
    assert (before['step'], after['step']) == (2, 3)
    assert after['scores'] == before['scores'] != {}
    assert after['miou_present'] == before['miou_present'] > 0
    with open(log, newline='') as stream:
        rows = list(csv.reader(stream))
    assert [row[0] for row in rows] == ['step', '1', '2', '3']
    assert len({len(row) for row in rows}) == 1  # the columns that it began with


def test_a_run_that_stopped_early_is_over(make_config):
    config = make_config(
        'optimizer.max_steps=8', 'optimizer.learning_rate=1e-12', 'validate_every=1',
        'early_stopping=1',
    )  # fmt: skip
    scores = train(config)
    files = [config.folder / name for name in ('last.ckpt', 'result.json', 'validation.jsonl')]
    before = [file.read_bytes() for file in files]
    assert json.loads(before[1])['step'] < 8
    assert train(config, resume=True).to_dict() == scores.to_dict()
    assert [file.read_bytes() for file in files] == before


def test_what_it_started_from_is_needed_no_more(make_config, train_until, tmp_path):
    network = create_model('fpn', 10, encoder='resnet18')
    encoder, start = tmp_path / 'encoder.safetensors', tmp_path / 'start.ckpt'
    options = ('model.name=fpn', 'model.options={encoder: resnet18}', 'optimizer.max_steps=2')
    save_file(network.encoder.state_dict(), encoder)
    first = make_config(*options)
    info = {'scores': {}}
    Checkpoint(start, first, load_taxonomy('falcon10'), info, network.state_dict()).save(start)
    config = make_config(
        *options, f'model.weights={encoder}', f'init_checkpoint={start}', 'checkpoint_every=1'
    )
    train_until(config, 1)
    encoder.unlink()
    start.unlink()
    train(config, resume=True)
    last = load_checkpoint(config.folder / 'last.ckpt')
    assert last.info['step'] == 2
    assert all(torch.isfinite(value).all() for value in last.weights.values())
