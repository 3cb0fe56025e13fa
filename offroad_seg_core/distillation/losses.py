"""What a student is told to have in common with its teacher.

Every loss is a scalar that is 0, with zero gradients, where the teacher says nothing, and that
sends gradients into the student alone. Where several processes train together it is the loss of
all their batches as one, see ``losses/world.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic.dataclasses import dataclass as checked_dataclass
import torch
from torch import Tensor
from torch.nn import functional

from offroad_seg_core.config import STRICT
from offroad_seg_core.losses import LossTerm
from offroad_seg_core.losses.world import world_sums

# Stored soft labels know nothing of smaller probabilities.
_SMALLEST = 1e-8
# What varies less than this is a constant up to rounding, which correlates with nothing.
_CONSTANT = 1e-12


@dataclass(frozen=True)
class Answers:
    """What student and teacher say about the same pixels.

    Attributes:
        student: Log-probabilities, ``(N, C, H, W)`` float32 or float64.
        teacher: The same of the teacher, without gradient; anything where not valid.
        valid: ``(N, H, W)`` bool, False where the teacher says nothing.
    """

    student: Tensor
    teacher: Tensor
    valid: Tensor

    @classmethod
    def of(cls, logits: Tensor, soft: Tensor, known: Tensor | None = None) -> Answers:
        """Bring both into one form.

        Args:
            logits: The student's unnormalised scores, ``(N, C, H, W)`` float.
            soft: The teacher's probabilities, ``(N, C, H, W)`` float. Where their sum is below
                one half the teacher says nothing; elsewhere they are divided by it.
            known: ``(C,)`` bool, the classes that the teacher can name; the student is compared
                on these alone. None: all.

        Raises:
            ValueError: The shapes differ.
        """
        if logits.ndim != 4 or logits.shape != soft.shape:
            raise ValueError(
                f'logits {tuple(logits.shape)} and soft labels {tuple(soft.shape)} do not fit; '
                'expected (N, C, H, W) of both: make the soft labels at the stride of the logits'
            )
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        logits, soft = logits.to(dtype), soft.detach().to(dtype)
        if known is not None and not known.all():
            logits, soft = logits[:, known], soft[:, known]
        mass = soft.sum(dim=1)
        valid = mass >= 0.5
        probs = torch.where(valid.unsqueeze(1), soft, torch.ones_like(soft))
        probs = probs / probs.sum(dim=1, keepdim=True)
        teacher = probs.clamp(min=_SMALLEST).log()
        return cls(functional.log_softmax(logits, dim=1), teacher, valid)

    def softened(self, temperature: float) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of student and teacher at a temperature."""
        student, teacher = (
            functional.log_softmax(scores / temperature, dim=1)
            for scores in (self.student, self.teacher)
        )
        return student, teacher


def kl_of(answers: Answers, temperature: float = 4.0) -> Tensor:
    """Average ``T² KL(teacher || student)`` over the pixels.

    Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, for each
    pixel; T² keeps the size of the gradients.

    Args:
        answers: See ``Answers``.
        temperature: T > 0; above 1, what the teacher holds for unlikely counts more.
    """
    student, teacher = answers.softened(temperature)
    divergence = _divergence(student, teacher).sum(dim=1) * answers.valid
    count = answers.valid.to(divergence.dtype).sum()
    return _mean(temperature**2 * divergence.sum(), count)


def cwd_of(answers: Answers, temperature: float = 4.0) -> Tensor:
    """Return the channel-wise distillation loss on log-probabilities.

    See ``channel_wise_divergence``. The authors take logits; those of an ensemble are not
    defined, so both sides are normalised over the classes first.
    """
    return channel_wise_divergence(answers.student, answers.teacher, answers.valid, temperature)


def channel_wise_divergence(
    student: Tensor, teacher: Tensor, valid: Tensor, temperature: float = 4.0
) -> Tensor:
    """Average ``T² KL(teacher || student)`` of the places of each channel over all channels.

    A channel's scores over the places of an image become a distribution by softmax. Shu et al.,
    "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021.

    Args:
        student: Scores, ``(N, C, H, W)`` float.
        teacher: Scores of the same shape.
        valid: ``(N, H, W)`` bool, the places that take part.
        temperature: T > 0.
    """
    teacher = teacher.detach()
    hidden = ~valid.unsqueeze(1)
    student, teacher = (
        functional.log_softmax((scores / temperature).masked_fill(hidden, -1e4).flatten(2), dim=2)
        for scores in (student, teacher)
    )
    shown = valid.flatten(1).any(dim=1).to(student.dtype)
    divergence = _divergence(student, teacher).sum(dim=(1, 2)) * shown
    count = shown.sum() * student.shape[1]
    return _mean(temperature**2 * divergence.sum(), count)


