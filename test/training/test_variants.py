"""What a run can be told to do differently: accumulation, encoders, losses."""

import csv
import json
import math
from pathlib import Path

import pytest
from safetensors.torch import save_file
import torch

from offroad_seg_core.config import load_config
from offroad_seg_core.models import create_model
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.recorder import Recorder
from offroad_seg_core.training.run import smoke_run, train
from offroad_seg_core.training.task import SegmentationTask

FPN = ('model.name=fpn', 'model.options={encoder: resnet18}')


def weights_of(config, name='last.ckpt'):
    return torch.load(config.folder / name, weights_only=True)['state_dict']


def steps_of(config):
    with open(config.folder / 'steps.csv') as stream:
        return [int(row['step']) for row in csv.DictReader(stream)]


class TestAccumulation:
    OPTIONS = ('optimizer.accumulate=2', 'optimizer.max_steps=3', 'validate_every=3')

    def test_a_step_takes_several_batches(self, make_config, monkeypatch):
        seen = []
        original = Recorder.on_train_batch_end

        def watch(self, trainer, task, outputs, batch, index):
            seen.append((trainer.global_step, float(batch['image'].float().mean())))
            original(self, trainer, task, outputs, batch, index)

        monkeypatch.setattr(Recorder, 'on_train_batch_end', watch)
        config = make_config(*self.OPTIONS)
        train(config)
        assert [step for step, _ in seen] == [0, 1, 1, 2, 2, 3]
        assert len({mean for _, mean in seen}) == 6  # six batches, none of them twice
        assert steps_of(config) == [1]

    def test_a_resumed_run_sees_the_batches_that_are_left(self, make_config, train_in_two_parts):
        whole = make_config('name=whole', *self.OPTIONS)
        train(whole)
        config = make_config('name=parts', *self.OPTIONS)
        train_in_two_parts(config, stop_after=1)
        expected, found = weights_of(whole), weights_of(config)
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


class TestEncoders:
    def test_a_frozen_encoder_keeps_what_was_loaded(self, make_config, tmp_path):
        torch.manual_seed(5)
        source = create_model('fpn', 3, encoder='resnet18').encoder.state_dict()
        save_file(source, tmp_path / 'encoder.safetensors')
        config = make_config(
            *FPN,
            f'model.weights={tmp_path / "encoder.safetensors"}',
            'optimizer.max_steps=2',
            'optimizer.freeze_encoder_steps=2',
            'optimizer.weight_decay=0.1',
        )
        train(config)
        state = weights_of(config)
        prefix = 'model.network.encoder.'
        changed = [
            name for name, value in source.items() if not torch.equal(state[prefix + name], value)
        ]
        assert changed == []
        head = 'network.segmentation_head.0.bias'
        assert not torch.equal(state[f'model.{head}'], torch.zeros(10))
        # Adam has seen gradients of the decoder alone, and so has the bound of their norm.
        last = torch.load(config.folder / 'last.ckpt', weights_only=True)
        network = create_model('fpn', 10, encoder='resnet18')
        num_others = len(list(network.parameters())) - len(list(network.encoder.parameters()))
        assert len(last['optimizer_states'][0]['state']) == num_others

    @pytest.mark.parametrize('stop_after', [1, 2])
    def test_a_run_that_is_resumed_while_or_after_it_was_frozen(
        self, make_config, train_in_two_parts, stop_after
    ):
        options = (*FPN, 'optimizer.max_steps=3', 'optimizer.freeze_encoder_steps=2')
        whole, config = (make_config(f'name={name}', *options) for name in ('whole', 'parts'))
        train(whole)
        train_in_two_parts(config, stop_after)
        expected, found = weights_of(whole), weights_of(config)
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []

    def test_it_trains_afterwards(self, make_config):
        config = make_config(
            *FPN,
            'optimizer.max_steps=2',
            'validate_every=1',
            'optimizer.freeze_encoder_steps=1',
            'optimizer.encoder_factor=0.5',
            'log_every=1',
        )
        torch.manual_seed(config.seed)
        train(config)
        state = weights_of(config)
        name = 'network.encoder.conv1.weight'
        # The average stood still for a step and then moved with the model.
        assert not torch.equal(state[f'model.{name}'], state[f'average.{name}'])
        with open(config.folder / 'steps.csv') as stream:
            rows = list(csv.DictReader(stream))
        # The first step is half of the warm-up to 2e-3, the second the peak.
        assert [float(row['learning_rate']) for row in rows] == [1e-3, 2e-3]
        assert [float(row['learning_rate_encoder']) for row in rows] == [0, 1e-3]


@pytest.mark.parametrize(
    'term', ['focal', 'lovasz', 'boundary_cross_entropy', 'logit_adjusted_cross_entropy']
)
def test_every_loss_trains(make_config, term):
    config = make_config(f'loss.terms=[{{name: {term}}}]', 'optimizer.max_steps=1')
    train(config)
    assert steps_of(config) == [1]


def test_early_stopping(make_config):
    config = make_config(
        'optimizer.max_steps=8', 'optimizer.learning_rate=1e-12', 'validate_every=1',
        'early_stopping=2',
    )  # fmt: skip
    train(config)
    result = json.loads((config.folder / 'result.json').read_text())
    assert result['step'] == result['best_step'] + 2 < 8
    assert result['finished'] is result['stopped_early'] is True


RECIPES = sorted((Path(__file__).parents[2] / 'config' / 'train').glob('*.yaml'))


@pytest.fixture(scope='module')
def smoke_output(tmp_path_factory):
    """Return the folder of all smoke runs, which share their rendered frames."""
    return tmp_path_factory.mktemp('smoke')


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs(path, smoke_output):
    config = smoke_run(load_config(TrainConfig, path, [f'output={smoke_output}']))
    scores = train(config)
    # Other taxonomies lack classes of the rendered frames.
    assert scores.num_pixels == 2 * 192 * 320 or config.taxonomy != 'falcon10'
    assert 0 < scores.num_pixels <= 2 * 192 * 320
    result = json.loads((config.folder / 'result.json').read_text())
    assert result['step'] == 2


class TestHalfPrecision:
    def test_gradients_are_bounded_after_the_scale_is_taken_off(self, make_config, monkeypatch):
        norms, original = [], SegmentationTask.configure_gradient_clipping

        def watch(self, *arguments, **options):
            original(self, *arguments, **options)
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))

        monkeypatch.setattr(SegmentationTask, 'configure_gradient_clipping', watch)
        train(make_config('precision=fp16', 'optimizer.max_grad_norm=1e4'))
        # The first steps may overflow: then they are left out, and the scale is halved.
        finite = [norm for norm in norms if math.isfinite(norm)]
        assert 1 <= len(finite) <= len(norms) == 4
        # Of a loss near 2.3; times the scale all would be at the bound.
        assert all(0.01 < norm < 1e3 for norm in finite)

    def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(self, make_config, train_in_two_parts):
        options = ('precision=fp16', 'optimizer.max_steps=3', 'validate_every=3')
        whole, config = (make_config(f'name={name}', *options) for name in ('whole', 'parts'))
        train(whole)
        train_in_two_parts(config, stop_after=1)
        expected, found = weights_of(whole), weights_of(config)
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
        scales = [
            torch.load(run.folder / 'last.ckpt', weights_only=True)['MixedPrecision']
            for run in (whole, config)
        ]
        assert scales[0] == scales[1]
