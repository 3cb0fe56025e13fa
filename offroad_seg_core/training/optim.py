"""The optimizer and how its learning rate changes."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
import torch
from torch import nn

from offroad_seg_core.config import STRICT


@dataclass(frozen=True, config=STRICT)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with warm-up and decay to zero.

    Attributes:
        max_steps: Optimizer steps of the whole training.
        learning_rate: Its peak, after the warm-up.
        weight_decay: Of matrices and kernels; norms and biases have none.
        warmup_steps: Steps of linear growth from 0 to the peak.
        schedule: ``poly`` is (1 - progress) ** power, ``cosine`` half a wave.
        power: Of the polynomial.
        max_grad_norm: Gradients are scaled down to this Euclidean norm; 0 is off.
        ema_decay: Of the averaged weights, which are validated and exported.
    """

    max_steps: int = Field(ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: int = Field(default=50, ge=0)
    schedule: Literal['poly', 'cosine'] = 'poly'
    power: float = Field(default=0.9, gt=0)
    max_grad_norm: float = Field(default=5.0, ge=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return AdamW over the trainable weights, in two groups: with and without decay."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            'params': [parameter for parameter in trainable if parameter.ndim > 1],
            'weight_decay': config.weight_decay,
        },
        {
            'params': [parameter for parameter in trainable if parameter.ndim <= 1],
            'weight_decay': 0.0,
        },
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate_factor(step: int, config: OptimizerConfig) -> float:
    """Return what the peak learning rate is multiplied with at a step (from 0), in [0, 1]."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    decay_steps = max(1, config.max_steps - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / decay_steps)
    if config.schedule == 'cosine':
        return 0.5 * (1 + math.cos(math.pi * progress))
    return (1 - progress) ** config.power
