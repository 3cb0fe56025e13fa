"""Several processes train like one; here two on the CPU."""

import csv
import json
import os
from pathlib import Path
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import distributed
import yaml

from offroad_seg_core.config import ConfigError, dump_config
from offroad_seg_core.datasets.loading import StepBatchSampler
from offroad_seg_core.losses.world import world_mean, world_sums
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.training.distributed import (
    DistributedConfig,
    any_process,
    end_started_processes,
    gathered,
    is_first_process,
    summed_matrices,
    trainer_options,
)
from offroad_seg_core.training.run import train

ROOT = Path(__file__).parents[2]
PLAIN = (
    'augment.scale_range=[1, 1]',
    'augment.rotation_deg=0',
    'augment.flip_probability=0',
    'augment.photometric.strength=0',
)
# No batch norm: its statistics would be those of a process' own views.
SMALL = (
    'model.name=convnext_tiny_fpn',
    'model.options={encoder: convnext_atto, width: 32, drop_path_rate: 0, dropout: 0}',
)


def train_script(config, *arguments):
    """Run training/train.py in a process of its own; return its exit status and output."""
    path = config.output / f'{config.name}.yaml'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dump_config(config)))
    result = subprocess.run(
        [sys.executable, ROOT / 'training' / 'train.py', '--config', path, *arguments],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return result.returncode, result.stdout + result.stderr


def column(config, name):
    with open(config.folder / 'steps.csv') as stream:
        return np.array([float(row[name]) for row in csv.DictReader(stream)])


@pytest.mark.parametrize('freeze', [0, 3])
def test_two_processes_train_like_one(make_config, freeze):
    options = (
        *PLAIN, *SMALL, 'optimizer.max_steps=6', 'validate_every=3', 'log_every=1',
        'loss.terms=[{name: cross_entropy}, {name: dice}]', 'loss.class_weights=inverse_sqrt',
        f'optimizer.freeze_encoder_steps={freeze}',
    )  # fmt: skip
    one = make_config('name=one', 'loader.batch_size=4', *options)
    two = make_config('name=two', 'loader.batch_size=2', *options)
    train(one)
    status, output = train_script(two, '--devices', '2')
    assert status == 0, output
    assert 'MEMBER: 2/2' in output
    for name in ('cross_entropy', 'dice', 'total'):
        assert column(two, name) == pytest.approx(column(one, name), abs=1e-5)
    assert column(one, 'total')[-1] < column(one, 'total')[0] - 0.1
    first, second = (
        torch.load(config.folder / 'last.ckpt', weights_only=True)['state_dict']
        for config in (one, two)
    )
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-3, atol=1e-4)
    # Each process measured half of the frames; together it is every pixel of both, once.
    matrices = [
        json.loads((config.folder / 'result.json').read_text())['environments']['validation']
        for config in (one, two)
    ]
    counts = [np.array(matrix['confusion_matrix']) for matrix in matrices]
    assert counts[0].sum() == counts[1].sum() == 2 * 64 * 128
    assert np.abs(counts[0] - counts[1]).sum() < 200
    names = {path.name for path in two.folder.iterdir()}
    assert names == {path.name for path in one.folder.iterdir()}
    assert output.count('over the classes present') == 1


class TestSampler:
    @pytest.mark.parametrize('weights', [None, np.array([1.0, 1, 1, 4, 1])])
    def test_the_processes_together_see_the_large_batch(self, weights):
        whole = StepBatchSampler(5, 6, 20, 3, weights)
        parts = [StepBatchSampler(5, 2, 20, 3, weights, rank=r, world_size=3) for r in range(3)]
        for step in range(20):
            keys = whole.keys(step)
            assert [part.keys(step) for part in parts] == [keys[0::3], keys[1::3], keys[2::3]]

    def test_the_views_of_all_processes_have_one_size(self, make_config):
        from offroad_seg_core.inference.manifest import InputSpec
        from offroad_seg_core.taxonomy import load_taxonomy
        from offroad_seg_core.training.batches import create_training_loader

        config = make_config(
            'loader.crop_scale_range=[0.5, 2]', 'loader.crop_size=[256, 512]',
            'distributed.devices=2', 'optimizer.max_steps=20',
        )  # fmt: skip
        frames = config.dataset.frames('train', load_taxonomy('falcon10'))
        spec = InputSpec(size=(64, 128), mean=(0, 0, 0), std=(1, 1, 1), stride=32)
        sizes = []
        for rank in range(2):
            loader, sampler = create_training_loader(config, frames, spec, rank)
            sizes.append([loader.dataset.batch_crop_size(keys) for keys in sampler])
        assert sizes[0] == sizes[1]
        assert len(set(sizes[0])) > 5


