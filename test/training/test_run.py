import csv
from dataclasses import replace
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from offroad_seg_core import provenance
from offroad_seg_core.config import ConfigError
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.bundle_weights import network_of
from offroad_seg_core.models import create_model
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
)
from offroad_seg_core.training.initial_weights import initialize_from
from offroad_seg_core.training.recorder import Recorder
from offroad_seg_core.training.run import fast_dev_run, resolve_precision, train
from offroad_seg_core.training.task import SegmentationTask, TrainingError

SHIPPED = Path(__file__).parents[2] / 'models' / 'demo_desert'
CHANNELS = Bundle.load(SHIPPED).manifest.architecture.kwargs.get('channels')


def state_of(path):
    content = torch.load(path, weights_only=True)
    return {
        **content['state_dict'],
        **{
            f'optimizer.{key}.{name}': value
            for key, values in content['optimizer_states'][0]['state'].items()
            for name, value in values.items()
        },
    }


def assert_equal_states(first, second):
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_everything_behind(finished):
    config, scores = finished
    names = {path.name for path in config.folder.iterdir()}
    assert names == {
        'best.ckpt', 'last.ckpt', 'config.yaml', 'steps.csv', 'validation.jsonl', 'result.json',
    }  # fmt: skip
    result = json.loads((config.folder / 'result.json').read_text())
    assert result['scores'] == scores.to_dict()
    assert result['finished'] is True
    assert result['step'] == 4
    assert result['command'] == 'train.py --config tiny.yaml'
    assert result['taxonomy_sha256'] == load_taxonomy('falcon10').sha256()
    counts = np.array(result['environments']['validation']['confusion_matrix'])
    assert counts.shape == (10, 11)
    assert counts.sum() == 2 * 64 * 128  # every pixel of both frames, once
    rows = json_lines(config.folder / 'validation.jsonl')
    assert [row['step'] for row in rows] == [2, 4]
    assert rows[-1]['miou_present'] == scores.miou_present
    with open(config.folder / 'steps.csv') as stream:
        first = next(csv.DictReader(stream))
    assert first['step'] == '1'
    assert float(first['cross_entropy']) == pytest.approx(np.log(10), abs=0.1)


def test_checkpoint_explains_itself_and_rebuilds_the_averaged_model(finished):
    config, scores = finished
    checkpoint = load_checkpoint(config.folder / 'last.ckpt')
    assert checkpoint.config == config
    assert checkpoint.taxonomy.names == load_taxonomy('falcon10').names
    assert checkpoint.info['step'] == 4
    assert checkpoint.info['miou_present'] == scores.miou_present
    state = checkpoint.build().state_dict()
    raw = torch.load(config.folder / 'last.ckpt', weights_only=True)['state_dict']
    assert all(torch.equal(state[name], raw[f'average.{name}']) for name in state)
    assert not torch.equal(raw['model.head.5.weight'], raw['average.head.5.weight'])


def test_the_same_seed_gives_the_same_weights_and_another_does_not(make_config):
    paths = []
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        config = make_config(f'name={name}', f'seed={seed}', 'optimizer.max_steps=1')
        train(config)
        paths.append(config.folder / 'last.ckpt')
    first, second, third = map(state_of, paths)
    assert_equal_states(first, second)
    assert not torch.equal(first['model.head.5.weight'], third['model.head.5.weight'])


@pytest.mark.parametrize('stop_after', [1, 2])
def test_interrupted_and_resumed_equals_uninterrupted(
    whole, make_config, train_in_two_parts, stop_after
):
    config = make_config('optimizer.max_steps=6')
    train_in_two_parts(config, stop_after)
    assert_equal_states(state_of(whole / 'last.ckpt'), state_of(config.folder / 'last.ckpt'))
    rows = json_lines(config.folder / 'validation.jsonl')
    assert [row['step'] for row in rows] == [2, 4, 6]


