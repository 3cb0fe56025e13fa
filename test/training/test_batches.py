import csv
import logging

import numpy as np
import pytest
import torch

from offroad_seg_core.config import ConfigError
from offroad_seg_core.datasets.copy_paste.bank_building import BankConfig, build_bank
from offroad_seg_core.datasets.copy_paste.instances import InstanceRules
from offroad_seg_core.datasets.folder import FolderConfig
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.batches import create_training_loader
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.recorder import Recorder
from offroad_seg_core.training.run import train


@pytest.fixture(scope='module')
def bank(frames_root, tmp_path_factory):
    """Build a bank of the bushes."""
    folder = tmp_path_factory.mktemp('bank')
    frames = FolderConfig('folder', frames_root).frames('train', load_taxonomy('falcon10'))
    rules = InstanceRules(max_area_share=1, min_texture=0, keep_truncated=True)
    build_bank(frames, folder, BankConfig(classes=('Dry Bushes',), rules=rules))
    return folder


@pytest.fixture(params=['classmix'])
def everything(request, bank):
    """Return overrides that turn on all there is."""
    return (
        'sampling={kind: rare_class, threshold: 1.0, rare_strength: 2.0}',
        'loader.crop_scale_range=[0.5, 1.5]',
        f'copy_paste={{bank: {bank}, probability: 1.0}}',
        'augment={kind: pipeline, preset: falcon_domain_gap}',
        f'mix={{kind: {request.param}, probability: 0.8}}',
    )


def loader_of(config):
    frames = config.dataset.frames('train', load_taxonomy(config.taxonomy))
    spec = InputSpec(
        size=config.model.input_size, mean=config.model.mean, std=config.model.std, stride=32
    )
    return create_training_loader(config, frames, spec)


def batches_of(config):
    return [(batch['image'], batch['target']) for batch in loader_of(config)[0]]


@pytest.mark.parametrize('kind', ['rare_class', 'repeat_factor'])
@pytest.mark.parametrize('everything', ['cutmix', 'classmix'], indirect=True)
def test_trains_with_everything_on_and_two_workers(make_config, everything, kind):
    overrides = ('optimizer.max_steps=2', f'sampling.kind={kind}', 'loader.num_workers=2')
    config = make_config(*everything, *overrides)
    scores = train(config)
    assert 0 <= scores.miou_present <= 1
    with open(config.folder / 'steps.csv') as stream:
        assert all(np.isfinite(float(row['total'])) for row in csv.DictReader(stream))


def test_workers_and_prefetching_do_not_change_the_batches(make_config, everything):
    alone = batches_of(make_config(*everything))
    workers = ('loader.num_workers=2', 'loader.prefetch_batches=1')
    shared = batches_of(make_config(*everything, *workers))
    assert len(alone) == 4
    assert len({image.shape for image, _ in alone}) > 1
    for first, second in zip(alone, shared, strict=True):
        assert all(map(torch.equal, first, second))
    assert {tensor.dtype for batch in alone for tensor in batch} == {torch.uint8}


def test_resumed_equals_uninterrupted_with_everything_on(make_config, everything, monkeypatch):
    whole = make_config('name=whole', *everything)
    train(whole)
    config = make_config('name=parts', *everything)
    with monkeypatch.context() as patch:
        original = Recorder.on_train_batch_end

        def kill(self, trainer, *arguments):
            original(self, trainer, *arguments)
            if trainer.global_step == 3:
                raise KeyError

        patch.setattr(Recorder, 'on_train_batch_end', kill)
        with pytest.raises(KeyError):
            train(config)
    train(config, resume=True)
    first, second = (load_checkpoint(c.folder / 'last.ckpt').weights for c in (whole, config))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_objects_are_pasted_before_the_augmentation(make_config, bank):
    # The fourth frame's sky reaches down to row 32; bushes are the only class that can grow.
    def share_of_bushes(*overrides):
        targets = [t for _, t in batches_of(make_config('augment.max_class_share=1', *overrides))]
        return np.mean([(target == 3).float().mean() for target in targets])

    pasted = f'copy_paste={{bank: {bank}, probability: 1.0, max_instances: 4}}'
    assert share_of_bushes(pasted) > 1.1 * share_of_bushes() > 0


def test_the_bank_must_be_there(make_config, tmp_path):
    with pytest.raises(DatasetError, match='no instance bank there'):
        train(make_config(f'copy_paste.bank={tmp_path}'))


def test_frames_with_rare_classes_are_drawn_more_often(make_config, monkeypatch, caplog):
    # Each of the four frames shows sky, ground and a bush; now the last alone shows a log.
    config = make_config(
        'optimizer.max_steps=100', 'sampling.kind=rare_class', 'sampling.rare_strength=2'
    )
    frames = config.dataset.frames('train', load_taxonomy('falcon10'))
    presence = np.zeros((4, 10), np.int64)
    presence[:, [8, 9]] = 10_000
    presence[3, 5] = 100
    monkeypatch.setattr('offroad_seg_core.datasets.sampling.class_counts', lambda _: presence)
    spec = InputSpec(size=(64, 128), mean=(0, 0, 0), std=(1, 1, 1), stride=32)
    with caplog.at_level(logging.INFO):
        _, sampler = create_training_loader(config, frames, spec)
    drawn = np.bincount([index for batch in sampler for _, index in batch])
    assert drawn / 200 == pytest.approx([1 / 7, 1 / 7, 1 / 7, 4 / 7], abs=0.03)
    assert 'frames are drawn 0.57 to 2.29 times an epoch' in caplog.text
    assert '1 of 4 frames show a rare class' in caplog.text


def test_bad_values(make_config):
    with pytest.raises(ConfigError, match=r'crop_scale_range is .* expected 0 < low <= high'):
        make_config('loader.crop_scale_range=[2, 1]')
    with pytest.raises(ConfigError, match=r'mix\.kind'):
        make_config('mix.kind=mixup')
    with pytest.raises(DatasetError, match=r'sampling\.classes: got Rocket; expected'):
        train(make_config('sampling={kind: rare_class, classes: [Rocket]}'))
