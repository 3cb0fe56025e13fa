"""Sums over all processes that train together, so that a loss is that of their whole batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Return the number of processes that train together; 1 when none were connected."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def world_sums(*values: Tensor) -> tuple[Tensor, ...]:
    """Add each value up over all processes; the same values come back when there is only one.

    Every process must call this equally often, with equal shapes, and go on with the same
    function of the sums; a loss that is made so is equal in all of them. Where gradients are then
    averaged over the processes, as ``DistributedDataParallel`` does, they are those that one
    process would have on the whole batch.

    Args:
        values: Float tensors of any shape, of one dtype and on one device.
    """
    if world_size() == 1:
        return values
    total = _WorldSum.apply(torch.cat([value.reshape(-1) for value in values]))
    parts = total.split([value.numel() for value in values])
    return tuple(part.view(value.shape) for part, value in zip(parts, values, strict=True))


def world_mean(value: Tensor) -> Tensor:
    """Return the mean over all processes, for losses that are no function of sums over pixels."""
    if world_size() == 1:
        return value
    return world_sums(value)[0] / world_size()


class _WorldSum(torch.autograd.Function):
    """The sum over all processes. Its backward pass needs no communication."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Each process has the same loss and so the same gradient of the sum: theirs together is
        # one of them as often as there are processes. The average over processes undoes it.
        return gradients[0] * distributed.get_world_size()
