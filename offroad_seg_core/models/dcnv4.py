"""DCNv4: deformable convolution without softmax, the operator of FlashInternImage.

Xiong et al., "Efficient Deformable ConvNets: Rethinking Dynamic and Sparse Operator for Vision
Applications", CVPR 2024. For output pixel q of group g, with taps n at p_n and raw weights w_n:

    output_g(q) = sum_n w_n(q) * bilinear(value_g, stride * q + scale * (p_n + offset_n(q)) + ...)

where the image is zero outside. One operator of PyTorch, three ways to compute it: Triton on
CUDA (``dcnv4_triton``), strips of gathered rows elsewhere (``dcnv4_gather``), and one
``GridSample`` in exported graphs. All agree with a definition in scalar loops in the tests.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from offroad_seg_core.models import dcnv4_gather
from offroad_seg_core.models.dcnv4_gather import Sampling

KERNEL_SIZE = 3


def dcnv4(
    value: Tensor,
    offset_mask: Tensor,
    groups: int,
    *,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    offset_scale: float = 1.0,
    remove_center: bool = False,
) -> Tensor:
    """Sample and add up the taps of a 3x3 deformable convolution.

    Coordinates are computed in float32 (float64 if the value is), whatever the inputs' type: in
    float16 they would be wrong by pixels on wide images.

    Args:
        value: ``(N, H, W, C)`` float, channels in ``groups`` equal parts.
        offset_mask: ``(N, H_out, W_out, S)`` float, S >= 3 * K * groups for K taps. For each group
            K pairs (dx, dy) in px, then K weights, any real numbers; what follows is ignored. Taps
            run along y first: n is column n // 3, row n % 3.
        groups: G.
        stride: Input pixels between two outputs.
        padding: As of a convolution.
        dilation: Distance of the taps.
        offset_scale: Multiplies the offsets and the taps' distances.
        remove_center: K is 8 instead of 9, the middle tap is left out.

    Returns:
        ``(N, H_out, W_out, C)`` in the value's type, ``H_out`` as of a 3x3 convolution.

    Raises:
        ValueError: Sizes do not fit each other.
    """
    sampling = Sampling(groups, stride, padding, dilation, float(offset_scale), remove_center)
    if torch.compiler.is_exporting():  # sizes are symbols there, and only known operators may be
        return _grid_sample(value, offset_mask, sampling)
    _check(value, offset_mask, sampling)
    return _forward(
        value, offset_mask, groups, stride, padding, dilation, sampling.offset_scale, remove_center
    )


def _check(value: Tensor, offset_mask: Tensor, sampling: Sampling) -> None:
    batch, height, width, channels = value.shape
    if sampling.groups < 1 or channels % sampling.groups:
        raise ValueError(
            f'got {channels} channels in {sampling.groups} groups, expected a multiple; '
            'FlashInternImage has 16 channels a group'
        )
    out_height, out_width = sampling.output_size(height, width)
    if min(out_height, out_width) < 1:
        raise ValueError(
            f'got an input of {height}x{width} px, which is smaller than one step of dilation '
            f'{sampling.dilation} and stride {sampling.stride} with padding {sampling.padding}; '
            'give a larger image'
        )
    expected = (batch, out_height, out_width)
    if offset_mask.shape[:3] != expected or offset_mask.shape[3] < sampling.num_offsets:
        raise ValueError(
            f'got offset_mask {tuple(offset_mask.shape)}, expected {expected} and '
            f'{sampling.num_offsets} numbers or more: 3 for each of {sampling.num_taps} taps of '
            f'{sampling.groups} groups'
        )


@torch.library.custom_op('offroad_seg::dcnv4', mutates_args=())
def _forward(
    value: Tensor,
    offset_mask: Tensor,
    groups: int,
    stride: int,
    padding: int,
    dilation: int,
    offset_scale: float,
    remove_center: bool,
) -> Tensor:
    sampling = Sampling(groups, stride, padding, dilation, offset_scale, remove_center)
    with torch.autocast(value.device.type, enabled=False):
        return _implementation(value).forward(value, offset_mask, sampling)


@torch.library.custom_op('offroad_seg::dcnv4_backward', mutates_args=())
def _backward(
    grad_output: Tensor,
    value: Tensor,
    offset_mask: Tensor,
    groups: int,
    stride: int,
    padding: int,
    dilation: int,
    offset_scale: float,
    remove_center: bool,
) -> tuple[Tensor, Tensor]:
    sampling = Sampling(groups, stride, padding, dilation, offset_scale, remove_center)
    with torch.autocast(value.device.type, enabled=False):
        return _implementation(value).backward(grad_output, value, offset_mask, sampling)


def _implementation(value: Tensor) -> Any:
    """Return the module that computes on the value's device: Triton where there is one."""
    if value.is_cuda and value.dtype != torch.float64:
        try:
            return import_module('offroad_seg_core.models.dcnv4_triton')
        except ImportError:  # some builds of PyTorch for CUDA come without Triton
            return dcnv4_gather
    return dcnv4_gather


