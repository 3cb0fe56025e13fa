import math

import pytest
import torch

from offroad_seg_core.losses import LossConfig, LossTerm, SegmentationLoss
from offroad_seg_core.losses.focused import (
    boundary_cross_entropy_of,
    boundary_mask,
    focal_of,
    logit_adjusted_cross_entropy_of,
    lovasz_of,
)
from offroad_seg_core.losses.functional import Scores, cross_entropy_of

SHARES = torch.tensor([0.9, 0.1, 0.0])
EVERY_LOSS = {
    'focal': focal_of,
    'focal, gamma 0.5': lambda scores: focal_of(scores, gamma=0.5),
    'weighted focal': lambda scores: focal_of(scores, torch.tensor([1.0, 2.0, 0.5])),
    'boundary': lambda scores: boundary_cross_entropy_of(scores, radius_px=1),
    'lovasz': lovasz_of,
    'logit adjusted': lambda scores: logit_adjusted_cross_entropy_of(scores, SHARES),
}


def scores_of(probs, *ids):
    """Return scores of pixels in one row: probabilities of each pixel, and its true id."""
    return Scores.of(torch.tensor(probs).log().T[None, :, None, :], torch.tensor([[ids]]))


@pytest.mark.parametrize('loss', EVERY_LOSS.values(), ids=EVERY_LOSS)
class TestEveryLoss:
    def test_all_ignored_is_zero_with_zero_gradient(self, loss):
        logits = torch.randn(2, 3, 4, 5, requires_grad=True)
        value = loss(Scores.of(logits, torch.full((2, 4, 5), 255)))
        value.backward()
        assert value.item() == 0
        assert logits.grad.abs().max() == 0

    def test_ignored_pixels_change_nothing(self, loss):
        torch.manual_seed(0)
        logits, target = torch.randn(1, 3, 2, 6), torch.randint(0, 3, (1, 2, 6))
        target[..., 4:] = 255
        changed = logits.clone()
        changed[..., 4:] = torch.randn(1, 3, 2, 2) * 9
        value = loss(Scores.of(logits, target))
        torch.testing.assert_close(loss(Scores.of(changed, target)), value)
        cut = Scores.of(logits[..., :4], target[..., :4].contiguous())
        torch.testing.assert_close(loss(cut), value)

    def test_gradients(self, loss):
        torch.manual_seed(1)
        logits = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
        target = torch.tensor([[[0, 1], [2, 255]], [[1, 1], [0, 2]]])
        assert torch.autograd.gradcheck(lambda x: loss(Scores.of(x, target)), (logits,))

    def test_extreme_logits_stay_finite(self, loss):
        logits = torch.tensor([1e4, -1e4, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
        for true_id in (0, 1):
            logits = logits.detach().requires_grad_()
            value = loss(Scores.of(logits, torch.full((1, 2, 2), true_id)))
            value.backward()
            assert torch.isfinite(value)
            assert torch.isfinite(logits.grad).all()

    def test_bfloat16_logits_are_computed_in_float32(self, loss):
        logits, target = torch.randn(1, 3, 8, 8).bfloat16(), torch.randint(0, 3, (1, 8, 8))
        value = loss(Scores.of(logits, target))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(Scores.of(logits.float(), target)))


class TestFocal:
    SCORES = scores_of([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]], 0, 0, 255)

    def test_by_hand(self):
        expected = (0.5**2 * math.log(2) + 0.75**2 * math.log(4)) / 2
        assert focal_of(self.SCORES).item() == pytest.approx(expected)

    def test_class_weights_stay_outside_of_the_probability(self):
        scores = scores_of([[0.5, 0.5], [0.25, 0.75]], 0, 1)
        first, second = 0.5**2 * math.log(2), 0.25**2 * math.log(4 / 3)
        value = focal_of(scores, torch.tensor([1.0, 3.0]))
        assert value.item() == pytest.approx((first + 3 * second) / 4)

    def test_gamma_zero_is_cross_entropy(self):
        value = focal_of(self.SCORES, gamma=0.0)
        assert value.item() == pytest.approx(cross_entropy_of(self.SCORES).item())


class TestBoundary:
    def test_mask_by_hand(self):
        target = torch.tensor([[[0, 0, 0, 0, 1, 1, 255, 2]]])
        near = boundary_mask(target, target != 255, 1)
        # The ignored pixel separates 1 and 2, and is no border itself.
        assert near.int().tolist() == [[[0, 0, 0, 1, 1, 0, 0, 0]]]
        near = boundary_mask(target, target != 255, 2)
        assert near.int().tolist() == [[[0, 0, 1, 1, 1, 1, 0, 1]]]

    def test_by_hand(self):
        scores = scores_of([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75]], 0, 0, 1)
        value = boundary_cross_entropy_of(scores, boundary_weight=3.0, radius_px=1)
        nll = [math.log(2), math.log(4), math.log(4 / 3)]
        assert value.item() == pytest.approx((nll[0] + 4 * nll[1] + 4 * nll[2]) / 9)


class TestLovasz:
    def test_is_one_minus_iou_for_certain_predictions(self):
        certain = [[1.0, 0.0], [1.0, 0.0], [1e-30, 1.0], [1.0, 1e-30]]
        # Class 0: truth {0, 2}, predicted {0, 1, 3}: IoU 1/4. Class 1: truth {1, 3}, predicted
        # {2}: IoU 0.
        value = lovasz_of(scores_of(certain, 0, 1, 0, 1))
        assert value.item() == pytest.approx((3 / 4 + 1) / 2)

    def test_one_pixel_by_hand(self):
        # One class is present: its error 0.3 times the whole Jaccard step of 1.
        assert lovasz_of(scores_of([[0.7, 0.3]], 0)).item() == pytest.approx(0.3)

    def test_two_pixels_by_hand(self):
        # Class 0: errors 0.6 (true) and 0.2 (false), Jaccard loss 1 after the first: 0.6. Class 1:
        # errors 0.6 (false) and 0.2 (true): 1 - 1/2 after the first, 1 after both: 0.3 + 0.1.
        value = lovasz_of(scores_of([[0.4, 0.6], [0.2, 0.8]], 0, 1))
        assert value.item() == pytest.approx((0.6 + 0.4) / 2)


class TestLogitAdjusted:
    def test_by_hand(self):
        value = logit_adjusted_cross_entropy_of(
            scores_of([[0.5, 0.5]], 1), torch.tensor([0.75, 0.25])
        )
        assert value.item() == pytest.approx(math.log(4))  # 0.5*0.25 / (0.5*0.75 + 0.5*0.25)

    def test_tau_zero_is_cross_entropy(self):
        scores = scores_of([[0.5, 0.5], [0.25, 0.75]], 0, 1)
        value = logit_adjusted_cross_entropy_of(scores, torch.tensor([0.75, 0.25]), tau=0.0)
        assert value.item() == pytest.approx(cross_entropy_of(scores).item())

    def test_shares_must_be_given(self):
        config = LossConfig((LossTerm('logit_adjusted_cross_entropy'),))
        with pytest.raises(ValueError, match='needs class_shares'):
            SegmentationLoss(config)
        loss = SegmentationLoss(config, class_shares=torch.tensor([0.75, 0.25]))
        logits, target = torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1, dtype=torch.int64)
        assert loss(logits, target)['total'].item() == pytest.approx(math.log(4))
