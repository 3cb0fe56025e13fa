"""The operators of FlashInternImage-L: what the benchmarks of DCNv4 run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from offroad_seg_core.models.dcnv4_gather import Sampling
from offroad_seg_core.models.flash_intern_image import CHANNELS_PER_GROUP, VARIANTS


class Stage(NamedTuple):
    """The operators of one stage; the network has as many as blocks."""

    stride: int
    channels: int
    num_blocks: int
    offset_scale: float

    @property
    def groups(self) -> int:
        """Return the groups of channels."""
        return self.channels // CHANNELS_PER_GROUP

    @property
    def sampling(self) -> Sampling:
        """Return where the taps lie."""
        return Sampling(self.groups, 1, 1, 1, self.offset_scale, False)

    def describe(self, image_size: tuple[int, int]) -> str:
        """Return height x width x channels of the operator's input."""
        return f'{image_size[0] // self.stride}x{image_size[1] // self.stride}x{self.channels}'


_L = VARIANTS['l']
STAGES = tuple(
    Stage(4 << index, _L.channels << index, depth, _L.offset_scale)
    for index, depth in enumerate(_L.depths)
)


def inputs(
    stage: Stage,
    image_size: tuple[int, int],
    device: str = 'cpu',
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return value, offset_mask and a gradient of the output; offsets are some pixels large."""
    generator = torch.Generator().manual_seed(0)
    height, width = (side // stage.stride for side in image_size)
    numbers = -(-stage.sampling.num_offsets // 8) * 8
    return tuple(  # type: ignore[return-value]
        torch.randn(1, height, width, count, generator=generator).to(device, dtype)
        for count in (stage.channels, numbers, stage.channels)
    )


def train_step(
    operator: Callable[[Tensor, Tensor], Tensor],
    value: Tensor,
    offset_mask: Tensor,
    gradient: Tensor,
) -> tuple[Tensor, ...]:
    """Return the gradients of value and offset_mask."""
    leaves = [tensor.detach().requires_grad_() for tensor in (value, offset_mask)]
    return torch.autograd.grad(operator(*leaves), leaves, gradient)
