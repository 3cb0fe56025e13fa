import math
from pathlib import Path
import subprocess
import sys

import pytest
import torch

from offroad_seg_core.config import ConfigError, dump_config, load_config
from offroad_seg_core.datasets.procedural import WorldConfig
from offroad_seg_core.models import create_model
from offroad_seg_core.models.teachers import TEACHERS
from offroad_seg_core.provenance import config_sha256
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.ema import update_average
from offroad_seg_core.training.optim import (
    OptimizerConfig,
    build_optimizer,
    learning_rate_factor,
)
from offroad_seg_core.training.trials import smoke_run
from offroad_seg_core.world import DEMO_SEED

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / 'config' / 'train').glob('*.yaml'))


class TestShippedConfigs:
    @pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
    def test_loads_and_fits_its_model(self, path):
        config = load_config(TrainConfig, path)
        name, options, smoke = config.model.name, config.model.options, config.model.smoke
        with torch.device('meta' if name in TEACHERS else 'cpu'):  # without their gigabytes
            multiple = create_model(name, 2, **options).input_multiple
            create_model(name, 2, **{**options, **smoke.options})
        for size in (config.loader.crop_size, config.model.input_size, smoke.input_size):
            assert all(side % multiple == 0 for side in size)

    def test_a_smoke_run_replaces_options_and_changes_no_earlier_hash(self):
        source = {
            'name': 'x',
            'dataset': {'kind': 'folder', 'root': 'x'},
            'model': {'name': 'fpn', 'options': {'encoder': 'resnet101', 'decoder_dropout': 0.5}},
            'optimizer': {'max_steps': 1},
        }
        plain = load_config(TrainConfig, source)
        assert 'smoke' not in dump_config(plain)['model']
        assert smoke_run(plain).model.input_size == (128, 224)
        smoke = {'options': {'encoder': 'resnet18'}, 'input_size': [64, 96]}
        config = load_config(TrainConfig, source, [f'model.smoke={smoke}'])
        assert dump_config(config)['model']['smoke'] == smoke
        small = smoke_run(config)
        assert small.model.options == {'encoder': 'resnet18', 'decoder_dropout': 0.5}
        assert small.model.input_size == small.loader.crop_size == (64, 96)

    def test_the_demo_is_unseen(self):
        config = load_config(TrainConfig, ROOT / 'config' / 'train' / 'demo_desert.yaml')
        assert isinstance(config.dataset, WorldConfig)
        train, validation = (set(config.dataset.seeds(s)) for s in ('train', 'validation'))
        assert DEMO_SEED not in train | validation
        assert not train & validation

    def test_mistakes_in_a_section_of_several_kinds_name_its_own_keys(self):
        source = {
            'name': 'x',
            'dataset': {'kind': 'falcon', 'root': 'x', 'holdot': 'cc'},
            'model': {'name': 'ddrnet23_slim'},
            'optimizer': {'max_steps': 1},
        }
        with pytest.raises(ConfigError) as caught:
            load_config(TrainConfig, source)
        assert "dataset.holdot: unknown key; did you mean 'holdout'?" in str(caught.value)
        assert 'dataset.holdout: missing' in str(caught.value)


