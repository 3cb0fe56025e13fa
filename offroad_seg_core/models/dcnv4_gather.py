"""DCNv4's sampling in PyTorch, on any device, in little memory.

An output pixel of a group is a weighted sum of 36 rows of D channels: 9 taps with 4 bilinear
corners each. ``embedding_bag`` computes exactly that, in one pass and without the nine sampled
copies of the feature map that ``grid_sample`` leaves. It runs over strips of rows, so that
coordinates and weights of one strip exist at a time. The backward pass does use ``grid_sample``,
whose gradient adds to the value faster than any scatter of rows, on some groups and rows at a
time: it samples the taps again, and a few MiB of them exist at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Corners of a strip forward, sampled numbers of one backward. On a processor they stay near its
# cache; a GPU wants few and large calls.
_STRIP_CORNERS = {'cpu': 1 << 17}
_STRIP_CORNERS_ELSEWHERE = 1 << 22
_STRIP_SAMPLES = {'cpu': 1 << 20}
_STRIP_SAMPLES_ELSEWHERE = 1 << 26
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
    """

    rows: slice
    index: Tensor
    coefficient: Tensor


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
    exact = _exact(value)
    groups, depth = sampling.groups, value.shape[3] // sampling.groups
    grad_value = torch.empty_like(value, memory_format=torch.contiguous_format)
    grad_offset_mask = torch.zeros_like(offset_mask, memory_format=torch.contiguous_format)
    values, grad_values, grads = (
        tensor.unflatten(3, (groups, depth)) for tensor in (value, grad_value, grad_output)
    )
    numbers, grad_numbers = (
        tensor[..., : sampling.num_offsets].unflatten(3, (groups, -1))
        for tensor in (offset_mask, grad_offset_mask)
    )
    out_height, out_width = offset_mask.shape[1:3]
    num_parallel, num_rows = _backward_strip(value, out_height, out_width, sampling)
    for image in range(len(value)):
        for first in range(0, groups, num_parallel):
            part = slice(first, first + num_parallel)
            planes = values[image, :, :, part].permute(2, 3, 0, 1).to(exact).contiguous()
            grad_planes = torch.zeros_like(planes)
            for top in range(0, out_height, num_rows):
                place = image, slice(top, top + num_rows), slice(None), part
                grad_planes += _backward_of_strip(
                    planes, top, numbers[place], grads[place], grad_numbers[place], sampling
                )
            grad_values[image, :, :, part] = grad_planes.permute(2, 3, 0, 1)
    return grad_value, grad_offset_mask


def _exact(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _backward_strip(
    value: Tensor, out_height: int, out_width: int, sampling: Sampling
) -> tuple[int, int]:
    """Return how many groups and output rows one step of the backward pass takes."""
    budget = _STRIP_SAMPLES.get(value.device.type, _STRIP_SAMPLES_ELSEWHERE)
    row = out_width * sampling.num_taps * value.shape[3] // sampling.groups
    # ``grid_sample`` gives each thread groups of its own.
    num_parallel = max(budget // (out_height * row), torch.get_num_threads())
    num_parallel = min(num_parallel, sampling.groups)
    return num_parallel, max(1, budget // (num_parallel * row))


def _backward_of_strip(
    planes: Tensor,
    top: int,
    numbers: Tensor,
    grads: Tensor,
    grad_numbers: Tensor,
    sampling: Sampling,
) -> Tensor:
    """Return what some output rows add to the gradient of S groups, ``(S, D, H, W)``.

    Args:
        planes: Value of the groups, ``(S, D, H, W)``.
        top: First of the rows.
        numbers: Offsets and weights, ``(R, W_out, S, 3 * K)``.
        grads: Gradient of the output, ``(R, W_out, S, D)``.
        grad_numbers: Written: the gradient of ``numbers``.
        sampling: Where the taps lie.
    """
    num_taps, exact = sampling.num_taps, planes.dtype
    size = torch.tensor([planes.shape[3], planes.shape[2]], device=planes.device, dtype=exact)
    offsets, weight = numbers.permute(2, 0, 1, 3).to(exact).split([2 * num_taps, num_taps], 3)
    grid = offsets.unflatten(3, (num_taps, 2)) * sampling.offset_scale
    grid += _origins(grid.shape[1:4], top, sampling, grid)
    # What lies outside stays outside, and infinity becomes a number.
    grid = grid.clamp_(min=-_BORDER).minimum(size + 1).mul_(2).add_(1).div_(size).sub_(1)
    grid = grid.flatten(2, 3)
    grad = grads.permute(2, 3, 0, 1).to(exact).contiguous().unsqueeze(4)
    weighted = (grad * weight.unsqueeze(1)).flatten(3)
    grad_planes, grad_grid = torch.ops.aten.grid_sampler_2d_backward(
        weighted, planes, grid, 0, 0, False, [True, True]
    )
    del weighted
    samples = functional.grid_sample(planes, grid, align_corners=False).unflatten(
        3, (-1, num_taps)
    )
    grad_weight = samples.mul_(grad).sum(1)
    grad_pairs = grad_grid.unflatten(2, (-1, num_taps)) * (2 * sampling.offset_scale / size)
    grad_numbers[..., : 2 * num_taps] = grad_pairs.flatten(3).permute(1, 2, 0, 3)
    grad_numbers[..., 2 * num_taps :] = grad_weight.permute(1, 2, 0, 3)
    return grad_planes


def _origins(shape: Sequence[int], top: int, sampling: Sampling, like: Tensor) -> Tensor:
    """Return x and y of taps without offsets, ``(R, W_out, K, 2)`` px, from output row ``top``."""
    tap_x, tap_y = sampling.taps(like.device, like.dtype)
    rows, columns = (
        torch.arange(side, device=like.device, dtype=like.dtype) for side in shape[:2]
    )
    x = columns.view(-1, 1) * sampling.stride + tap_x
    y = (rows.view(-1, 1, 1) + top) * sampling.stride + tap_y
    return torch.stack(torch.broadcast_tensors(x, y), 3)


def _table(value: Tensor, groups: int) -> Tensor:
    """Return the value inside its border, a row for each pixel and group, in 32 bits or more."""
    exact = value.to(_exact(value))
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
    )
