"""The loss of predicted masks: by hand, against transformers' own, and with ignored pixels."""

import math

import pytest
import torch
from torch.nn import functional

from offroad_seg_core.losses import LossConfig, LossTerm, SegmentationLoss
from offroad_seg_core.losses.mask_set import Queries, label_shares, mask_set_of
from offroad_seg_core.models.contract import QueryPredictions

NUM_CLASSES = 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def halves():
    """Return a target of class 1 on the left and class 3 on the right, ``(1, 8, 8)``."""
    target = torch.ones(1, 8, 8, dtype=torch.int64)
    target[..., 4:] = 3
    return target


def perfect(target, num_queries=5, certainty=40.0):
    """Return predictions of one stage: query 4 shows class 1, query 2 class 3, others nothing."""
    classes = torch.full((1, num_queries, NUM_CLASSES + 1), -certainty)
    classes[..., NUM_CLASSES] = certainty
    masks = torch.full((1, num_queries, *target.shape[1:]), -certainty)
    for query, class_id in ((4, 1), (2, 3)):
        classes[0, query] = -certainty
        classes[0, query, class_id] = certainty
        masks[0, query][target[0] == class_id] = certainty
    return classes, masks


def loss_of(classes, masks, target, **options):
    stages = (classes,) if torch.is_tensor(classes) else classes
    masks = (masks,) if torch.is_tensor(masks) else masks
    return mask_set_of(Queries(QueryPredictions(stages, masks), target), **options)


class TestByHand:
    def test_the_truth_costs_nothing(self):
        predictions, target = perfect(halves(), certainty=100.0), halves()
        target[..., 3:5] = 255  # where masks are interpolated between their two values
        loss = loss_of(*predictions, target, num_points=200)
        assert loss == pytest.approx(0, abs=1e-4)

    def test_every_term_of_uniform_masks(self):
        # Masks of logit 0: whatever the points, cross entropy is log 2, and Dice follows from
        # how many of the points lie in the mask.
        target = torch.ones(1, 8, 8, dtype=torch.int64)
        classes, masks = torch.zeros(1, 3, NUM_CLASSES + 1), torch.zeros(1, 3, 8, 8)
        count = 100
        loss = loss_of(classes, masks, target, num_points=count, no_object_weight=0.1)
        dice = 1 - (2 * 0.5 * count + 1) / (0.5 * count + count + 1)
        # All classes are equally likely, so the mean over weights is log 5.
        expected = 2 * math.log(5) + 5 * math.log(2) + 5 * dice
        assert loss == pytest.approx(expected, rel=0.02)  # points near the image's edge

    def test_class_weights_and_the_weight_of_nothing(self):
        target = torch.ones(1, 4, 4, dtype=torch.int64)
        classes = torch.randn(1, 3, NUM_CLASSES + 1)
        masks = torch.full((1, 3, 4, 4), -200.0)
        masks[0, 1] = 200.0  # so that query 1 is matched
        weights = torch.tensor([1.0, 3.0, 1.0, 1.0])
        options = {'mask_factor': 100.0, 'dice_factor': 0.0, 'num_points': 64}
        loss = loss_of(
            classes, masks, target, class_weights=weights, no_object_weight=0.5, **options
        ) - loss_of(classes, masks, target, class_factor=1e-9, **options)
        nll = -classes[0].log_softmax(1)
        sums = 3.0 * nll[1, 1] + 0.5 * (nll[0, 4] + nll[2, 4])
        assert loss == pytest.approx(2 * float(sums) / 4.0, abs=0.02)

    def test_stages_add_up(self):
        target = halves()
        classes, masks = perfect(target)
        wrong = classes.roll(1, dims=1)
        single = loss_of(wrong, masks, target, num_points=300)
        double = loss_of((classes, wrong), (masks, masks), target, num_points=300)
        nothing = loss_of(classes, masks, target, num_points=300)
        assert double == pytest.approx(float(single + nothing), rel=0.05)


