"""Parameters and arithmetic of a network, part by part, without computing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from offroad_seg_core.models.dcnv4_gather import Sampling

_PER_SAMPLE = 2 * 4  # a bilinear sample of a channel multiplies and adds up four corners


@dataclass(frozen=True)
class PartCost:
    """What a part of a network costs.

    Attributes:
        name: Of the part in the network.
        parameters: Number of its weights.
        flops: Floating-point operations of a forward pass of one image; a multiplication and an
            addition are two.
    """

    name: str
    parameters: int
    flops: int


def count_costs(model: nn.Module, size: tuple[int, int]) -> list[PartCost]:
    """Count parameters and FLOPs of a network's parts, in evaluation.

    Counted are products of matrices, convolutions, attention and deformable sampling; not counted
    are norms, activations, resizing and whatever else is linear in the pixels, as PyTorch's
    ``FlopCounterMode`` draws the line. Only shapes are propagated, so that large images take no
    longer than small ones.

    Args:
        model: On the CPU; it is set to ``eval``.
        size: (height, width) of the image.

    Returns:
        One entry for each named child, in order; ``other`` is what the network computes itself.

    Raises:
        ValueError: The size does not fit the network.
    """
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.offroad_seg.dcnv4: _dcnv4_flops,
            torch.ops.aten.grid_sampler_2d: _grid_sampler_flops,
        },
    )
    model.eval()
    # The fused attention of the CPU is no product of matrices to the counter.
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FakeTensorMode(allow_non_fake_inputs=True),
        counter,
    ):
        model(torch.empty(1, 3, *size))
    counts = {name: sum(by_kind.values()) for name, by_kind in counter.get_flop_counts().items()}
    parts = [
        PartCost(
            name,
            sum(parameter.numel() for parameter in part.parameters()),
            _flops_under(f'{type(model).__name__}.{name}', counts),
        )
        for name, part in model.named_children()
    ]
    other = counter.get_total_flops() - sum(part.flops for part in parts)
    return [*parts, PartCost('other', 0, other)] if other else parts


def _flops_under(name: str, counts: Mapping[str, int]) -> int:
    """Return the FLOPs of a module, also where it is not called but only its children are."""
    if name in counts:
        return counts[name]
    below = [other for other in counts if other.startswith(f'{name}.')]
    highest = [n for n in below if not any(n.startswith(f'{other}.') for other in below)]
    return sum(counts[other] for other in highest)


def _dcnv4_flops(
    value_shape: Any, offset_mask_shape: Any, *settings: Any, out_shape: Any = None
) -> int:
    """Count the corners of all taps; a group's channels share their coefficients."""
    return _PER_SAMPLE * Sampling(*settings).num_taps * torch.Size(out_shape).numel()


def _grid_sampler_flops(*arguments: Any, out_shape: Any = None) -> int:
    """Count what Mask2Former's deformable attention samples."""
    return _PER_SAMPLE * torch.Size(out_shape).numel()
