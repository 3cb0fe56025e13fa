"""Every loss by name, and the weighted sum that training minimises."""

from __future__ import annotations

from collections.abc import Callable
import inspect
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass
import torch
from torch import Tensor, nn

from offroad_seg_core.config import STRICT
from offroad_seg_core.losses.functional import (
    Scores,
    cross_entropy_of,
    dice_of,
    ohem_cross_entropy_of,
)

# name -> function of (scores, **options); see losses/functional.py for the maths.
LOSSES: dict[str, Callable[..., Tensor]] = {
    'cross_entropy': cross_entropy_of,
    'dice': dice_of,
    'ohem_cross_entropy': ohem_cross_entropy_of,
}


@dataclass(frozen=True, config=STRICT)
class LossTerm:
    """One summand.

    Attributes:
        name: A key of ``LOSSES``.
        weight: Its factor in the sum.
        options: Keyword arguments of the function, e.g. ``label_smoothing: 0.1``. Class weights
            are not given here but by ``LossConfig.class_weights``.
    """

    name: str
    weight: float = Field(default=1.0, gt=0)
    options: dict[str, float] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the name and the options against the function's signature."""
        if self.name not in LOSSES:
            raise ValueError(
                f'no loss is named {self.name!r}; expected one of {", ".join(LOSSES)}'
            )
        known = set(inspect.signature(LOSSES[self.name]).parameters) - {'scores', 'class_weights'}
        unknown = sorted(set(self.options) - known)
        if unknown:
            raise ValueError(
                f'loss {self.name!r} has no option {", ".join(unknown)}; known: {sorted(known)}'
            )


@dataclass(frozen=True, config=STRICT)
class LossConfig:
    """What is minimised.

    Attributes:
        terms: The summands, each loss once: its name is the name of its value.
        auxiliary_weight: Factor of the same sum on the auxiliary head's logits (0.4 in DDRNet).
        class_weights: One factor a class; empty for none; ``'inverse_sqrt'`` for
            1 / sqrt(share of the class in the training set), mean 1, at most ``max_class_weight``.
        max_class_weight: Bound of the computed class weights.
    """

    terms: tuple[LossTerm, ...] = (LossTerm('cross_entropy'),)
    auxiliary_weight: float = Field(default=0.4, ge=0)
    class_weights: tuple[float, ...] | str = ()
    max_class_weight: float = Field(default=4.0, ge=1)

    def __post_init__(self) -> None:
        """Check the terms and the rule for class weights."""
        if not self.terms:
            raise ValueError('terms is empty, expected one loss or more')
        names = [term.name for term in self.terms]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f'terms has {", ".join(repeated)} more than once, expected every loss once; '
                'add their weights up in one term'
            )
        if isinstance(self.class_weights, str) and self.class_weights != 'inverse_sqrt':
            raise ValueError(
                f'class_weights is {self.class_weights!r}, expected a list or inverse_sqrt'
            )


class SegmentationLoss(nn.Module):
    """The weighted sum of losses, on logits of the target's size.

    Args:
        config: The terms and their weights.
        class_weights: ``(C,)`` float, used by every term that knows class weights; None for none.
    """

    class_weights: Tensor | None

    def __init__(self, config: LossConfig, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.register_buffer('class_weights', class_weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return every term by name (unweighted) and their weighted sum as ``'total'``.

        Args:
            logits: Unnormalised scores, ``(N, C, H, W)`` float.
            target: Class ids or 255, ``(N, H, W)`` int64.
        """
        scores = Scores.of(logits, target)
        terms = {term.name: self._evaluate(term, scores) for term in self.config.terms}
        weighted = [term.weight * terms[term.name] for term in self.config.terms]
        return {**terms, 'total': torch.stack(weighted).sum()}

    def _evaluate(self, term: LossTerm, scores: Scores) -> Tensor:
        function = LOSSES[term.name]
        options: dict[str, Any] = dict(term.options)
        if 'class_weights' in inspect.signature(function).parameters:
            options['class_weights'] = self.class_weights
        return function(scores, **options)


def inverse_sqrt_weights(pixel_counts: Tensor, maximum: float = 4.0) -> Tensor:
    """Return class weights that grow with the rarity of a class, dampened by the square root.

    Args:
        pixel_counts: Pixels of each class in the training set, ``(C,)``.
        maximum: Largest weight, after scaling the present classes to mean 1.

    Returns:
        ``(C,)`` float32; 1 for classes that are absent.
    """
    counts = pixel_counts.double()
    present = counts > 0
    weights = torch.ones_like(counts)
    if present.any():
        raw = (counts[present] / counts.sum()).rsqrt()
        weights[present] = (raw / raw.mean()).clamp(max=maximum)
    return weights.float()
