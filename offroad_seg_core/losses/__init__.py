"""Every loss by name, and the weighted sum that training minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import inspect
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
import torch
from torch import Tensor, nn

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.analysis.class_weights import SCHEMES
from offroad_seg_core.losses.focused import (
    boundary_cross_entropy_of,
    focal_of,
    logit_adjusted_cross_entropy_of,
    lovasz_of,
)
from offroad_seg_core.losses.functional import (
    Scores,
    cross_entropy_of,
    dice_of,
    ohem_cross_entropy_of,
)
from offroad_seg_core.losses.mask_set import Queries, mask_set_of
from offroad_seg_core.models.contract import QueryPredictions

# name -> function of (scores, **options), or of (queries, **options) for networks that predict
# masks; see functional.py, focused.py and mask_set.py for the maths.
LOSSES: dict[str, Callable[..., Tensor]] = {
    'cross_entropy': cross_entropy_of,
    'dice': dice_of,
    'ohem_cross_entropy': ohem_cross_entropy_of,
    'focal': focal_of,
    'boundary_cross_entropy': boundary_cross_entropy_of,
    'lovasz': lovasz_of,
    'logit_adjusted_cross_entropy': logit_adjusted_cross_entropy_of,
    'mask_set': mask_set_of,
}
# Parameters that do not come from a term's options.
_BALANCE = {'class_weights', 'class_shares'}
_GIVEN = {'scores', 'queries', 'answers'} | _BALANCE


@dataclass(frozen=True, config=STRICT)
class LossTerm:
    """One summand.

    Attributes:
        name: A key of ``LOSSES``.
        weight: Its factor in the sum.
        options: Keyword arguments of the function, e.g. ``label_smoothing: 0.1``. Class weights
            are not given here but by ``LossConfig.class_weights``.
    """

    functions: ClassVar[Mapping[str, Callable[..., Tensor]]] = LOSSES

    name: str
    weight: float = Field(default=1.0, gt=0)
    options: dict[str, float] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the name and the options against the function's signature."""
        if self.name not in self.functions:
            raise ValueError(
                f'no loss is named {self.name!r}; expected one of {", ".join(self.functions)}'
            )
        known = set(inspect.signature(self.functions[self.name]).parameters) - _GIVEN
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
        class_weights: One factor a class; empty for none; or a scheme that computes them from
            the training set: enet, inverse, inverse_sqrt, median_frequency, effective_number
            (see datasets/analysis/class_weights.py).
        max_class_weight: Bound of the computed class weights, whose mean is 1.
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
        if isinstance(self.class_weights, str) and self.class_weights not in SCHEMES:
            raise ValueError(
                f'class_weights is {self.class_weights!r}, expected a list of one factor a class '
                f'or one of {", ".join(SCHEMES)}'
            )

    @property
    def needs_class_shares(self) -> bool:
        """Whether a term wants the shares of the classes in the training set."""
        functions = (LOSSES[term.name] for term in self.terms)
        return any('class_shares' in inspect.signature(f).parameters for f in functions)


class SegmentationLoss(nn.Module):
    """The weighted sum of losses, on logits of the target's size or on predicted masks.

    Args:
        config: The terms and their weights.
        class_weights: ``(C,)`` float, used by every term that knows class weights; None for none.
        class_shares: ``(C,)`` float, share of each class among the labelled training pixels; for
            terms that know it.

    Raises:
        ValueError: A term needs class shares and there are none.
    """

    class_weights: Tensor | None
    class_shares: Tensor | None

    def __init__(
        self,
        config: LossConfig,
        class_weights: Tensor | None = None,
        class_shares: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer('class_weights', class_weights, persistent=False)
        self.register_buffer('class_shares', class_shares, persistent=False)
        if class_shares is None and config.needs_class_shares:
            raise ValueError('a loss term needs class_shares, got None; count the training set')

    def forward(self, output: Tensor | QueryPredictions, target: Tensor) -> dict[str, Tensor]:
        """Return every term by name (unweighted) and their weighted sum as ``'total'``.

        Args:
            output: Unnormalised scores, ``(N, C, H, W)`` float, or what queries predict.
            target: Class ids or 255, ``(N, H, W)`` int64.

        Raises:
            ValueError: A term is for networks with the other kind of output.
        """
        given: dict[str, Any] = {name: getattr(self, name) for name in _BALANCE}
        if isinstance(output, QueryPredictions):
            given['queries'] = Queries(output, target)
        else:
            given['scores'] = Scores.of(output, target)
        terms = {term.name: _evaluate(term, given) for term in self.config.terms}
        weighted = [term.weight * terms[term.name] for term in self.config.terms]
        return {**terms, 'total': torch.stack(weighted).sum()}


def _evaluate(term: LossTerm, given: dict[str, Any]) -> Tensor:
    function = LOSSES[term.name]
    wanted = _GIVEN & inspect.signature(function).parameters.keys()
    if not wanted <= given.keys():
        fitting = [name for name, other in LOSSES.items() if _subject(other) in given]
        raise ValueError(
            f'loss {term.name!r} is not for this network, which predicts '
            f'{"masks of queries" if "queries" in given else "logits of pixels"}; expected '
            f'{" or ".join(fitting)} in loss.terms'
        )
    return function(**{name: given[name] for name in wanted}, **term.options)


def _subject(function: Callable[..., Tensor]) -> str:
    """Return ``scores`` or ``queries``, whichever a loss is of."""
    return next(iter(inspect.signature(function).parameters))
