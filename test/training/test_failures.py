"""What goes wrong while training is explained, and nothing is lost."""

import re
import resource
import shutil

import cv2
import numpy as np
import pytest
import torch
import yaml

from offroad_seg_core.config import ConfigError
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.failures import (
    TrainingError,
    out_of_memory_message,
    smaller_batch,
)
from offroad_seg_core.training.gpu_support import check_gpus, missing_code
from offroad_seg_core.training.recorder import Recorder
from offroad_seg_core.training.run import train
from offroad_seg_core.training.task import SegmentationTask

PLAIN = (
    'augment.scale_range=[1, 1]',
    'augment.rotation_deg=0',
    'augment.flip_probability=0',
    'augment.photometric.strength=0',
    'augment.max_class_share=1',
)


def fail_in(monkeypatch, call, error):
    """Let the loss of one call, from 0, be nan, or raise an error."""
    original = SegmentationTask._loss_of
    calls = []

    def broken(self, logits, batch):
        calls.append(None)
        terms = original(self, logits, batch)
        if len(calls) == call + 1:
            if error is not None:
                raise error
            terms['total'] = terms['total'] * float('nan')
        return terms

    monkeypatch.setattr(SegmentationTask, '_loss_of', broken)


class TestBadBatch:
    def test_it_is_saved_and_its_frames_are_named(self, make_config, monkeypatch):
        config = make_config(
            *PLAIN, 'optimizer.accumulate=2', 'model.options={auxiliary: false}',
            'optimizer.max_steps=6',
        )  # fmt: skip
        fail_in(monkeypatch, 3, None)  # the second batch of step 1
        with pytest.raises(TrainingError) as caught:
            train(config)
        path = config.folder / 'bad_batch.pt'
        message = str(caught.value)
        assert re.search(r"'total': nan\} at step 1; lower .*; the batch is saved as", message)
        assert str(path) in message
        saved = torch.load(path, weights_only=True)
        assert saved['step'] == 1
        assert saved['image'].shape == (2, 64, 128, 3)
        assert saved['target'].dtype == torch.uint8
        assert np.isnan(saved['terms']['total'])
        for view, name in zip(saved['image'], saved['files'], strict=True):
            assert name in message
            frame = cv2.cvtColor(cv2.imread(name), cv2.COLOR_BGR2RGB)
            assert np.array_equal(view.numpy(), frame)  # without augmentation: the frame itself


def test_gradients_that_are_not_finite(make_config, monkeypatch):
    original = SegmentationTask._loss_of

    def steep(self, logits, batch):
        terms = original(self, logits, batch)
        if self.global_step == 1:  # adds 0, of which the slope is 0 times infinity
            terms['total'] = terms['total'] + (terms['total'] * 0).abs().sqrt()
        return terms

    monkeypatch.setattr(SegmentationTask, '_loss_of', steep)
    config = make_config('checkpoint_every=1')
    match = r'norm of the gradients is nan at step 1, although the loss is .*; lower optimizer\.'
    with pytest.raises(TrainingError, match=match):
        train(config)
    weights = load_checkpoint(config.folder / 'last.ckpt').weights
    assert all(torch.isfinite(value).all() for value in weights.values())


class TestOutOfMemory:
    def test_while_training(self, make_config, monkeypatch):
        config = make_config('loader.batch_size=4', 'optimizer.max_steps=4')
        fail_in(monkeypatch, 2, torch.OutOfMemoryError('CUDA out of memory. Tried to allocate'))
        with pytest.raises(TrainingError, match=r'loader\.batch_size=2 optimizer\.accumulate=2'):
            train(config)

    def test_message(self):
        assert out_of_memory_message(7, 8, 1, 23_400_000_000, 25_000_000_000) == (
            'the GPU has no memory left at step 7 with batches of 8: 23.4 of 25.0 GB in use; the '
            'same step in parts needs about 50% of it: loader.batch_size=4 optimizer.accumulate=2'
        )
        assert 'cannot be divided further; lower loader.crop_size' in (
            out_of_memory_message(7, 2, 3, 0, 0)
        )

    @pytest.mark.parametrize(
        ('batch', 'smaller'),
        [((8, 1), (4, 2)), ((6, 2), (3, 4)), ((9, 1), (3, 3)), ((5, 2), (2, 5)), ((7, 1), None),
         ((2, 4), None)],
    )  # fmt: skip
    def test_the_views_of_a_step_stay(self, batch, smaller):
        assert smaller_batch(*batch) == smaller


