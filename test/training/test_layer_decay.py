"""Learning rates that fall from the head to the stem."""

from pathlib import Path

import pytest
import torch

from offroad_seg_core.config import load_config
from offroad_seg_core.models import create_model
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.optim import OptimizerConfig, build_optimizer, learning_rates

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / 'config' / 'train' / 'goose64_mask2former_flashinternimage_l.yaml'


def rates_of(model, **options):
    """Return each weight's learning rate, against 1, by name."""
    config = OptimizerConfig(max_steps=1, learning_rate=1.0, weight_decay=0.05, **options)
    names = {id(weight): name for name, weight in model.named_parameters()}
    groups = build_optimizer(model, config).param_groups
    rates = {names[id(p)]: group['lr'] for group in groups for p in group['params']}
    assert rates.keys() == set(names.values())
    for group in groups:
        assert all((p.ndim > 1) == (group['weight_decay'] > 0) for p in group['params'])
    return rates


@pytest.fixture(scope='module')
def mask2former():
    with torch.device('meta'):
        return create_model('mask2former_flash_intern_image', 3, size='t')


def test_published_rates_of_the_large_backbone():
    with torch.device('meta'):
        model = create_model('upernet_flash_intern_image', 3, size='l')
    rates = rates_of(model, layer_decay=0.94)
    expected = {
        'backbone.patch_embed.conv1.weight': 38,  # 0.095
        'backbone.levels.0.blocks.0.gamma1': 37,
        'backbone.levels.0.downsample.conv.weight': 32,
        'backbone.levels.1.blocks.0.mlp.fc1.weight': 32,
        'backbone.levels.3.blocks.4.dcn.value_proj.bias': 1,
        'head.fuse.0.weight': 0,
        'auxiliary_head.classifier.bias': 0,
    }
    assert {n: rates[n] for n in expected} == pytest.approx(
        {name: 0.94**count for name, count in expected.items()}
    )
    assert rates['backbone.patch_embed.conv1.weight'] == pytest.approx(0.0952, abs=1e-4)
    assert len(set(rates.values())) == 39


def test_the_last_norm_learns_like_the_head(mask2former):
    rates = rates_of(mask2former, layer_decay=0.5)
    assert rates['backbone.levels.3.norm.0.weight'] == 1
    assert rates['backbone.levels.3.blocks.3.norm1.0.weight'] == 0.5


def test_queries_learn_like_the_head_or_as_upstream(mask2former):
    slow = {
        'head.class_predictor.weight',
        'head.transformer_module.level_embed.weight',
        'head.transformer_module.queries_features.weight',
        'head.transformer_module.queries_embedder.weight',
        'head.transformer_module.decoder.mask_predictor.mask_embedder.2.0.bias',
    }
    ours = rates_of(mask2former, layer_decay=0.9)
    theirs = rates_of(mask2former, layer_decay=0.9, queries_as_stem=True)
    assert {ours[name] for name in slow} == {1.0}
    assert {theirs[name] for name in slow} == {theirs['backbone.patch_embed.conv1.bias']}
    changed = {name for name in ours if ours[name] != theirs[name]}
    assert changed == {name for name in ours if name.startswith(type(mask2former).query_weights)}


@pytest.mark.parametrize(('flag', 'expected'), [('true', 0.94**38), ('false', 1.0)])
def test_the_recipe_says_how_queries_learn(flag, expected):
    overrides = [f'optimizer.queries_as_stem={flag}']
    config = load_config(TrainConfig, RECIPE, overrides)
    with torch.device('meta'):
        model = create_model(config.model.name, 64, **config.model.options)
    weight = model.head.class_predictor.weight
    groups = build_optimizer(model, config.optimizer).param_groups
    (rate,) = (g['lr'] for g in groups if any(p is weight for p in g['params']))
    assert rate == pytest.approx(5e-5 * expected)


def test_a_vision_transformer():
    model = create_model('upernet_vit', 3, encoder='vit_tiny_patch16_dinov3_qkvb')
    rates = rates_of(model, layer_decay=0.5, encoder_factor=0.1)
    assert rates['backbone.encoder.cls_token'] == pytest.approx(0.1 * 0.5**13)
    assert rates['backbone.encoder.blocks.11.norm1.weight'] == pytest.approx(0.1 * 0.5)
    assert rates['backbone.encoder.norm.weight'] == pytest.approx(0.1)
    assert rates['backbone.levels.0.0.weight'] == rates['head.fuse.0.weight'] == 1
    config = OptimizerConfig(
        max_steps=1, learning_rate=1.0, layer_decay=0.5, encoder_factor=0.1, classifier_factor=4.0
    )
    # One for each part, and the first is the main one.
    found = list(learning_rates(build_optimizer(model, config)).items())
    assert found == [('body', 1.0), ('classifier', 4.0), ('encoder', pytest.approx(0.1))]


def test_other_networks_say_that_their_layers_have_no_numbers():
    model = create_model('ddrnet23_slim', 3)
    with pytest.raises(ValueError, match=r'layer_decay is 0\.9, but the layers of DDRNet'):
        rates_of(model, layer_decay=0.9)
