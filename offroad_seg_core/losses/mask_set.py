"""The loss of networks that predict a set of masks: match them to the classes, then compare.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022. For
semantic segmentation each class of an image is one mask. At every stage of the network the
queries are matched to them so that the loss is smallest (Carion et al., DETR, ECCV 2020); the
others shall show nothing. Masks are compared at points, most of them where the prediction is
least sure (Kirillov et al., PointRend, CVPR 2020).

Ignored pixels, which the published loss counts as background of every mask, count nowhere here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from offroad_seg_core.losses.functional import quotient_of_sums, quotient_or_zero
from offroad_seg_core.models.contract import QueryPredictions
from offroad_seg_core.taxonomy import IGNORE_INDEX


@dataclass(frozen=True)
class Queries:
    """What a network with queries predicted, and the truth.

    Attributes:
        predictions: Of all stages.
        target: Class ids or 255, ``(N, H, W)`` int64.
    """

    predictions: QueryPredictions
    target: Tensor


@dataclass(frozen=True)
class _Factors:
    """Weights of the loss, which are also those of the matching."""

    of_class: float
    mask: float
    dice: float


@dataclass(frozen=True)
class _Points:
    """How points are chosen: their number, candidates for each, share of the least sure."""

    count: int
    oversampling: float
    importance: float


def mask_set_of(
    queries: Queries,
    class_weights: Tensor | None = None,
    class_factor: float = 2.0,
    mask_factor: float = 5.0,
    dice_factor: float = 5.0,
    no_object_weight: float = 0.1,
    num_points: float = 12544,
    oversampling: float = 3.0,
    importance: float = 0.75,
) -> Tensor:
    """Return the loss of all stages: the classes of queries and the masks of matched ones.

    Args:
        queries: See ``Queries``.
        class_weights: ``(C,)`` float factors of the classes in the queries' cross entropy, or
            None. The mean is over weights.
        class_factor: Weight of that cross entropy, in loss and matching.
        mask_factor: Weight of the binary cross entropy of masks.
        dice_factor: Weight of their Dice loss.
        no_object_weight: Factor, like those of the classes, of queries that shall show nothing.
        num_points: Points at which a mask is compared.
        oversampling: Candidates for each point, >= 1.
        importance: Share of points that are the least sure candidates; the others are random.

    Returns:
        Scalar float32; 0, with zero gradients, where every pixel is ignored.
    """
    factors = _Factors(class_factor, mask_factor, dice_factor)
    points = _Points(int(num_points), oversampling, importance)
    stages = [
        (class_logits.float(), mask_logits.float())
        for class_logits, mask_logits in zip(
            queries.predictions.class_logits, queries.predictions.mask_logits, strict=True
        )
    ]
    num_classes = stages[0][0].shape[2] - 1
    weights = torch.ones(num_classes + 1, device=queries.target.device)
    if class_weights is not None:
        weights[:-1] = class_weights
    weights[-1] = no_object_weight
    zero = torch.zeros((), device=queries.target.device)
    class_weight = num_masks = zero
    # Every prediction stays part of the graph, also where its image teaches nothing.
    class_sum = mask_sum = zero * sum(c.sum() + m.sum() for c, m in stages)
    for index, target in enumerate(queries.target):
        image = [(classes[index], masks[index]) for classes, masks in stages]
        present = target.unique()
        present = present[present != IGNORE_INDEX]
        if not len(present):
            continue  # an image without labels does not show nothing
        matches = _match(image, target, present, factors, points.count)
        for (class_logits, mask_logits), (chosen, wanted) in zip(image, matches, strict=True):
            truth = torch.full((len(class_logits),), num_classes, device=target.device)
            truth[chosen] = present[wanted]
            class_weight = class_weight + weights[truth].sum() / len(stages)
            class_sum = class_sum + (
                functional.cross_entropy(class_logits, truth, weights, reduction='sum')
            )
            mask_sum = mask_sum + _mask_loss(
                mask_logits[chosen], target, present[wanted], factors, points
            )
        num_masks = num_masks + len(matches[0][0])
    return factors.of_class * quotient_of_sums(class_sum, class_weight) + quotient_of_sums(
        mask_sum, num_masks
    )


@torch.no_grad()
def _match(
    stages: Sequence[tuple[Tensor, Tensor]],
    target: Tensor,
    present: Tensor,
    factors: _Factors,
    num_points: int,
) -> list[tuple[Tensor, Tensor]]:
    """Return for each stage which queries of one image are matched to which of its classes."""
    from scipy.optimize import linear_sum_assignment

    points = torch.rand(1, num_points, 2, device=target.device)
    truth, valid = label_shares(target, points, present.view(-1, 1))
    costs = []
    for class_logits, mask_logits in stages:
        logits = _at_points(mask_logits, points.expand(len(mask_logits), -1, -1))
        probs = logits.sigmoid()
        # softplus(-x) is softplus(x) - x: one product does for both kinds of pixels.
        entropy = functional.softplus(logits) @ valid.T - logits @ truth.T
        overlap = 2 * probs @ truth.T + 1
        dice = 1 - overlap / (probs @ valid.T + truth.sum(1) + 1)
        costs.append(
            factors.mask * entropy / valid.sum().clamp(min=1)
            + factors.dice * dice
            - factors.of_class * class_logits.softmax(1)[:, present]
        )
    # A network that diverges gets some match, and then the message about its loss.
    matrices = torch.stack(costs).nan_to_num(nan=1e6, posinf=1e6, neginf=1e6).cpu().numpy()
    matches = (linear_sum_assignment(matrix) for matrix in matrices)
    device = target.device
    return [
        (torch.from_numpy(queries).to(device), torch.from_numpy(classes).to(device))
        for queries, classes in matches
    ]


def _mask_loss(
    logits: Tensor, target: Tensor, class_ids: Tensor, factors: _Factors, points: _Points
) -> Tensor:
    """Return the weighted sum of the losses of one image's matched masks ``(M, h, w)``."""
    with torch.no_grad():
        places = _unsure_points(logits, points)
        truth, valid = label_shares(target, places, class_ids.view(-1, 1))
    sampled = _at_points(logits, places)
    # `truth` is a part of `valid`: ignored pixels count in neither.
    entropy = (functional.softplus(sampled) * valid - sampled * truth).sum(1)
    entropy = quotient_or_zero(entropy, valid.sum(1))
    probs = sampled.sigmoid()
    overlap = 2 * (probs * truth).sum(1) + 1
    dice = 1 - overlap / ((probs * valid).sum(1) + truth.sum(1) + 1)
    return factors.mask * entropy.sum() + factors.dice * dice.sum()