def test_killed_between_checkpoints_and_resumed_equals_uninterrupted(whole, make_config):
    config = make_config('optimizer.max_steps=6')
    original = Recorder.on_train_batch_end

    class KilledError(Exception):
        pass

    def kill(self, trainer, *arguments):
        original(self, trainer, *arguments)
        if trainer.global_step == 3:  # one step after the checkpoint
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, 'on_train_batch_end', kill)
        with pytest.raises(KilledError):
            train(config)
    train(config, resume=True)
    assert_equal_states(state_of(whole / 'last.ckpt'), state_of(config.folder / 'last.ckpt'))


def test_a_finished_run_is_not_trained_further(finished, make_config):
    _, scores = finished
    config = make_config()
    train(config)
    before = (config.folder / 'last.ckpt').read_bytes()
    again = train(config, resume=True)
    assert again.to_dict() == scores.to_dict()
    assert (config.folder / 'last.ckpt').read_bytes() == before


def test_killed_before_the_last_step_was_saved(finished, make_config, monkeypatch):
    config = make_config()
    save = Recorder._save

    def die(self, trainer, name):
        if name == 'last.ckpt' and trainer.global_step == trainer.max_steps:
            raise ZeroDivisionError
        save(self, trainer, name)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, '_save', die)
        with pytest.raises(ZeroDivisionError):
            train(config)
    assert train(config, resume=True).to_dict() == finished[1].to_dict()
    assert load_checkpoint(config.folder / 'last.ckpt').info['step'] == config.optimizer.max_steps


def test_two_runs_do_not_mix(finished, make_config):
    config, _ = finished
    with pytest.raises(ConfigError, match='holds a run already; continue it with --resume'):
        train(config)
    changed = make_config(f'output={config.output}', 'optimizer.learning_rate=0.1', 'seed=9')
    with pytest.raises(ConfigError, match='these sections differ: optimizer, seed'):
        train(changed, resume=True)
    with pytest.raises(ConfigError, match='nothing to resume'):
        train(make_config('name=other'), resume=True)


def test_fast_dev_run_goes_through_everything(make_config):
    config = fast_dev_run(make_config('optimizer.max_steps=1000', 'optimizer.warmup_steps=99'))
    train(config)
    assert config.name == 'tiny-dev'
    assert json.loads((config.folder / 'result.json').read_text())['step'] == 2
    train(fast_dev_run(replace(config, name='tiny')))  # again, over its own leftovers


def test_overfits_two_frames(make_config):
    config = make_config(
        'optimizer.max_steps=30', 'validate_every=30', 'optimizer.ema_decay=0.8',
        'augment.photometric.strength=0', 'augment.scale_range=[1, 1]', 'augment.rotation_deg=0',
    )  # fmt: skip
    scores = train(config)
    assert scores.miou_present > 0.6


def test_a_loss_that_is_not_finite_stops_with_the_step(make_config, monkeypatch):
    original = SegmentationTask._loss_of

    def broken(self, logits, batch):
        terms = original(self, logits, batch)
        if self.global_step == 1:
            terms['total'] = terms['total'] * float('nan')
        return terms

    monkeypatch.setattr(SegmentationTask, '_loss_of', broken)
    with pytest.raises(TrainingError, match=r'nan.* at step 1; lower optimizer\.learning_rate'):
        train(make_config())


def test_wrong_class_weights(make_config):
    with pytest.raises(ConfigError, match='has 2 values, expected 10, one for each class'):
        train(make_config('loss.class_weights=[1, 2]'))


