"""DCNv4's sampling in PyTorch, on any device, in little memory.

An output pixel of a group is a weighted sum of 36 rows of D channels: 9 taps with 4 bilinear
corners each. ``embedding_bag`` computes exactly that, in one pass and without the nine sampled
copies of the feature map that ``grid_sample`` leaves. It runs over strips of rows, so that
coordinates and weights of one strip exist at a time; the backward pass computes them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import warnings

import torch
from torch import Tensor
from torch.nn import functional

# Corners of a strip. On a processor they stay near its cache; a GPU wants few and large calls.
_STRIP_CORNERS = {'cpu': 1 << 18}
_STRIP_CORNERS_ELSEWHERE = 1 << 22
_BORDER = 2  # px of zeros around the value: all corners of a sample that is outside lie there


@dataclass(frozen=True)
class Sampling:
    """Where the taps lie, see ``dcnv4``.

    Attributes:
        groups: Groups of channels, each with taps of its own.
        stride: Input pixels between two output pixels.
        padding: As of a convolution.
        dilation: Distance of the taps before ``offset_scale``.
        offset_scale: Factor of the taps' distances and of the learned offsets.
        remove_center: Leave out the middle tap.
    """

    groups: int
    stride: int
    padding: int
    dilation: int
    offset_scale: float
    remove_center: bool

    @property
    def num_taps(self) -> int:
        """Return 9, or 8 without the middle one."""
        return 8 if self.remove_center else 9

    @property
    def num_offsets(self) -> int:
        """Return how many numbers of ``offset_mask`` a pixel uses."""
        return 3 * self.num_taps * self.groups

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) of the output for that of the value."""
        margin = 2 * self.padding - 2 * self.dilation - 1
        return (height + margin) // self.stride + 1, (width + margin) // self.stride + 1

    def taps(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return x and y of the taps from ``stride * output pixel``, ``(K,)`` each, in px.

        x is the outer index; the scale moves taps away from the middle one.
        """
        index = torch.arange(self.num_taps, device=device)
        if self.remove_center:
            index = index + (index >= 4)
        middle, reach = self.dilation - self.padding, self.dilation * self.offset_scale
        column, row = index // 3 - 1, index % 3 - 1
        return column.to(dtype) * reach + middle, row.to(dtype) * reach + middle


@dataclass(frozen=True)
class _Strip:
    """The samples of some output rows; B is their pixels times groups, K the taps.

    Attributes:
        rows: Which of the ``N * H_out`` output rows.
        index: Table row of each corner, ``(B, 4 * K)`` int: upper left ones, upper right, lower
            left, lower right.
        coefficient: Tap weight times bilinear weight, like ``index``.
        weight: Tap weights, ``(B, K)``.
        right: Share of the right corners, ``(B, K)`` in [0, 1).
        lower: Share of the lower corners.
    """

    rows: slice
    index: Tensor
    coefficient: Tensor
    weight: Tensor
    right: Tensor
    lower: Tensor


def forward(value: Tensor, offset_mask: Tensor, sampling: Sampling) -> Tensor:
    """Return the output ``(N, H_out, W_out, C)`` of ``dcnv4``, in the value's type."""
    table = _table(value, sampling.groups)
    output = value.new_empty(*offset_mask.shape[:3], value.shape[3])
    output_rows = output.flatten(0, 1)
    for strip in _strips(value, offset_mask, table.dtype, sampling):
        sums = functional.embedding_bag(
            strip.index, table, mode='sum', per_sample_weights=strip.coefficient
        )
        output_rows[strip.rows] = sums.view(-1, *output_rows.shape[1:])
    return output


def backward(
    grad_output: Tensor, value: Tensor, offset_mask: Tensor, sampling: Sampling
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the value and of ``offset_mask``, in their types."""
    table = _table(value, sampling.groups)
    grad_table = torch.zeros_like(table)
    grad_offset_mask = torch.zeros_like(offset_mask, memory_format=torch.contiguous_format)
    offset_rows = grad_offset_mask.flatten(0, 1)[..., : sampling.num_offsets]
    grad_rows = grad_output.flatten(0, 1)
    for strip in _strips(value, offset_mask, table.dtype, sampling):
        grad = grad_rows[strip.rows].to(table.dtype).reshape(-1, table.shape[1])
        parts = (tensor.chunk(4) for tensor in (strip.index, strip.coefficient, grad))
        for index, coefficient, gradient in zip(*parts, strict=True):
            products = coefficient.unsqueeze(2) * gradient.unsqueeze(1)
            grad_table.index_put_((index,), products, accumulate=True)
        grad_taps = _grad_taps(_dot_products(grad, table, strip.index), strip, sampling)
        offset_rows[strip.rows] = grad_taps.view(-1, *offset_rows.shape[1:]).to(offset_mask.dtype)
    height, width = (side + 2 * _BORDER for side in value.shape[1:3])
    inner = slice(_BORDER, -_BORDER)
    grad_value = grad_table.view(-1, height, width, value.shape[3])[:, inner, inner]
    return grad_value.to(value.dtype).contiguous(), grad_offset_mask


def _table(value: Tensor, groups: int) -> Tensor:
    """Return the value inside its border, a row for each pixel and group, in 32 bits or more."""
    exact = value if value.dtype == torch.float64 else value.float()
    return functional.pad(exact, (0, 0, *(_BORDER,) * 4)).view(-1, value.shape[3] // groups)


def _strips(
    value: Tensor, offset_mask: Tensor, dtype: torch.dtype, sampling: Sampling
) -> Iterator[_Strip]:
    """Yield the samples of all output rows."""
    batch, height, width, _ = value.shape
    out_height, out_width = offset_mask.shape[1:3]
    groups, num_taps, scale = sampling.groups, sampling.num_taps, sampling.offset_scale
    rows_across, pixels_across = height + 2 * _BORDER, width + 2 * _BORDER
    kind = torch.int32 if batch * rows_across * pixels_across * groups < 2**31 else torch.int64
    group = torch.arange(groups, device=value.device, dtype=kind).view(-1, 1)
    tap_x, tap_y = sampling.taps(value.device, dtype)
    columns = torch.arange(out_width, device=value.device, dtype=dtype).view(-1, 1, 1)
    columns = columns * sampling.stride + tap_x
    numbers = offset_mask.flatten(0, 1)[..., : sampling.num_offsets]
    corners = _STRIP_CORNERS.get(value.device.type, _STRIP_CORNERS_ELSEWHERE)
    step = max(1, corners // (out_width * groups * 4 * num_taps))
    for start in range(0, len(numbers), step):
        rows = slice(start, min(start + step, len(numbers)))
        row = torch.arange(rows.start, rows.stop, device=value.device).view(-1, 1, 1, 1)
        part = numbers[rows].unflatten(2, (groups, -1)).to(dtype)
        x = part[..., 0 : 2 * num_taps : 2] * scale + columns
        y = part[..., 1 : 2 * num_taps : 2] * scale + (row % out_height * sampling.stride + tap_y)
        x, y = x.clamp_(-_BORDER, width), y.clamp_(-_BORDER, height)
        left, top = x.floor(), y.floor()
        # Clamped again, because NaN may become any integer.
        first_row = (row // out_height * rows_across + _BORDER).to(kind)
        index = top.to(kind).clamp_(-_BORDER, height).add_(first_row).mul_(pixels_across)
        index.add_(left.to(kind).clamp_(-_BORDER, width)).add_(_BORDER).mul_(groups).add_(group)
        steps = (groups, pixels_across * groups)
        yield _strip(rows, index, steps, part[..., 2 * num_taps :], (x - left, y - top))


def _strip(
    rows: slice,
    index: Tensor,
    steps: tuple[int, int],
    weight: Tensor,
    shares: tuple[Tensor, Tensor],
) -> _Strip:
    """Return a strip from its upper left corners.

    Args:
        rows: See ``_Strip``.
        index: Table rows of the upper left corners, ``(R, W, G, K)``.
        steps: Table rows to the right and to the lower corners.
        weight: Like ``index``, and so are the shares.
        shares: Of the right and of the lower corners.
    """
    (beside, below), (right, lower) = steps, shares
    at_bottom = weight * lower
    at_top = weight - at_bottom
    top_right, bottom_right = at_top * right, at_bottom * right
    corners = (at_top - top_right, top_right, at_bottom - bottom_right, bottom_right)
    places = (index, index + beside, index + below, index + (below + beside))
    count = 4 * weight.shape[3]
    return _Strip(
        rows,
        torch.stack(places, 3).view(-1, count),
        torch.stack(corners, 3).view(-1, count),
        *(tensor.flatten(0, 2) for tensor in (weight, right, lower)),
    )


def _dot_products(grad: Tensor, table: Tensor, index: Tensor) -> Tensor:
    """Return the product of each output's gradient with the corners it read, ``(B, 4, K)``."""
    count = index.shape[1]
    ends = torch.arange(0, index.numel() + 1, count, device=index.device, dtype=index.dtype)
    wanted = torch.ones(index.numel(), device=index.device, dtype=grad.dtype)
    with warnings.catch_warnings():  # CSR is in beta, says the first one of every process
        warnings.filterwarnings('ignore', message='Sparse')
        corners = torch.sparse_csr_tensor(ends, index.flatten(), wanted, (len(index), len(table)))
        products = torch.sparse.sampled_addmm(corners, grad, table.t(), beta=0.0)
    return products.values().view(-1, 4, count // 4)


def _grad_taps(products: Tensor, strip: _Strip, sampling: Sampling) -> Tensor:
    """Return the gradients of offsets and weights in their order, ``(B, 3 * K)``."""
    top_left, top_right, bottom_left, bottom_right = products.unbind(1)
    across_top, across_bottom = top_right - top_left, bottom_right - bottom_left
    top = top_left + strip.right * across_top
    down = bottom_left + strip.right * across_bottom - top
    across = across_top + strip.lower * (across_bottom - across_top)
    scaled = strip.weight * sampling.offset_scale
    offsets = torch.stack([scaled * across, scaled * down], 2).flatten(1)
    return torch.cat([offsets, top + strip.lower * down], 1)
