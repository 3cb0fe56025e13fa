"""Losses that look harder at some pixels: hard ones, borders, rare classes, wrong rankings.

Arguments and results are those of ``functional``, from which the common parts come.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from offroad_seg_core.losses.functional import Scores, quotient_of_sums
from offroad_seg_core.losses.world import world_mean


def focal_of(scores: Scores, class_weights: Tensor | None = None, gamma: float = 2.0) -> Tensor:
    """Return the focal loss, the mean of ``-a (1 - p)^gamma log p`` of the true class.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. p is the probability itself:
    where class weights enter the cross entropy first and p is taken from its exponential, as some
    implementations do, p becomes p^a and rare classes lose the very weight they were given.

    Args:
        scores: See ``Scores``.
        class_weights: a, ``(C,)`` float, or None for 1 everywhere. The mean is over weights.
        gamma: >= 0; 0 gives the weighted cross entropy.
    """
    nll = scores.nll()
    weights = _weights(scores, class_weights)
    # expm1 keeps 1 - p exact where p is nearly 1.
    hardness = (-torch.expm1(-nll)).clamp(min=torch.finfo(nll.dtype).tiny) ** gamma
    return _mean(hardness * nll, weights)


def boundary_cross_entropy_of(
    scores: Scores,
    class_weights: Tensor | None = None,
    boundary_weight: float = 4.0,
    radius_px: float = 2,
) -> Tensor:
    """Average -log p(target) with more weight near borders between classes.

    Args:
        scores: See ``Scores``.
        class_weights: ``(C,)`` float, or None for 1 everywhere. The mean is over weights.
        boundary_weight: Added to the weight 1 of pixels near a border, >= 0.
        radius_px: A pixel is near a border if another class lies within this many rows and
            columns. Ignored pixels make no border.
    """
    near = boundary_mask(scores.target, scores.valid, int(radius_px))
    weights = _weights(scores, class_weights) * (1 + boundary_weight * near)
    return _mean(scores.nll(), weights)


def boundary_mask(target: Tensor, valid: Tensor, radius_px: int) -> Tensor:
    """Return where another class lies within ``radius_px`` rows and columns.

    Args:
        target: Class ids, ``(N, H, W)`` int64; any id where not valid.
        valid: ``(N, H, W)`` bool; the other pixels make no border.
        radius_px: >= 0.

    Returns:
        ``(N, H, W)`` bool.
    """
    ids = target.unsqueeze(1).float()
    known = valid.unsqueeze(1)
    none = torch.tensor(-1e6, device=ids.device)
    highest = _window_max(torch.where(known, ids, none), radius_px)
    lowest = -_window_max(torch.where(known, -ids, none), radius_px)
    return (highest > lowest).squeeze(1) & valid


def _window_max(values: Tensor, radius_px: int) -> Tensor:
    return functional.max_pool2d(values, 2 * radius_px + 1, stride=1, padding=radius_px)


def lovasz_of(scores: Scores) -> Tensor:
    """Return the Lovász-softmax loss, averaged over the classes present in the target.

    Berman et al., "The Lovász-Softmax loss", CVPR 2018: the convex extension of 1 - IoU, over all
    valid pixels of the batch. It ranks the pixels, so it is no function of sums over processes:
    where several train together it is the mean of their losses.
    """
    valid = scores.valid
    probs = scores.log_probs.exp().movedim(1, -1)[valid]
    target = scores.target[valid]
    losses = [
        _lovasz_class(probs[:, class_id], target == class_id) for class_id in target.unique()
    ]
    return world_mean(torch.stack(losses).mean() if losses else scores.log_probs.sum() * 0)


def _lovasz_class(probs: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of one class; ``probs`` (P,) float, ``truth`` (P,) bool."""
    errors = torch.where(truth, 1 - probs, probs)
    order = errors.detach().argsort(descending=True)
    sorted_truth = truth[order].to(probs.dtype)
    total = sorted_truth.sum()
    jaccard = 1 - (total - sorted_truth.cumsum(0)) / (total + (1 - sorted_truth).cumsum(0))
    steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return (errors[order] * steps).sum()


def logit_adjusted_cross_entropy_of(
    scores: Scores, class_shares: Tensor, tau: float = 1.0
) -> Tensor:
    """Average the cross entropy of logits that were raised by ``tau log(share)`` of each class.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021: at test time, without the
    adjustment, the balanced error is minimised.

    Args:
        scores: See ``Scores``.
        class_shares: Share of each class among the labelled training pixels, ``(C,)`` float;
            classes that do not occur count as one pixel in a million.
        tau: Strength, >= 0; 0 gives the plain cross entropy.
    """
    prior = class_shares.to(scores.log_probs).clamp(min=1e-6).log()
    adjusted = functional.log_softmax(scores.log_probs + tau * prior.view(1, -1, 1, 1), dim=1)
    nll = Scores(adjusted, scores.target, scores.valid).nll()
    return _mean(nll, _weights(scores, None))


def _weights(scores: Scores, class_weights: Tensor | None) -> Tensor:
    """Return each pixel's weight, ``(N, H, W)``, 0 where ignored."""
    weights = scores.valid.to(scores.log_probs.dtype)
    if class_weights is None:
        return weights
    return weights * class_weights.to(weights)[scores.target]


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return quotient_of_sums((values * weights).sum(), weights.sum())
