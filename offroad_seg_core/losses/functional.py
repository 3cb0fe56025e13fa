"""Segmentation losses as functions.

Every function takes

* ``logits``: unnormalised scores, ``(N, C, H, W)`` float (bfloat16 is computed in float32);
* ``target``: class ids or ``ignore_index``, ``(N, H, W)`` int64;

and returns a scalar float32 that is 0, with zero gradients, when every pixel is ignored. Where
several processes train together it is the loss of all their batches as one, see ``world.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from offroad_seg_core.losses.world import world_sums
from offroad_seg_core.taxonomy import IGNORE_INDEX

DICE_SMOOTHING = 1.0  # pixels; keeps a class of few pixels from dominating


@dataclass(frozen=True)
class Scores:
    """What the losses of one batch share: computed once, and the one place that ignores pixels.

    Attributes:
        log_probs: ``(N, C, H, W)`` float32.
        target: ``(N, H, W)`` int64 class ids; ignored pixels hold 0 and are masked by ``valid``.
        valid: ``(N, H, W)`` bool, False where the target is ignored.
    """

    log_probs: Tensor
    target: Tensor
    valid: Tensor

    @classmethod
    def of(cls, logits: Tensor, target: Tensor, ignore_index: int = IGNORE_INDEX) -> Scores:
        """Normalise the logits and separate the ignored pixels.

        Raises:
            ValueError: Shapes or types of logits and target do not fit each other.
        """
        expected = (logits.shape[0], *logits.shape[2:])
        if logits.ndim != 4 or tuple(target.shape) != expected:
            raise ValueError(
                f'logits {tuple(logits.shape)} and target {tuple(target.shape)} do not fit; '
                f'expected (N, C, H, W) and (N, H, W): resize the logits to the target first'
            )
        if target.dtype != torch.int64:
            raise ValueError(f'target is {target.dtype}, expected torch.int64')
        valid = target != ignore_index
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        log_probs = functional.log_softmax(logits.to(dtype), dim=1)
        return cls(log_probs, target.where(valid, torch.zeros_like(target)), valid)

    def nll(self) -> Tensor:
        """Return -log p of the true class, ``(N, H, W)``, 0 where ignored."""
        chosen = self.log_probs.gather(1, self.target.unsqueeze(1)).squeeze(1)
        return -chosen * self.valid


def cross_entropy_loss(
    logits: Tensor,
    target: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Average -log p(target) over the valid pixels, each weighted by its class.

    With smoothing e the truth is ``1 - e`` for the target plus ``e / C`` for every class.

    Args:
        logits: See the module.
        target: See the module.
        class_weights: ``(C,)`` float, or None for 1 everywhere. The mean is over weights.
        label_smoothing: e in [0, 1).
        ignore_index: The id of pixels that do not count.
    """
    scores = Scores.of(logits, target, ignore_index)
    return cross_entropy_of(scores, class_weights, label_smoothing)