def _unsure_points(logits: Tensor, points: _Points) -> Tensor:
    """Return ``(M, P, 2)`` points in [0, 1], x before y."""
    num_candidates = int(points.count * points.oversampling)
    num_unsure = int(points.count * points.importance)
    candidates = torch.rand(len(logits), num_candidates, 2, device=logits.device)
    unsure = _at_points(logits, candidates).abs().topk(num_unsure, dim=1, largest=False).indices
    chosen = candidates.gather(1, unsure.unsqueeze(2).expand(-1, -1, 2))
    others = torch.rand(len(logits), points.count - num_unsure, 2, device=logits.device)
    return torch.cat([chosen, others], 1)


def _at_points(logits: Tensor, points: Tensor) -> Tensor:
    """Return ``(M, P)`` values of ``(M, h, w)`` maps at ``(M, P, 2)`` points in [0, 1]."""
    grid = 2 * points.unsqueeze(1) - 1
    sampled = functional.grid_sample(logits.unsqueeze(1), grid, align_corners=False)
    return sampled[:, 0, 0]


def label_shares(target: Tensor, points: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much of a class, and of any label, lies at points between pixels.

    What bilinear interpolation of a class's mask and of the mask of labelled pixels would give,
    without making these masks.

    Args:
        target: Class ids or 255, ``(H, W)`` int64.
        points: x and y in [0, 1], ``(M, P, 2)``, or ``(1, P, 2)`` for the same ones.
        class_ids: ``(M, 1)`` int64.

    Returns:
        Shares of the class, ``(M, P)`` float in [0, 1], and of labelled pixels, like ``points``.
    """
    height, width = target.shape
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    right_share, lower_share = x - left, y - top
    truth = valid = torch.zeros((), device=points.device)
    for row, row_share in ((top, 1 - lower_share), (top + 1, lower_share)):
        for column, column_share in ((left, 1 - right_share), (left + 1, right_share)):
            row_index = row.long().clamp(0, height - 1)
            column_index = column.long().clamp(0, width - 1)
            ids, share = target[row_index, column_index], row_share * column_share
            truth = truth + share * (ids == class_ids)
            valid = valid + share * (ids != IGNORE_INDEX)
    return truth, valid