class TestSchedule:
    def test_poly(self):
        config = OptimizerConfig(max_steps=12, warmup_steps=2, schedule='poly', power=0.5)
        factors = [learning_rate_factor(step, config) for step in (0, 1, 2, 7, 12, 99)]
        assert factors == pytest.approx([1 / 3, 2 / 3, 1, math.sqrt(0.5), 0, 0])

    def test_cosine(self):
        config = OptimizerConfig(max_steps=8, warmup_steps=0, schedule='cosine')
        factors = [learning_rate_factor(step, config) for step in (0, 2, 4, 8)]
        assert factors == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, 0])

    def test_the_schedule_ends_where_it_shall(self):
        options = {'max_steps': 8, 'warmup_steps': 0, 'final_factor': 0.05}
        cosine = OptimizerConfig(schedule='cosine', **options)
        factors = [learning_rate_factor(step, cosine) for step in (0, 4, 8)]
        assert factors == pytest.approx([1, 0.525, 0.05])
        constant = OptimizerConfig(schedule='constant', **options)
        assert [learning_rate_factor(step, constant) for step in (0, 4, 8)] == [1, 1, 1]

    def test_a_frozen_encoder_does_not_move_at_first(self):
        config = OptimizerConfig(max_steps=8, warmup_steps=0, freeze_encoder_steps=2)
        factors = [learning_rate_factor(step, config, 'encoder') for step in (0, 1, 2)]
        assert factors == pytest.approx([0, 0, (6 / 8) ** 0.9])
        assert learning_rate_factor(0, config) == 1

    def test_norms_and_biases_do_not_decay(self):
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        model[1].bias.requires_grad_(False)
        decayed, free = build_optimizer(model, OptimizerConfig(max_steps=1)).param_groups
        assert [p.shape for p in decayed['params']] == [(4, 3, 3, 3)]
        assert [p.shape for p in free['params']] == [(4,), (4,)]
        assert (decayed['weight_decay'], free['weight_decay']) == (0.01, 0.0)

    def test_parts_have_their_own_learning_rates(self):
        model = create_model('fpn', 3, encoder='resnet18')
        config = OptimizerConfig(
            max_steps=1, learning_rate=1e-4, encoder_factor=0.3, classifier_factor=3.0
        )
        groups = build_optimizer(model, config).param_groups
        found = {(group['part'], group['weight_decay'] > 0): group for group in groups}
        assert len(found) == 6
        rates = {part: group['lr'] for (part, _), group in found.items()}
        expected = {'encoder': 3e-5, 'body': 1e-4, 'classifier': 3e-4}
        assert rates == pytest.approx(expected)
        assert [p.shape for p in found['classifier', False]['params']] == [(3,)]
        count = sum(p.numel() for p in found['encoder', True]['params'])
        assert count == sum(p.numel() for p in model.encoder.parameters() if p.ndim > 1)
        total = sum(len(group['params']) for group in groups)
        assert total == len(list(model.parameters()))

    @pytest.mark.parametrize('kind', ['adam', 'adamw', 'sgd'])
    def test_every_kind_steps_downhill(self, kind):
        model = torch.nn.Linear(2, 1)
        config = OptimizerConfig(max_steps=1, kind=kind, learning_rate=0.1, weight_decay=0.0)
        optimizer = build_optimizer(model, config)
        before = model.bias.item()
        model(torch.zeros(1, 2)).sum().backward()
        optimizer.step()
        # The gradient of the bias is 1; Adam's first step is the learning rate; Nesterov's 1.9.
        step = 0.1 * (1.9 if kind == 'sgd' else 1.0)
        assert before - model.bias.item() == pytest.approx(step, rel=1e-4)

    def test_an_encoder_of_its_own_must_exist(self):
        model = create_model('ddrnet23_slim', 3)
        with pytest.raises(ValueError, match='DDRNet has no separate encoder'):
            build_optimizer(model, OptimizerConfig(max_steps=1, encoder_factor=0.1))


class TestAverage:
    def test_hand_computed(self):
        average, model = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
        model.weight.data[:] = 3.0
        model.running_mean[:] = 8.0
        model.num_batches_tracked += 7
        update_average(average, model, decay=0.75, step=10**6)
        assert average.weight.item() == 1 + 0.25 * 2
        assert average.running_mean.item() == 0.25 * 8
        assert average.num_batches_tracked == 7

    def test_first_weights_are_forgotten_quickly(self):
        average, model = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        average.weight.data[:], model.weight.data[:] = 0.0, 1.0
        update_average(average, model, decay=0.999, step=1)
        assert average.weight.item() == pytest.approx(1 - 2 / 11)


def test_config_hash_changes_with_the_content():
    first, same, other = (OptimizerConfig(max_steps=steps) for steps in (1, 1, 2))
    assert config_sha256(first) == config_sha256(same) != config_sha256(other)


def test_lightning_imports_and_memory_is_kept_in_a_fresh_process():
    code = (
        'from offroad_seg_core.training.lightning_import import lightning\n'
        'from offroad_seg_core.memory import keep_freed_memory\n'
        'import torch\n'
        'kept = keep_freed_memory()\n'
        'import resource\n'
        'faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
        'for _ in range(5): torch.empty(1 << 24).fill_(1)\n'
        'before = faults()\n'
        'torch.empty(1 << 24).fill_(1)\n'  # 64 MB: 16384 pages, if they were given back
        'print(lightning.__name__, not kept or faults() - before < 1000)\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert result.stdout.split() == ['lightning.pytorch', 'True'], result.stderr


def test_train_script_runs_and_names_mistakes(frames_root, tmp_path, load_script, capsys):
    config = tmp_path / 'tiny.yaml'
    config.write_text(
        'name: tiny\n'
        f'dataset: {{kind: folder, root: {frames_root}}}\n'
        'model: {name: ddrnet23_slim, input_size: [64, 128]}\n'
        'optimizer: {max_steps: 100}\n'
        'loader: {batch_size: 2, crop_size: [64, 128]}\n'
        'precision: fp32\n'
    )

    arguments = ['--config', str(config), f'output={tmp_path}']
    script = load_script('train')
    assert script.main([*arguments, '--fast-dev-run']) == 0
    assert 'over the classes present' in capsys.readouterr().out
    assert (tmp_path / 'tiny-dev' / 'best.ckpt').exists()
    assert script.main([*arguments, 'optimizer.learning_rat=1']) == 2
    expected = "optimizer.learning_rat: unknown key; did you mean 'learning_rate'?"
    assert expected in capsys.readouterr().err