def cross_entropy_of(
    scores: Scores, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """See ``cross_entropy_loss``."""
    weights = scores.valid.to(scores.log_probs.dtype)
    if class_weights is not None:
        weights = weights * class_weights.to(weights)[scores.target]
    loss = (scores.nll() * weights).sum()
    if label_smoothing:
        weighted = scores.log_probs
        if class_weights is not None:
            weighted = weighted * class_weights.to(weighted).view(1, -1, 1, 1)
        uniform = -(weighted.mean(dim=1) * scores.valid).sum()
        loss = (1 - label_smoothing) * loss + label_smoothing * uniform
    return quotient_of_sums(loss, weights.sum())


def quotient_of_sums(loss: Tensor, weight: Tensor) -> Tensor:
    """Divide a sum of weighted losses by that of the weights, both over all processes."""
    return quotient_or_zero(*world_sums(loss, weight))


def quotient_or_zero(loss: Tensor, weight: Tensor) -> Tensor:
    """Divide; where a weight is 0, so is the loss, and it stays 0.

    Bounding the weight by a tiny number would do for the value alone: the gradient, which is
    1 / weight, grows beyond what float32 holds as soon as anything multiplies it, and then
    infinity times 0 is nan.
    """
    return loss / weight.where(weight > 0, 1)


def dice_loss(
    logits: Tensor,
    target: Tensor,
    smoothing: float = DICE_SMOOTHING,
    all_classes: bool = False,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return 1 minus the soft Dice score, averaged over the classes present in the target.

    For class c, over all valid pixels of the batch:
    ``dice_c = (2 * sum(p_c * t_c) + s) / (sum(p_c) + sum(t_c) + s)``.
    (Milletari et al., V-Net, arXiv 1606.04797, with linear terms.)

    Args:
        logits: See the module.
        target: See the module.
        smoothing: s, in pixels, >= 0.
        all_classes: Absent classes have the loss 0, as here, but also count in the number that
            the sum is divided by: with s = 0 the multiclass Dice of segmentation-models-pytorch.
        ignore_index: The id of pixels that do not count.
    """
    return dice_of(Scores.of(logits, target, ignore_index), smoothing, all_classes)


def dice_of(
    scores: Scores, smoothing: float = DICE_SMOOTHING, all_classes: bool = False
) -> Tensor:
    """See ``dice_loss``."""
    num_classes = scores.log_probs.shape[1]
    valid = scores.valid.to(scores.log_probs.dtype)
    probs = scores.log_probs.exp() * valid.unsqueeze(1)
    mass = probs.sum(dim=(0, 2, 3))
    flat_target = scores.target.flatten()
    true_probs = probs.gather(1, scores.target.unsqueeze(1)).flatten()
    zeros = torch.zeros(num_classes, dtype=probs.dtype, device=probs.device)
    overlap = zeros.index_add(0, flat_target, true_probs)
    area = zeros.index_add(0, flat_target, valid.flatten())
    mass, overlap, area = world_sums(mass, overlap, area)
    present = area > 0
    dice = (2 * overlap + smoothing) / (mass + area + smoothing).where(present, mass + 1)
    count = num_classes if all_classes else present.sum().clamp(min=1)
    return ((1 - dice) * present).sum() / count


def ohem_cross_entropy_loss(
    logits: Tensor,
    target: Tensor,
    class_weights: Tensor | None = None,
    threshold: float = 0.9,
    min_kept: float = 0.0625,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Average -log p(target) over the hard pixels only.

    Hard are the valid pixels whose p(target) is below ``threshold``, and at least the share
    ``min_kept`` of valid pixels (of each process) with the largest loss. (Online hard example
    mining, Shrivastava et al., arXiv 1604.03540, as DDRNet is trained.)

    Args:
        logits: See the module.
        target: See the module.
        class_weights: ``(C,)`` float, or None for 1 everywhere. The mean is over weights.
        threshold: In (0, 1].
        min_kept: In [0, 1].
        ignore_index: The id of pixels that do not count.
    """
    scores = Scores.of(logits, target, ignore_index)
    return ohem_cross_entropy_of(scores, class_weights, threshold, min_kept)


def ohem_cross_entropy_of(
    scores: Scores,
    class_weights: Tensor | None = None,
    threshold: float = 0.9,
    min_kept: float = 0.0625,
) -> Tensor:
    """See ``ohem_cross_entropy_loss``."""
    losses = scores.nll()[scores.valid]
    weights = torch.ones_like(losses)
    if class_weights is not None:
        weights = class_weights.to(losses)[scores.target[scores.valid]]
    ranked = losses.detach()
    hard = ranked > -torch.log(torch.tensor(threshold, dtype=ranked.dtype))
    num_kept = int(min_kept * ranked.numel())
    if num_kept > int(hard.sum()):
        hard = torch.zeros_like(hard)
        hard[ranked.topk(num_kept).indices] = True
    weights = weights * hard
    return quotient_of_sums((losses * weights).sum(), weights.sum())
