"""Averaged weights: smoother than the last step's, and better on unseen places."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the average a little towards the model, in place.

    ``average = d * average + (1 - d) * model`` with ``d = min(decay, (1 + step) / (10 + step))``,
    so that the random first weights are forgotten quickly. Running statistics of norms are
    averaged like weights; whole numbers are copied.

    Args:
        average: Same architecture as ``model``.
        model: The model being trained.
        decay: In [0, 1).
        step: Steps taken so far.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    targets: list[Tensor] = []
    sources: list[Tensor] = []
    source_state = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            targets.append(value)
            sources.append(source_state[name])
        else:
            value.copy_(source_state[name])
    torch._foreach_lerp_(targets, sources, weight)