def dist_of(
    answers: Answers, temperature: float = 1.0, inter: float = 1.0, intra: float = 1.0
) -> Tensor:
    """Return one minus the correlation of student and teacher, over classes and over pixels.

    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022 (DIST). Where
    the teacher's probabilities do not vary, the correlation is not defined and does not count.

    Args:
        answers: See ``Answers``.
        temperature: T > 0 of both; the sum is multiplied by T².
        inter: Weight of the mean over pixels of one minus the correlation over the classes.
        intra: Weight of the mean over classes of one minus the correlation over all pixels.
    """
    student, teacher = (scores.exp() for scores in answers.softened(temperature))
    valid = answers.valid.unsqueeze(1).to(student.dtype)
    ones = torch.ones_like(student)
    loss = inter * _one_minus_correlation(student, teacher, ones, (1,), valid)
    loss = loss + intra * _one_minus_correlation(student, teacher, valid, (0, 2, 3), valid)
    return temperature**2 * loss


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference to the teacher's features.

    Romero et al., "FitNets", ICLR 2015. Each channel of the teacher is first brought to mean 0
    and variance 1 over the batch, so that no channel counts for its scale.

    Args:
        student: Projected features, ``(N, C, H, W)`` float.
        teacher: Features of the same shape.
    """
    teacher = teacher.detach()
    dims = (0, 2, 3)
    size = torch.full_like(teacher[0, :, 0, 0], teacher[:, 0].numel())
    total, count = world_sums(teacher.sum(dims), size)
    teacher = teacher - (total / count).view(1, -1, 1, 1)
    (squares,) = world_sums((teacher**2).sum(dims))
    scale = (squares / count).clamp(min=_CONSTANT).rsqrt()
    difference = student - teacher * scale.view(1, -1, 1, 1)
    return _mean((difference**2).sum(), size.sum())


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """Divide a sum by a number of summands, both over all processes; 0 for none."""
    total, count = world_sums(total, count)
    return total / count.clamp(min=1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the summands of KL(teacher || student) of log-probabilities."""
    return functional.kl_div(student, teacher, reduction='none', log_target=True)


def _one_minus_correlation(
    student: Tensor, teacher: Tensor, weight: Tensor, dims: tuple[int, ...], valid: Tensor
) -> Tensor:
    """Average one minus the correlation over ``dims`` over the rest; ``(N, C, H, W)`` each.

    Args:
        student: Probabilities.
        teacher: Probabilities.
        weight: 0 or 1, which of them are correlated.
        dims: Over classes, within a pixel; or over pixels, of all processes.
        valid: ``(N, 1, H, W)`` 0 or 1.
    """
    over_pixels = 0 in dims

    def total(*values: Tensor) -> tuple[Tensor, ...]:
        sums = tuple((value * weight).sum(dims, keepdim=True) for value in values)
        return world_sums(*sums) if over_pixels else sums

    # The correlation does not change with the means, so no gradient need go through them.
    with torch.no_grad():
        mean_s, mean_t, count = total(student, teacher, torch.ones_like(student))
        count = count.clamp(min=1)
    student, teacher = student - mean_s / count, teacher - mean_t / count
    product, square_s, square_t = total(student * teacher, student**2, teacher**2)
    defined = (square_t / count > _CONSTANT).to(student.dtype)
    norm = (square_s.clamp(min=_CONSTANT) * square_t.clamp(min=_CONSTANT)).sqrt()
    loss = (1 - product / norm) * defined
    if over_pixels:
        return loss.sum() / defined.sum().clamp(min=1)
    return _mean((loss * valid).sum(), (defined * valid).sum())


# name -> function of (answers, **options).
DISTILLATION_LOSSES: dict[str, Callable[..., Tensor]] = {
    'kl': kl_of,
    'cwd': cwd_of,
    'dist': dist_of,
}


@checked_dataclass(frozen=True, config=STRICT)
class DistillationTerm(LossTerm):
    """One summand that compares probabilities.

    Attributes:
        name: A key of ``DISTILLATION_LOSSES``.
        weight: Its factor in the sum.
        options: Keyword arguments of the function, e.g. ``temperature: 4``.
    """

    functions: ClassVar[Mapping[str, Callable[..., Tensor]]] = DISTILLATION_LOSSES