@_forward.register_fake
def _(value: Tensor, offset_mask: Tensor, *settings: Any) -> Tensor:
    return value.new_empty(*offset_mask.shape[:3], value.shape[3])


@_backward.register_fake
def _(
    grad_output: Tensor, value: Tensor, offset_mask: Tensor, *settings: Any
) -> tuple[Tensor, Tensor]:
    like = torch.contiguous_format
    return torch.empty_like(value, memory_format=like), torch.empty_like(
        offset_mask, memory_format=like
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, offset_mask, *ctx.settings = inputs
    ctx.save_for_backward(value, offset_mask)


def _differentiate(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _backward(grad_output, *ctx.saved_tensors, *ctx.settings)
    return *gradients, *[None for _ in ctx.settings]


_forward.register_autograd(_differentiate, setup_context=_save)


def _grid_sample(value: Tensor, offset_mask: Tensor, sampling: Sampling) -> Tensor:
    """Compute ``dcnv4`` with one ``grid_sample`` of all taps: what ONNX and its engines know."""
    batch, height, width, channels = value.shape
    out_height, out_width = offset_mask.shape[1:3]
    groups, num_taps, depth = sampling.groups, sampling.num_taps, channels // sampling.groups
    device, exact = value.device, torch.float32
    numbers = offset_mask[..., : sampling.num_offsets].to(exact)
    numbers = numbers.reshape(batch, out_height, out_width, groups, 3 * num_taps)
    numbers = numbers.permute(0, 3, 1, 2, 4).reshape(-1, out_height, out_width, 3 * num_taps)
    pairs = numbers[..., : 2 * num_taps].unflatten(3, (num_taps, 2)) * sampling.offset_scale
    tap_x, tap_y = sampling.taps(device, exact)
    columns = torch.arange(out_width, device=device, dtype=exact) * sampling.stride
    rows = torch.arange(out_height, device=device, dtype=exact) * sampling.stride
    x = pairs[..., 0] + (columns.view(-1, 1) + tap_x)
    y = pairs[..., 1] + (rows.view(-1, 1, 1) + tap_y)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], 4)
    planes = value.to(exact).reshape(batch, height, width, groups, depth).permute(0, 3, 4, 1, 2)
    samples = functional.grid_sample(
        planes.reshape(batch * groups, depth, height, width),
        grid.reshape(batch * groups, out_height, out_width * num_taps, 2),
        mode='bilinear',
        padding_mode='zeros',
        align_corners=False,
    )
    samples = samples.reshape(batch * groups, depth, out_height, out_width, num_taps)
    sums = (samples * numbers[..., 2 * num_taps :].unsqueeze(1)).sum(4)
    output = sums.reshape(batch, groups, depth, out_height, out_width).permute(0, 3, 4, 1, 2)
    return output.reshape(batch, out_height, out_width, channels).to(value.dtype)


class DCNv4(nn.Module):
    """The operator between its projections, as in FlashInternImage; weights named as there.

    At first all tap weights are 0, and so is the output before its projection.

    Args:
        channels: C, of input and output.
        groups: Groups of channels; they divide C.
        kernel_size: 3; the operator has no other.
        offset_scale: See ``dcnv4``.
        dw_kernel_size: Side of a depthwise convolution before the offsets; None for none.
        output_bias: Whether the last projection has a bias.

    Raises:
        ValueError: Another kernel size, or groups that do not divide C.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        *,
        kernel_size: int = KERNEL_SIZE,
        offset_scale: float = 1.0,
        dw_kernel_size: int | None = None,
        output_bias: bool = True,
    ) -> None:
        super().__init__()
        if kernel_size != KERNEL_SIZE:
            raise ValueError(f'kernel_size is {kernel_size}, expected 3: DCNv4 has 3x3 taps')
        if groups < 1 or channels % groups:
            raise ValueError(f'got {channels} channels in {groups} groups, expected a multiple')
        self.groups = groups
        self.offset_scale = offset_scale
        num_offsets = 3 * KERNEL_SIZE**2 * groups
        self.offset_mask_dw = (
            nn.Conv2d(
                channels, channels, dw_kernel_size, padding=dw_kernel_size // 2, groups=channels
            )
            if dw_kernel_size
            else None
        )
        # Published weights are padded to a multiple of 8.
        self.offset_mask = nn.Linear(channels, -(-num_offsets // 8) * 8)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels, bias=output_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the first weights: no offsets, no tap weights, Xavier projections."""
        nn.init.zeros_(self.offset_mask.weight)
        nn.init.zeros_(self.offset_mask.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, H, W, C)`` to ``(N, H, W, C)``."""
        source = x
        if self.offset_mask_dw is not None:
            source = self.offset_mask_dw(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        sums = dcnv4(
            self.value_proj(x),
            self.offset_mask(source),
            self.groups,
            offset_scale=self.offset_scale,
        )
        return self.output_proj(sums)