class TestIgnoredPixels:
    def test_nothing_there_matters(self):
        target = halves()
        target[:, :4] = 255
        classes, masks = perfect(target, certainty=3.0)
        options = {'num_points': 400, 'importance': 0.0}
        torch.manual_seed(1)
        expected = loss_of(classes, masks, target, **options)
        masks[:, :, :3] = 50.0  # far enough from the labelled rows not to be interpolated
        torch.manual_seed(1)
        assert loss_of(classes, masks, target, **options) == pytest.approx(float(expected))

    def test_an_image_without_labels_teaches_nothing(self):
        target = torch.full((1, 8, 8), 255)
        classes = torch.zeros(1, 3, NUM_CLASSES + 1, requires_grad=True)
        masks = torch.randn(1, 3, 8, 8, requires_grad=True)
        loss = loss_of(classes, masks, target, num_points=50)
        assert loss.item() == 0
        loss.backward()
        assert classes.grad.abs().max() == 0
        assert masks.grad.abs().max() == 0


def test_label_shares_are_bilinear_interpolation_of_masks():
    target = torch.randint(0, NUM_CLASSES, (6, 9))
    target[2:4, 3:5] = 255
    points = 0.1 + 0.8 * torch.rand(NUM_CLASSES, 40, 2)  # interpolation pads the edge with zeros
    ids = torch.arange(NUM_CLASSES).view(-1, 1)
    truth, valid = label_shares(target, points, ids)
    for class_id in range(NUM_CLASSES):
        grid = 2 * points[class_id].view(1, 1, -1, 2) - 1
        for share, mask in ((truth, target == class_id), (valid, target != 255)):
            expected = functional.grid_sample(mask[None, None].float(), grid, align_corners=False)
            torch.testing.assert_close(share[class_id], expected.flatten(), rtol=0, atol=1e-5)


def test_it_is_the_loss_of_transformers():
    from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports

    ensure_torchvision_imports()
    modeling = pytest.importorskip('transformers.models.mask2former.modeling_mask2former')
    config = modeling.Mask2FormerConfig(train_num_points=6000)
    config.num_labels = NUM_CLASSES
    theirs = modeling.Mask2FormerLoss(config, {})
    target = functional.interpolate(
        torch.randint(0, NUM_CLASSES, (2, 1, 3, 4)).float(), scale_factor=8, mode='nearest'
    )[:, 0].long()
    classes, masks = torch.randn(2, 9, NUM_CLASSES + 1), 2 * torch.randn(2, 9, 12, 16)
    present = [image.unique() for image in target]
    labels = [
        torch.stack([(image == class_id).float() for class_id in ids])
        for image, ids in zip(target, present, strict=True)
    ]
    parts = theirs(masks, classes, labels, present)
    expected = 2 * parts['loss_cross_entropy'] + 5 * parts['loss_mask'] + 5 * parts['loss_dice']
    ours = loss_of(classes, masks, target, num_points=6000)
    assert ours == pytest.approx(float(expected), rel=0.01)  # other random points


def test_a_mask_of_which_no_point_is_labelled():
    # One labelled pixel of 4096, in the last corner, and one point.
    target = torch.full((1, 64, 64), 255)
    target[0, -1, -1] = 2
    classes = torch.randn(1, 3, NUM_CLASSES + 1)
    masks = torch.randn(1, 3, 64, 64, requires_grad=True)
    loss = loss_of(classes, masks, target, num_points=1, class_factor=1e-9)
    loss.backward()
    # Neither entropy nor Dice sees anything: overlap and areas are the smoothing's 1.
    assert loss.detach() == pytest.approx(0, abs=1e-6)
    assert torch.equal(masks.grad, torch.zeros_like(masks))


class TestAsATerm:
    def test_by_name(self):
        target = halves()
        terms = (LossTerm('mask_set', options={'num_points': 200}),)
        values = SegmentationLoss(LossConfig(terms))(
            QueryPredictions(*((x,) for x in perfect(target))), target
        )
        assert values.keys() == {'mask_set', 'total'}

    def test_networks_and_losses_that_do_not_fit(self):
        target = halves()
        predictions = QueryPredictions(*((x,) for x in perfect(target)))
        with pytest.raises(ValueError, match=r"loss 'cross_entropy' .* expected mask_set in"):
            SegmentationLoss(LossConfig())(predictions, target)
        loss = SegmentationLoss(LossConfig((LossTerm('mask_set'),)))
        with pytest.raises(ValueError, match="loss 'mask_set' is not for this network"):
            loss(torch.zeros(1, NUM_CLASSES, 8, 8), target)
