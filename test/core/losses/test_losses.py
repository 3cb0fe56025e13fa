from functools import partial
import math

import pytest
import torch

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.losses import LossConfig, SegmentationLoss
from offroad_seg_core.losses.functional import (
    cross_entropy_loss,
    dice_loss,
    ohem_cross_entropy_loss,
)

WEIGHTS = torch.tensor([1.0, 2.0, 0.5])
EVERY_LOSS = {
    'cross_entropy': cross_entropy_loss,
    'smoothed': partial(cross_entropy_loss, label_smoothing=0.1),
    'weighted': partial(cross_entropy_loss, class_weights=WEIGHTS, label_smoothing=0.1),
    'dice': dice_loss,
    'dice without smoothing': partial(dice_loss, smoothing=0.0),
    'ohem': ohem_cross_entropy_loss,
    'weighted ohem': partial(ohem_cross_entropy_loss, class_weights=WEIGHTS, min_kept=0.5),
}


def logits_of(*pixels):
    """Return logits (1, C, 1, W) whose softmax is the given probabilities of each pixel."""
    return torch.tensor(pixels).log().T[None, :, None, :]


def target_of(*ids):
    return torch.tensor([[ids]])


@pytest.mark.parametrize('loss', EVERY_LOSS.values(), ids=EVERY_LOSS)
class TestEveryLoss:
    def test_all_ignored_is_zero_with_zero_gradient(self, loss):
        logits = torch.randn(2, 3, 4, 5, requires_grad=True)
        value = loss(logits, torch.full((2, 4, 5), 255))
        value.backward()
        assert value.item() == 0
        assert logits.grad.abs().max() == 0

    def test_ignored_pixels_change_nothing(self, loss):
        torch.manual_seed(0)
        logits, target = torch.randn(1, 3, 2, 6), torch.randint(0, 3, (1, 2, 6))
        target[..., 4:] = 255
        changed = logits.clone()
        changed[..., 4:] = torch.randn(1, 3, 2, 2) * 9
        torch.testing.assert_close(loss(changed, target), loss(logits, target))
        torch.testing.assert_close(
            loss(logits, target), loss(logits[..., :4], target[..., :4].contiguous())
        )

    def test_gradients(self, loss):
        torch.manual_seed(1)
        logits = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
        target = torch.tensor([[[0, 1], [2, 255]], [[1, 1], [0, 2]]])
        assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits,))

    def test_bfloat16_logits_are_computed_in_float32(self, loss):
        torch.manual_seed(2)
        logits, target = torch.randn(1, 3, 8, 8).bfloat16(), torch.randint(0, 3, (1, 8, 8))
        value = loss(logits, target)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(logits.float(), target))

    def test_extreme_logits_stay_finite(self, loss):
        logits = torch.tensor([1e4, -1e4, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
        logits.requires_grad_()
        value = loss(logits, torch.ones(1, 2, 2, dtype=torch.int64))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()

    @pytest.mark.parametrize(
        ('shape', 'dtype', 'match'),
        [
            ((1, 4, 4), torch.int64, 'resize the logits to the target first'),
            ((1, 2, 2), torch.uint8, r'target is torch.uint8, expected torch.int64'),
        ],
    )
    def test_wrong_targets(self, loss, shape, dtype, match):
        with pytest.raises(ValueError, match=match):
            loss(torch.zeros(1, 3, 2, 2), torch.zeros(shape, dtype=dtype))


class TestCrossEntropy:
    LOGITS = logits_of([0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.1, 0.1, 0.8])
    TARGET = target_of(0, 2, 255)

    def test_mean_over_valid_pixels(self):
        value = cross_entropy_loss(self.LOGITS, self.TARGET)
        assert value.item() == pytest.approx((math.log(2) + math.log(8)) / 2)

    def test_class_weights_weight_the_mean(self):
        value = cross_entropy_loss(self.LOGITS, self.TARGET, WEIGHTS)
        assert value.item() == pytest.approx((math.log(2) + 0.5 * math.log(8)) / 1.5)

    @pytest.mark.parametrize('weights', [None, WEIGHTS])
    def test_equals_torch_with_smoothing(self, weights):
        torch.manual_seed(0)
        logits, target = torch.randn(2, 3, 5, 7), torch.randint(0, 3, (2, 5, 7))
        target[0, 0] = 255
        expected = torch.nn.functional.cross_entropy(
            logits, target, weights, ignore_index=255, label_smoothing=0.2
        )
        torch.testing.assert_close(cross_entropy_loss(logits, target, weights, 0.2), expected)


class TestDice:
    def test_hand_computed(self):
        logits = logits_of([0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8])
        value = dice_loss(logits, target_of(0, 1, 255), smoothing=0.0)
        # class 0: 2 * 0.5 / (1 + 1); class 1: 2 * 0.25 / (0.5 + 1); class 2 is absent
        assert value.item() == pytest.approx(1 - (0.5 + 1 / 3) / 2)

    def test_smoothing_is_added_to_both_sides(self):
        value = dice_loss(logits_of([0.5, 0.5]), target_of(0), smoothing=1.0)
        assert value.item() == pytest.approx(1 - (2 * 0.5 + 1) / (0.5 + 1 + 1))

    def test_perfect_is_zero(self):
        logits = torch.eye(3).log().clamp(min=-1e3).T[None, :, None, :]
        assert dice_loss(logits, target_of(0, 1, 2)).item() == pytest.approx(0, abs=1e-6)


class TestOhem:
    LOGITS = logits_of([0.95, 0.05], [0.92, 0.08], [0.5, 0.5], [0.25, 0.75])

    def test_keeps_pixels_below_the_threshold(self):
        value = ohem_cross_entropy_loss(self.LOGITS, target_of(0, 0, 0, 0), min_kept=0.0)
        assert value.item() == pytest.approx((math.log(2) + math.log(4)) / 2)

    def test_keeps_the_hardest_share_at_least(self):
        value = ohem_cross_entropy_loss(self.LOGITS, target_of(0, 0, 0, 0), min_kept=0.75)
        expected = (math.log(2) + math.log(4) - math.log(0.92)) / 3
        assert value.item() == pytest.approx(expected)


class TestSum:
    def test_weighted_sum_of_named_terms(self):
        config = load_config(
            LossConfig,
            {
                'terms': [
                    {'name': 'cross_entropy', 'weight': 0.5, 'options': {'label_smoothing': 0.1}},
                    {'name': 'dice', 'weight': 2.0},
                ]
            },
        )
        logits, target = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
        terms = SegmentationLoss(config, WEIGHTS)(logits, target)
        entropy, dice = cross_entropy_loss(logits, target, WEIGHTS, 0.1), dice_loss(logits, target)
        torch.testing.assert_close(terms['cross_entropy'], entropy)
        torch.testing.assert_close(terms['dice'], dice)
        torch.testing.assert_close(terms['total'], 0.5 * entropy + 2 * dice)

    @pytest.mark.parametrize(
        ('source', 'match'),
        [
            ({'terms': [{'name': 'dyce'}]}, r'no loss is named .dyce.; expected one of cross_ent'),
            ({'terms': [{'name': 'dice', 'options': {'gamma': 2}}]}, 'has no option gamma'),
            ({'terms': []}, 'terms is empty'),
            (
                {'terms': [{'name': 'dice'}, {'name': 'cross_entropy'}, {'name': 'dice'}]},
                'terms has dice more than once, expected every loss once; add their weights up',
            ),
            ({'class_weights': 'balanced'}, 'expected a list .* or one of enet'),
            ({'terms': [{'name': 'dice', 'weight': -1}]}, r'terms\.0\.weight'),
        ],
    )
    def test_mistakes_are_found_before_training(self, source, match):
        with pytest.raises(ConfigError, match=match):
            load_config(LossConfig, source)


def test_dice_over_all_classes_counts_absent_ones_as_right():
    logits, target = logits_of([0.5, 0.25, 0.25], [0.25, 0.5, 0.25]), target_of(0, 0)
    present = dice_loss(logits, target, smoothing=0.0)
    assert present.item() == pytest.approx(1 - 2 * 0.75 / (0.75 + 2))
    over_all = dice_loss(logits, target, smoothing=0.0, all_classes=True)
    assert over_all.item() == pytest.approx(present.item() / 3)
