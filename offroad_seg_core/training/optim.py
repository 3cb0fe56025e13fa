"""The optimizer and how its learning rate changes."""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Any, Literal, cast

from pydantic import Field
from pydantic.dataclasses import dataclass
import torch
from torch import nn

from offroad_seg_core.config import STRICT


@dataclass(frozen=True, config=STRICT)
class OptimizerConfig:
    """Which optimizer, and how its learning rate goes up, down and differs between the parts.

    Attributes:
        max_steps: Optimizer steps of the whole training.
        kind: ``adamw`` (Loshchilov and Hutter, arXiv 1711.05101), ``adam`` (Kingma and Ba, arXiv
            1412.6980; weight decay is part of the gradient) or ``sgd`` with Nesterov momentum.
        learning_rate: Its peak, after the warm-up.
        encoder_factor: The encoder's learning rate against ``learning_rate``.
        classifier_factor: That of the layers that depend on the class set.
        layer_decay: Factor of the learning rate from each layer of the backbone to the one before
            it, from the head down to the stem; 1 is off.
        queries_as_stem: Let the queries of Mask2Former and what predicts from them learn as
            slowly as the stem, as FlashInternImage's published training does: its rule for
            embeddings of the backbone matches their names, too.
        freeze_encoder_steps: So long the encoder keeps its weights, without gradients, and its
            batch norms their statistics.
        weight_decay: Of matrices and kernels; norms and biases have none.
        momentum: Of sgd.
        warmup_steps: Steps of linear growth from 0 to the peak.
        schedule: ``poly`` is (1 - progress) ** power, ``cosine`` half a wave, ``constant`` stays.
        power: Of the polynomial.
        final_factor: Where the schedule ends, against the peak.
        max_grad_norm: Gradients are scaled down to this Euclidean norm; 0 is off.
        accumulate: Batches whose mean gradient makes one step; for large batches in little memory.
        ema_decay: Of the averaged weights, which are validated and exported.
    """

    max_steps: int = Field(ge=1)
    kind: Literal['adamw', 'adam', 'sgd'] = 'adamw'
    learning_rate: float = Field(default=2e-3, gt=0)
    encoder_factor: float = Field(default=1.0, gt=0)
    classifier_factor: float = Field(default=1.0, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    queries_as_stem: bool = False
    freeze_encoder_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    warmup_steps: int = Field(default=50, ge=0)
    schedule: Literal['poly', 'cosine', 'constant'] = 'poly'
    power: float = Field(default=0.9, gt=0)
    final_factor: float = Field(default=0.0, ge=0, le=1)
    max_grad_norm: float = Field(default=5.0, ge=0)
    accumulate: int = Field(default=1, ge=1)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)

    @property
    def treats_encoder_apart(self) -> bool:
        """Whether the model must say which part its encoder is."""
        return self.encoder_factor != 1 or self.freeze_encoder_steps > 0


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, fused: bool = True
) -> torch.optim.Optimizer:
    """Return the optimizer over the trainable weights, in groups.

    Each group has the key ``part``: encoder, classifier or body; parts whose learning rate is
    that of the body are not told apart. ``fused`` optimizers are faster, but gradients that a loss
    scaler has multiplied cannot be clipped before their step.

    Raises:
        ValueError: The encoder shall be treated apart, but the model has none, or its layers are
            not numbered.
    """
    if config.treats_encoder_apart and not hasattr(model, 'encoder'):
        raise ValueError(
            f'optimizer.encoder_factor or freeze_encoder_steps is set, but '
            f'{type(model).__name__} has no separate encoder; remove them'
        )
    groups: dict[tuple[str, bool, int], dict[str, Any]] = {}
    parts, heights = _parts(model, config), _layers_above(model, config)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, decays, height = parts(name), parameter.ndim > 1, heights.get(name, 0)
        factor = {'encoder': config.encoder_factor, 'classifier': config.classifier_factor}
        group = groups.setdefault(
            (part, decays, height),
            {
                'params': [],
                'part': part,
                'lr': config.learning_rate * factor.get(part, 1.0) * config.layer_decay**height,
                'weight_decay': config.weight_decay if decays else 0.0,
            },
        )
        group['params'].append(parameter)
    # With decay first, as a plain AdamW would be written down.
    ordered = [groups[key] for key in sorted(groups, key=lambda k: (k[0], not k[1], k[2]))]
    if config.kind == 'sgd':
        nesterov = config.momentum > 0
        return torch.optim.SGD(ordered, lr=1.0, momentum=config.momentum, nesterov=nesterov)
    if config.kind == 'adam':
        return torch.optim.Adam(ordered, lr=1.0, fused=fused)
    return torch.optim.AdamW(ordered, lr=1.0, fused=fused)


def _parts(model: nn.Module, config: OptimizerConfig) -> Callable[[str], str]:
    """Return what names the part of a weight."""
    encoder: set[str] = set()
    if config.treats_encoder_apart:
        own = {id(parameter) for parameter in model.encoder.parameters()}  # type: ignore[union-attr]
        encoder = {name for name, weight in model.named_parameters() if id(weight) in own}
    apart = config.classifier_factor != 1
    prefixes = tuple(cast(tuple[str, ...], model.classifiers)) if apart else ()

    def part(name: str) -> str:
        if name in encoder:
            return 'encoder'
        return 'classifier' if prefixes and name.startswith(prefixes) else 'body'

    return part


def _layers_above(model: Any, config: OptimizerConfig) -> dict[str, int]:
    """Return how many layers lie between a weight and the head; 0 for what is not named."""
    if config.layer_decay == 1:
        return {}
    backbone: Any = getattr(model, 'backbone', None)
    if not hasattr(backbone, 'layer_id'):
        raise ValueError(
            f'optimizer.layer_decay is {config.layer_decay}, but the layers of '
            f'{type(model).__name__} are not numbered; remove it'
        )
    head = backbone.num_layers + 1
    weights = backbone.named_parameters()
    own = {id(weight): head - backbone.layer_id(name) for name, weight in weights}
    prefixes = getattr(model, 'query_weights', ()) if config.queries_as_stem else ()
    return {
        name: head if prefixes and name.startswith(prefixes) else own.get(id(weight), 0)
        for name, weight in model.named_parameters()
    }


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the present learning rate of each part, its highest: layers near the head have it."""
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        part = group['part']
        rates[part] = max(group['lr'], rates.get(part, 0.0))
    return rates


def learning_rate_factor(step: int, config: OptimizerConfig, part: str = 'body') -> float:
    """Return what a part's peak learning rate is multiplied with at a step (from 0), in [0, 1]."""
    if part == 'encoder' and step < config.freeze_encoder_steps:
        return 0.0
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    decay_steps = max(1, config.max_steps - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / decay_steps)
    if config.schedule == 'constant':
        return 1.0
    if config.schedule == 'cosine':
        share = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        share = (1 - progress) ** config.power
    return config.final_factor + (1 - config.final_factor) * share