def test_precision_is_resolved(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for flags, expected in (({'avx2'}, 'fp32'), ({'avx512_bf16'}, 'bf16'), ({'amx_bf16'}, 'bf16')):
        monkeypatch.setattr(provenance, 'cpu_flags', lambda flags=flags: frozenset(flags))
        assert resolve_precision('auto') == expected
    assert resolve_precision('fp32') == 'fp32'


class TestInitialWeights:
    def test_all_weights_for_the_same_classes(self, finished):
        path = finished[0].folder / 'last.ckpt'
        model = create_model('ddrnet23_slim', 10)
        assert initialize_from(model, path, load_taxonomy('falcon10')) == []
        weights = load_checkpoint(path).weights
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())

    def test_new_classifier_for_other_classes(self, finished, caplog):
        path = finished[0].folder / 'last.ckpt'
        model = create_model('ddrnet23_slim', 7)
        fresh = {name: value.clone() for name, value in model.state_dict().items()}
        skipped = initialize_from(model, path, load_taxonomy('falcon7'))
        assert set(skipped) == {
            f'{head}.5.{kind}'
            for head in ('head', 'auxiliary_head')
            for kind in ('weight', 'bias')
        }
        assert 'trained on falcon10, not falcon7: new weights for' in caplog.text
        state, weights = model.state_dict(), load_checkpoint(path).weights
        for name, value in state.items():
            assert torch.equal(value, fresh[name] if name in skipped else weights[name]), name

    def test_a_run_starts_from_them(self, finished, make_config):
        path = finished[0].folder / 'last.ckpt'
        config = make_config(
            'name=second', f'init_checkpoint={path}', 'optimizer.max_steps=1',
            'optimizer.learning_rate=1e-9', 'optimizer.weight_decay=0',
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr('offroad_seg_core.training.task.update_average', lambda *a: None)
            train(replace(config, validate_every=1))
        before = load_checkpoint(path).weights
        after = load_checkpoint(config.folder / 'last.ckpt').weights
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_a_bundle_has_all_but_the_auxiliary_head(self, caplog):
        model = create_model('ddrnet23_slim', 10, channels=CHANNELS)
        fresh = {name: value.clone() for name, value in model.state_dict().items()}
        skipped = initialize_from(model, SHIPPED, load_taxonomy('falcon10'))
        assert skipped == [name for name in fresh if name.startswith('auxiliary_head.')]
        assert 'a bundle without the auxiliary head: new weights for' in caplog.text
        weights = network_of(Bundle.load(SHIPPED)).state_dict()
        for name, value in model.state_dict().items():
            assert torch.equal(value, fresh[name] if name in skipped else weights[name]), name

    def test_another_architecture(self, finished):
        model = create_model('ddrnet23_slim', 10, auxiliary=False)
        with pytest.raises(CheckpointError, match='weights do not fit this model'):
            initialize_from(model, finished[0].folder / 'last.ckpt', load_taxonomy('falcon10'))
        model = create_model('ddrnet23_slim', 10, norm='group', channels=CHANNELS)
        with pytest.raises(CheckpointError, match=r'ddrnet23_slim \{.* the first is context3'):
            initialize_from(model, SHIPPED, load_taxonomy('falcon10'))


class TestBadCheckpoints:
    def test_missing(self, tmp_path):
        with pytest.raises(CheckpointError, match='no such file'):
            load_checkpoint(tmp_path / 'none.ckpt')

    @pytest.mark.parametrize('content', [b'', b'garbage', b'broken'])
    def test_garbage(self, tmp_path, content):
        (tmp_path / 'a.ckpt').write_bytes(content)
        with pytest.raises(CheckpointError, match='cannot be read as a checkpoint'):
            load_checkpoint(tmp_path / 'a.ckpt')

    def test_of_something_else(self, tmp_path):
        torch.save({'state_dict': {}}, tmp_path / 'a.ckpt')
        with pytest.raises(CheckpointError, match=r'was not written by training/train\.py'):
            load_checkpoint(tmp_path / 'a.ckpt')

    @pytest.mark.parametrize(
        ('record', 'match'),
        [
            (5, 'was not written by'),
            ({}, 'format version None, expected 1'),
            ({'format_version': 1, 'info': {}}, 'has no config, taxonomy; take another'),
        ],
    )
    def test_parts_of_a_checkpoint(self, tmp_path, record, match):
        torch.save({'state_dict': {}, 'offroad_seg': record}, tmp_path / 'a.ckpt')
        with pytest.raises(CheckpointError, match=match):
            load_checkpoint(tmp_path / 'a.ckpt')