def test_a_full_disk_leaves_the_checkpoint_before(whole, make_config, monkeypatch):
    config = make_config('optimizer.max_steps=6')
    original = Recorder._validate
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, trainer, task):
        if trainer.global_step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        original(self, trainer, task)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, '_validate', fill)
        match = r'cannot be written to after step 4: .* go on from .*last\.ckpt, which is unharmed'
        try:
            with pytest.raises(TrainingError, match=match):
                train(config)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(config.folder / 'last.ckpt').info['step'] == 2
    assert not list(config.folder.glob('.*'))
    train(config, resume=True)
    first, second = (
        load_checkpoint(folder / 'last.ckpt').weights for folder in (whole, config.folder)
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())


class TestGPUs:
    OLD = ('sm_50', 'sm_60', 'sm_70', 'sm_75', 'sm_80', 'sm_86', 'sm_90')

    @pytest.mark.parametrize('capability', [(7, 5), (8, 6), (8, 9), (9, 0)])
    def test_code_for_the_same_major_version_runs(self, capability):
        assert missing_code('A', capability, list(self.OLD), '2.4.0') is None

    def test_a_gpu_that_is_too_new(self):
        message = missing_code('RTX 5090', (12, 0), list(self.OLD), '2.4.0+cu121')
        assert message is not None
        assert '2.4.0+cu121, has no code for RTX 5090 (sm_120), only for sm_50, ' in message
        assert "'torch>=2.7' and its torchvision, build cu128" in message

    def test_a_gpu_that_is_too_old(self):
        message = missing_code('V100', (7, 0), ['sm_75', 'sm_120', 'compute_120'], '2.13.0+cu130')
        assert message is not None
        assert 'build cu126' in message

    def test_intermediate_code_and_exact_code(self):
        assert missing_code('A', (12, 1), ['sm_90', 'compute_90'], '2') is None
        assert missing_code('A', (12, 1), ['sm_120'], '2') is None
        assert missing_code('A', (9, 0), ['sm_90a'], '2') is None
        assert missing_code('A', (9, 1), ['sm_90a'], '2') is not None
        assert 'build nightly' in (missing_code('A', (15, 0), ['sm_90'], '2') or '')

    def test_it_is_asked_before_training(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        monkeypatch.setattr(torch.version, 'cuda', '12.1')
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda _: 'RTX 5090')
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _: (12, 0))
        monkeypatch.setattr(torch.cuda, 'get_arch_list', lambda: list(self.OLD))
        with pytest.raises(TrainingError, match=r'no code for RTX 5090 \(sm_120\)'):
            check_gpus()


class TestData:
    @pytest.mark.parametrize('split', ['train', 'validation'])
    def test_an_empty_split(self, frames_root, make_config, tmp_path, split):
        root = tmp_path / 'frames'
        shutil.copytree(frames_root, root)
        for folder in ('images', 'labels'):
            shutil.rmtree(root / split / folder)
            (root / split / folder).mkdir()
        with pytest.raises(DatasetError, match=f'{split}.*'):
            train(make_config(f'dataset.root={root}'))

    @pytest.mark.parametrize(
        'augment', ['{kind: views}', '{kind: pipeline, preset: falcon_domain_gap}']
    )
    def test_frames_smaller_than_the_crop(self, make_config, augment):
        config = make_config(
            f'augment={augment}', 'loader.crop_size=[96, 192]', 'optimizer.max_steps=1'
        )
        assert train(config).num_pixels == 2 * 64 * 128

    def test_a_taxonomy_that_changed_between_the_parts_of_a_run(self, make_config, tmp_path):
        path = tmp_path / 'classes.yaml'
        content = load_taxonomy('falcon10').to_dict()
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        config = make_config(f'taxonomy={path}', 'optimizer.max_steps=1')
        train(config)
        path.write_text(path.read_text().replace('Landscape', 'Ground'))
        with pytest.raises(ConfigError, match='is of a run with other classes than'):
            train(config, resume=True)


def test_another_process_that_ended(make_config, monkeypatch):
    fail_in(monkeypatch, 0, RuntimeError('[pair.cc:553] Connection closed by peer [127.0.0.1]'))
    with pytest.raises(TrainingError, match='another process of this training ended after step 0'):
        train(make_config())
    fail_in(monkeypatch, 0, RuntimeError('something else'))
    with pytest.raises(RuntimeError, match='something else'):
        train(make_config())
