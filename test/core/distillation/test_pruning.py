"""Pruned networks are smaller, lose what weighs least, and are rebuilt from their checkpoints."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('torch_pruning')

from offroad_seg_core.config import dump_config, load_config  # noqa: E402
from offroad_seg_core.distillation.pruning import (  # noqa: E402
    PruningError,
    fine_tuning,
    prune_channels,
    zero_weights,
)
from offroad_seg_core.models import create_model  # noqa: E402
from offroad_seg_core.training.checkpoint import (  # noqa: E402
    CheckpointError,
    load_checkpoint,
)
from offroad_seg_core.training.config import ModelConfig, TrainConfig  # noqa: E402
from offroad_seg_core.training.initial_weights import initialize_from  # noqa: E402

# The norms of these channels and all weights that read or write them, see test below.
WEAK = [0, 3, 4, 9, 11, 17, 30, 31]


@pytest.fixture(scope='module')
def trained(make_checkpoint):
    return load_checkpoint(make_checkpoint(1))


@pytest.fixture(scope='module')
def weakened(trained):
    """Eight channels of the first convolution weigh nearly nothing."""
    weights = {name: value.clone() for name, value in trained.weights.items()}
    for name in ('stem.0.weight', 'stem.1.weight', 'stem.1.bias'):
        weights[name][WEAK] *= 1e-3
    weights['stem.3.weight'][:, WEAK] *= 1e-3
    return type(trained)(trained.path, trained.config, trained.taxonomy, trained.info, weights)


@pytest.fixture(scope='module')
def pruned(weakened):
    return prune_channels(weakened, 0.25)


def num_parameters(checkpoint):
    return sum(value.numel() for value in checkpoint.weights.values())


def test_scores_of_the_network_before_are_not_its_own(trained):
    info = {'scores': {'miou_present': 0.6}, 'miou_present': 0.6, 'step': 7}
    measured = replace(trained, info=info)
    for checkpoint in (prune_channels(measured, 0.25), zero_weights(measured, 0.2, ['head'])):
        assert checkpoint.info['scores'] == {}
        assert np.isnan(checkpoint.info['miou_present'])
        assert checkpoint.info['step'] == 7


def test_tensors_are_smaller_and_the_ends_stay(trained, pruned):
    assert num_parameters(pruned) < 0.65 * num_parameters(trained)
    weights = pruned.weights
    assert weights['head.5.weight'].shape[0] == 10
    assert weights['auxiliary_head.5.weight'].shape[0] == 10
    assert weights['stem.0.weight'].shape == (24, 3, 3, 3)
    widths = [value.shape[0] for name, value in weights.items() if value.ndim == 4]
    assert all(width % 8 == 0 for width in widths if width != 10)


def test_the_weakest_channels_are_gone(weakened, pruned):
    kept = np.setdiff1d(np.arange(32), WEAK)
    before = weakened.weights['stem.0.weight'][kept]
    assert torch.equal(pruned.weights['stem.0.weight'], before)


def test_a_checkpoint_knows_its_channels(pruned, tmp_path):
    pruned.save(tmp_path / 'pruned.ckpt')
    again = load_checkpoint(tmp_path / 'pruned.ckpt')
    assert dump_config(again.config) == dump_config(pruned.config)
    assert again.taxonomy.names == pruned.taxonomy.names
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(again.build()(images), pruned.build()(images))


def test_it_trains_with_its_auxiliary_head(pruned):
    logits, auxiliary = pruned.build().train()(torch.randn(2, 3, 64, 96))
    assert logits.shape == auxiliary.shape == (2, 10, 8, 12)
    assert pruned.weights['auxiliary_head.0.running_mean'].shape == (48,)
    (logits.sum() + auxiliary.sum()).backward()


def test_the_fine_tuning_starts_from_the_pruned_network(pruned, tmp_path):
    path = tmp_path / 'pruned.ckpt'
    pruned.save(path)
    config = fine_tuning(pruned, path, 'small')
    again = load_config(TrainConfig, dump_config(config))
    assert again == config
    assert (config.name, config.init_checkpoint) == ('small', path)
    assert config.optimizer.max_steps == 1
    assert config.optimizer.learning_rate == pytest.approx(2e-3 / 4)
    model = pruned.build()
    assert initialize_from(model, path, pruned.taxonomy) == []
    full = load_config(TrainConfig, {**dump_config(config), 'model': {'name': 'ddrnet23_slim'}})
    other = type(pruned)(path, full, pruned.taxonomy, {}, {})
    with pytest.raises(RuntimeError, match='Missing key'):
        other.build()
    with pytest.raises(CheckpointError, match='do not fit this model'):
        initialize_from(create_model('ddrnet23_slim', 10), path, pruned.taxonomy)


def test_pruned_twice_is_smaller_still(pruned):
    twice = prune_channels(pruned, 0.3)
    assert num_parameters(twice) < 0.8 * num_parameters(pruned)
    assert twice.weights['stem.0.weight'].shape[0] == 16


@pytest.mark.parametrize('share', [0.0, 1.0, -0.1, float('nan')])
def test_shares_out_of_range(trained, share):
    for function in (prune_channels, zero_weights):
        with pytest.raises(PruningError, match='above 0 and below 1'):
            function(trained, share)


def test_the_smallest_weights_become_zero(trained):
    zeroed = zero_weights(trained, 0.2, ['pyramid', 'head'])
    pairs = [
        (value, zeroed.weights[name])
        for name, value in trained.weights.items()
        if name.startswith(('pyramid.', 'head.')) and value.ndim == 4
    ]
    before = torch.cat([pair[0].flatten() for pair in pairs])
    after = torch.cat([pair[1].flatten() for pair in pairs])
    num_zeros = round(0.2 * len(before))
    assert (after == 0).sum() == num_zeros
    threshold = before.abs().kthvalue(num_zeros).values
    assert torch.equal(after, torch.where(before.abs() > threshold, before, 0.0))
    others = [name for name in trained.weights if not name.startswith(('pyramid.', 'head.'))]
    assert all(torch.equal(trained.weights[name], zeroed.weights[name]) for name in others)
    assert zeroed.weights.keys() == trained.weights.keys()


def test_parts_must_be_there_and_have_weights(trained):
    with pytest.raises(PruningError, match=r"got the parts \['decoder'\], expected.*'pyramid'"):
        zero_weights(trained, 0.2, ['decoder'])
    with pytest.raises(PruningError, match='name the parts'):
        zero_weights(trained, 0.2)
    with pytest.raises(PruningError, match='with convolutions'):
        zero_weights(trained, 0.2, ['head.0'])


def checkpoint_of(trained, name, **options):
    config = load_config(TrainConfig, {**dump_config(trained.config)})
    model = ModelConfig(name, options)
    config = type(config)(**{**vars(config), 'model': model})
    torch.manual_seed(0)
    weights = create_model(name, trained.taxonomy.num_classes, **options).state_dict()
    return type(trained)(trained.path, config, trained.taxonomy, {}, weights)


def test_the_decoder_is_what_is_not_the_encoder(trained):
    network = checkpoint_of(trained, 'fpn', encoder='resnet18')
    zeroed = zero_weights(network, 0.5)
    changed = {
        name
        for name, value in network.weights.items()
        if not torch.equal(value, zeroed.weights[name])
    }
    assert changed
    assert all(name.startswith(('network.decoder', 'network.segm')) for name in changed)


def test_attention_is_refused(trained):
    with pytest.raises(PruningError, match=r'segformer_b0 cannot be pruned.*attention'):
        prune_channels(checkpoint_of(trained, 'segformer_b0'), 0.3)
