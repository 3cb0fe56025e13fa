import pytest
import torch
from torch.nn import functional

from offroad_seg_core.models import create_model
from offroad_seg_core.models.uper import FCNHead, UPerHead, pool

LARGE = (160, 320, 640, 1280)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_the_published_ones():
    with torch.device('meta'):
        assert count(UPerHead(LARGE, 150)) == 35_134_614
        assert count(UPerHead(LARGE, 64)) == 35_090_496
        assert count(FCNHead(640, 150)) == 1_513_622
        assert count(FCNHead(640, 64)) == 1_491_520


def test_pooling_is_adaptive_average_pooling():
    x = torch.randn(2, 3, 7, 11, dtype=torch.float64)
    for scale in (1, 2, 3, 6):
        expected = functional.adaptive_avg_pool2d(x, scale)
        torch.testing.assert_close(pool(x, scale), expected)


def test_every_level_reaches_the_logits():
    head = UPerHead((8, 16, 24, 32), 5, channels=16).eval()
    features = [
        torch.randn(1, 8 * (level + 1), 16 >> level, 24 >> level, requires_grad=True)
        for level in range(4)
    ]
    logits = head(features)
    assert logits.shape == (1, 5, 16, 24)
    logits.sum().backward()
    assert all(level.grad.abs().max() > 0 for level in features)


def test_one_image_in_training_says_what_to_do():
    model = create_model(
        'upernet_vit', 3, encoder='vit_tiny_patch16_dinov3_qkvb', head_channels=16
    )
    with pytest.raises(ValueError, match='got a batch of 1 image in training mode'):
        model.train()(torch.randn(1, 3, 64, 64))
    logits, auxiliary = model(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, 3, 16, 24)
    assert auxiliary.shape == (2, 3, 4, 6)
