"""What starts from a pruned network is as narrow as that, whatever its own configuration says."""

import pytest

pytest.importorskip('torch_pruning')

from offroad_seg_core.config import dump_config
from offroad_seg_core.distillation.pruning import prune_channels
from offroad_seg_core.training.bundle_export import export_checkpoint
from offroad_seg_core.training.checkpoint import CheckpointError, load_checkpoint
from offroad_seg_core.training.initial_weights import with_channels_of_start
from offroad_seg_core.training.run import train
from offroad_seg_core.training.student_selection import candidate_config


@pytest.fixture(scope='module')
def pruned(finished, tmp_path_factory):
    """Return a checkpoint and a bundle of one pruned network."""
    folder = tmp_path_factory.mktemp('pruned')
    checkpoint = prune_channels(load_checkpoint(finished[0].folder / 'best.ckpt'), 0.5)
    checkpoint.save(folder / 'pruned.ckpt')
    export_checkpoint(load_checkpoint(folder / 'pruned.ckpt'), folder / 'bundle')
    return folder


def options_after(config):
    return load_checkpoint(config.folder / 'last.ckpt').config.model.options


@pytest.mark.parametrize('kind', ['pruned.ckpt', 'bundle'])
@pytest.mark.parametrize(('taxonomy', 'num_classes'), [('falcon10', 10), ('goose64', 64)])
def test_its_channels_are_taken(make_config, pruned, kind, taxonomy, num_classes):
    changes = [f'taxonomy={taxonomy}', f'init_checkpoint={pruned / kind}']
    config = make_config(*changes, 'optimizer.max_steps=1', 'validate_every=1')
    train(config)
    expected = load_checkpoint(pruned / 'pruned.ckpt').config.model.options['channels']
    assert expected['stem.0.weight'] == [16, 3]
    assert options_after(config)['channels'] == expected
    built = load_checkpoint(config.folder / 'last.ckpt').build().state_dict()
    assert built['stem.0.weight'].shape == (16, 3, 3, 3)
    assert built['head.5.weight'].shape[:2] == (num_classes, expected['head.5.weight'][1])
    assert built['auxiliary_head.0.weight'].shape == (expected['auxiliary_head.0.weight'][0],)


def test_it_is_resumed_without_its_start(make_config, pruned, tmp_path):
    start = tmp_path / 'start.ckpt'
    start.write_bytes((pruned / 'pruned.ckpt').read_bytes())
    config = make_config(f'init_checkpoint={start}', 'optimizer.max_steps=1', 'validate_every=1')
    scores = train(config)
    start.unlink()
    assert train(config, resume=True).miou_present == scores.miou_present
    with pytest.raises(CheckpointError, match='no such file'):
        train(make_config('name=another', f'init_checkpoint={start}'))


def test_a_candidate_is_measured_as_narrow_as_it_is_trained(make_config, pruned):
    config = make_config(f'init_checkpoint={pruned / "pruned.ckpt"}')
    run = candidate_config(config, 'ddrnet23_slim', config.output)
    assert run.model.options['channels']['stem.0.weight'] == [16, 3]


def test_whoever_says_channels_has_those(make_config, pruned, finished):
    start = pruned / 'pruned.ckpt'
    own = make_config(f'init_checkpoint={start}', 'model.options={channels: {}}')
    other = make_config(f'init_checkpoint={start}', 'model={name: fpn}')
    full = make_config(f'init_checkpoint={finished[0].folder / "best.ckpt"}')
    for config in (own, other, full, make_config()):
        assert dump_config(with_channels_of_start(config, resume=False)) == dump_config(config)
    with pytest.raises(CheckpointError, match=r'is a pruned ddrnet23_slim \{\}; \d+ weights'):
        train(own)