class TestOneProcess:
    def test_nothing_is_done_to_the_values(self):
        values = (torch.tensor(2.0), torch.ones(3))
        assert all(a is b for a, b in zip(world_sums(*values), values, strict=True))
        assert world_mean(values[0]) is values[0]
        assert gathered('x') == ['x']
        assert any_process(True, torch.device('cpu')) is True
        matrix = ConfusionMatrix(2)
        assert summed_matrices({'a': matrix}, 2, torch.device('cpu')) == {'a': matrix}


class TestOptions:
    def test_what_lightning_is_told(self):
        options = trainer_options(DistributedConfig(), {})
        assert options == {
            'devices': 1, 'num_nodes': 1, 'strategy': 'auto', 'sync_batchnorm': False
        }  # fmt: skip
        config = DistributedConfig(devices=2, num_nodes=3)
        assert config.world_size == 6
        assert trainer_options(config, {'WORLD_SIZE': '6'})['strategy'] == 'ddp'
        frozen = trainer_options(config, {}, some_wait=True)
        assert frozen['strategy'] == 'ddp_find_unused_parameters_true'

    def test_synchronised_norms_need_gpus(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
        with pytest.raises(ConfigError, match='sync_batchnorm is true, but there is no CUDA GPU'):
            trainer_options(DistributedConfig(devices=2, sync_batchnorm=True), {})

    def test_more_devices_than_there_are(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
        match = r'distributed\.devices is 4, but this machine has 2 CUDA GPUs'
        with pytest.raises(ConfigError, match=match):
            trainer_options(DistributedConfig(devices=4), {})

    @pytest.mark.parametrize(
        ('variable', 'launcher'), [('WORLD_SIZE', 'torchrun'), ('SLURM_STEP_NUM_TASKS', 'srun')]
    )
    def test_a_launcher_that_started_another_number(self, variable, launcher):
        match = rf'{launcher} started 4 processes \({variable}\), but .* is 2 x 1; make them equal'
        with pytest.raises(ConfigError, match=match):
            trainer_options(DistributedConfig(devices=2), {variable: '4'})

    def test_who_is_first(self, monkeypatch):
        for name in ('RANK', 'LOCAL_RANK', 'NODE_RANK', 'SLURM_PROCID'):
            monkeypatch.delenv(name, raising=False)
        assert is_first_process()
        monkeypatch.setenv('LOCAL_RANK', '0')
        assert is_first_process()
        monkeypatch.setenv('RANK', '4')
        assert not is_first_process()


def test_no_process_is_left_waiting():
    process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    state = SimpleNamespace(finished=False)
    launcher = SimpleNamespace(procs=[process])
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher), state=state)
    end_started_processes(trainer, patience_s=0.05)
    assert process.wait(10) == -9
    end_started_processes(trainer)  # it is over already
    alone = SimpleNamespace(strategy=SimpleNamespace(launcher=None), state=state)
    end_started_processes(alone)


def test_who_has_finished_parts_from_the_others(tmp_path):
    store = f'file://{tmp_path}/store'
    distributed.init_process_group('gloo', init_method=store, rank=0, world_size=1)
    state = SimpleNamespace(finished=False)
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=None), state=state)
    try:
        end_started_processes(trainer)
        assert distributed.is_initialized()
    finally:
        state.finished = True
        end_started_processes(trainer)
    assert not distributed.is_initialized()
