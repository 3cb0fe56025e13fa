"""DCNv4's sampling on CUDA: one kernel forward, one backward.

A program computes one group of ``_PIXELS`` output pixels. Every pixel finds its own image, so that
no block reads beyond its image whatever the batch size. Coordinates and sums are float32. The
gradient of the value is added up atomically in float32: it can differ in the last bits between
two runs.
"""
# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
import triton
import triton.language as tl

from offroad_seg_core.models.dcnv4_gather import Sampling

# 16 channels in half precision are two loads of 16 bytes. With two threads a pixel the numbers
# that a pixel has once are read where they are used, not passed through shared memory.
_PIXELS, _WARPS = 64, 4


def forward(value: Tensor, offset_mask: Tensor, sampling: Sampling) -> Tensor:
    """Return the output ``(N, H_out, W_out, C)`` of ``dcnv4``, in the value's type."""
    value, offset_mask = value.contiguous(), offset_mask.contiguous()
    output = value.new_empty(*offset_mask.shape[:3], value.shape[3])
    with torch.cuda.device_of(value):
        _forward_kernel[_programs(offset_mask, sampling)](
            value, offset_mask, output, *_sizes(value, offset_mask), **_constants(value, sampling)
        )
    return output


def backward(
    grad_output: Tensor, value: Tensor, offset_mask: Tensor, sampling: Sampling
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the value and of ``offset_mask``, in their types."""
    value, offset_mask = value.contiguous(), offset_mask.contiguous()
    grad_value = torch.zeros_like(value, dtype=torch.float32)
    grad_offset_mask = torch.zeros_like(offset_mask)
    with torch.cuda.device_of(value):
        _backward_kernel[_programs(offset_mask, sampling)](
            grad_output.contiguous(), value, offset_mask, grad_value, grad_offset_mask,
            *_sizes(value, offset_mask), **_constants(value, sampling),
        )  # fmt: skip
    return grad_value.to(value.dtype), grad_offset_mask


def _programs(offset_mask: Tensor, sampling: Sampling) -> tuple[int]:
    num_pixels = offset_mask.shape[0] * offset_mask.shape[1] * offset_mask.shape[2]
    return (triton.cdiv(num_pixels, _PIXELS) * sampling.groups,)


def _sizes(value: Tensor, offset_mask: Tensor) -> tuple[int, ...]:
    batch, out_height, out_width, row_length = offset_mask.shape
    return batch, *value.shape[1:], out_height, out_width, row_length


def _constants(value: Tensor, sampling: Sampling) -> dict[str, Any]:
    depth = value.shape[3] // sampling.groups
    return {
        'groups': sampling.groups,
        'depth': depth,
        'lanes': triton.next_power_of_2(depth),
        'stride': sampling.stride,
        'middle': sampling.dilation - sampling.padding,
        'reach': sampling.dilation * sampling.offset_scale,
        'scale': sampling.offset_scale,
        'remove_center': sampling.remove_center,
        'block': _PIXELS,
        'num_warps': _WARPS,
    }


@triton.jit
def _pixels(batch, out_height, out_width, groups: tl.constexpr, block: tl.constexpr):
    """Return this program's group, and number, validity, image, row and column of its pixels."""
    # Groups of the same pixels run side by side and share what they read.
    group = tl.program_id(0) % groups
    pixel = tl.program_id(0) // groups * block + tl.arange(0, block)
    is_valid = pixel < batch * out_height * out_width
    image = pixel // (out_height * out_width)
    row = pixel // out_width % out_height
    return group, pixel, is_valid, image, row, pixel % out_width


@triton.jit
def _sample(
    numbers, is_valid, row, column, height, width,
    index: tl.constexpr, stride: tl.constexpr, middle: tl.constexpr, reach: tl.constexpr,
    scale: tl.constexpr, remove_center: tl.constexpr,
):  # fmt: skip
    """Return weight, left and top corner, and shares of the right and lower corners of a tap."""
    place: tl.constexpr = index + 1 if remove_center and index >= 4 else index
    num_taps: tl.constexpr = 8 if remove_center else 9
    offset_x = tl.load(numbers + 2 * index, mask=is_valid, other=0.0).to(tl.float32)
    offset_y = tl.load(numbers + (2 * index + 1), mask=is_valid, other=0.0).to(tl.float32)
    weight = tl.load(numbers + (2 * num_taps + index), mask=is_valid, other=0.0).to(tl.float32)
    x = column * stride + (middle + reach * (place // 3 - 1)) + scale * offset_x
    y = row * stride + (middle + reach * (place % 3 - 1)) + scale * offset_y
    # What lies outside stays outside, and infinity becomes a number.
    x = tl.minimum(tl.maximum(x, -2.0), width + 1.0)
    y = tl.minimum(tl.maximum(y, -2.0), height + 1.0)
    left, top = tl.floor(x), tl.floor(y)
    return weight, left.to(tl.int32), top.to(tl.int32), x - left, y - top


@triton.jit
def _corner(x, y, height, width, channels, is_valid):
    """Return where a corner lies from the image's first number, and whether it is inside."""
    is_inside = is_valid & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return (y * width + x) * channels, is_inside


@triton.jit
def _read(image, x, y, height, width, channels, is_valid, lane, is_lane):
    """Return the ``(block, lanes)`` float32 values of a corner, 0 outside."""
    where, is_inside = _corner(x, y, height, width, channels, is_valid)
    mask = is_inside[:, None] & is_lane[None, :]
    return tl.load(image + where[:, None] + lane[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _product(image, x, y, height, width, channels, is_valid, lane, is_lane, gradient):
    """Return the ``(block,)`` products of the gradient and a corner."""
    corner = _read(image, x, y, height, width, channels, is_valid, lane, is_lane)
    return tl.sum(gradient * corner, 1)


@triton.jit
def _add(image, x, y, height, width, channels, is_valid, lane, is_lane, share, gradient):
    """Add a share of the gradient to a corner."""
    where, is_inside = _corner(x, y, height, width, channels, is_valid)
    mask = is_inside[:, None] & is_lane[None, :]
    places = image + where[:, None] + lane[None, :]
    tl.atomic_add(places, share[:, None] * gradient, mask=mask, sem='relaxed')


@triton.jit
def _scatter(
    image, x, y, height, width, channels, is_valid, lane, is_lane,
    weight, right, lower, gradient,
):  # fmt: skip
    """Add a tap's shares of the gradient to its four corners."""
    at_bottom = weight * lower
    at_top = weight - at_bottom
    top_right, bottom_right = at_top * right, at_bottom * right
    _add(image, x, y, height, width, channels, is_valid, lane, is_lane,
         at_top - top_right, gradient)  # fmt: skip
    _add(image, x + 1, y, height, width, channels, is_valid, lane, is_lane,
         top_right, gradient)  # fmt: skip
    _add(image, x, y + 1, height, width, channels, is_valid, lane, is_lane,
         at_bottom - bottom_right, gradient)  # fmt: skip
    _add(image, x + 1, y + 1, height, width, channels, is_valid, lane, is_lane,
         bottom_right, gradient)  # fmt: skip


@triton.jit
def _forward_kernel(
    value, offset_mask, output,
    batch, height, width, channels, out_height, out_width, row_length,
    groups: tl.constexpr, depth: tl.constexpr, lanes: tl.constexpr, stride: tl.constexpr,
    middle: tl.constexpr, reach: tl.constexpr, scale: tl.constexpr, remove_center: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    group, pixel, is_valid, image, row, column = _pixels(
        batch, out_height, out_width, groups, block
    )
    num_taps: tl.constexpr = 8 if remove_center else 9
    numbers = offset_mask + pixel.to(tl.int64) * row_length + group * (3 * num_taps)
    first = value + (image.to(tl.int64) * height * width * channels)[:, None] + group * depth
    lane = tl.arange(0, lanes)
    is_lane = lane < depth
    total = tl.zeros((block, lanes), tl.float32)
    for index in tl.static_range(num_taps):
        weight, x, y, right, lower = _sample(
            numbers, is_valid, row, column, height, width,
            index, stride, middle, reach, scale, remove_center,
        )  # fmt: skip
        at_bottom = weight * lower
        at_top = weight - at_bottom
        top_right, bottom_right = at_top * right, at_bottom * right
        upper_left = _read(first, x, y, height, width, channels, is_valid, lane, is_lane)
        total += (at_top - top_right)[:, None] * upper_left
        upper_right = _read(first, x + 1, y, height, width, channels, is_valid, lane, is_lane)
        total += top_right[:, None] * upper_right
        lower_left = _read(first, x, y + 1, height, width, channels, is_valid, lane, is_lane)
        total += (at_bottom - bottom_right)[:, None] * lower_left
        lower_right = _read(first, x + 1, y + 1, height, width, channels, is_valid, lane, is_lane)
        total += bottom_right[:, None] * lower_right
    places = output + (pixel.to(tl.int64) * channels)[:, None] + group * depth + lane[None, :]
    tl.store(places, total, mask=is_valid[:, None] & is_lane[None, :])


@triton.jit
def _backward_kernel(
    grad_output, value, offset_mask, grad_value, grad_offset_mask,
    batch, height, width, channels, out_height, out_width, row_length,
    groups: tl.constexpr, depth: tl.constexpr, lanes: tl.constexpr, stride: tl.constexpr,
    middle: tl.constexpr, reach: tl.constexpr, scale: tl.constexpr, remove_center: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    group, pixel, is_valid, image, row, column = _pixels(
        batch, out_height, out_width, groups, block
    )
    num_taps: tl.constexpr = 8 if remove_center else 9
    start = pixel.to(tl.int64) * row_length + group * (3 * num_taps)
    numbers, grad_numbers = offset_mask + start, grad_offset_mask + start
    first = (image.to(tl.int64) * height * width * channels)[:, None] + group * depth
    values, grad_values = value + first, grad_value + first
    lane = tl.arange(0, lanes)
    is_lane = lane < depth
    places = (pixel.to(tl.int64) * channels)[:, None] + group * depth + lane[None, :]
    mask = is_valid[:, None] & is_lane[None, :]
    gradient = tl.load(grad_output + places, mask=mask, other=0.0).to(tl.float32)
    for index in tl.static_range(num_taps):
        weight, x, y, right, lower = _sample(
            numbers, is_valid, row, column, height, width,
            index, stride, middle, reach, scale, remove_center,
        )  # fmt: skip
        # The products of the gradient with the four corners are all that the numbers need.
        upper_left = _product(
            values, x, y, height, width, channels, is_valid, lane, is_lane, gradient
        )
        upper_right = _product(
            values, x + 1, y, height, width, channels, is_valid, lane, is_lane, gradient
        )
        lower_left = _product(
            values, x, y + 1, height, width, channels, is_valid, lane, is_lane, gradient
        )
        lower_right = _product(
            values, x + 1, y + 1, height, width, channels, is_valid, lane, is_lane, gradient
        )
        upper = upper_left + right * (upper_right - upper_left)
        down = lower_left + right * (lower_right - lower_left) - upper
        across = (1 - lower) * (upper_right - upper_left) + lower * (lower_right - lower_left)
        tl.store(grad_numbers + 2 * index, weight * scale * across, mask=is_valid)
        tl.store(grad_numbers + (2 * index + 1), weight * scale * down, mask=is_valid)
        tl.store(grad_numbers + (2 * num_taps + index), upper + lower * down, mask=is_valid)
        _scatter(grad_values, x, y, height, width, channels, is_valid, lane, is_lane,
                 weight, right, lower, gradient)  # fmt: skip
