"""DCNv4 in scalar loops, and settings that every way to compute it must agree on."""

from dataclasses import dataclass
import math

import numpy as np
import torch

from offroad_seg_core.models.dcnv4_gather import Sampling


@dataclass(frozen=True)
class Case:
    groups: int = 2
    depth: int = 4
    batch: int = 2
    size: tuple[int, int] = (5, 6)
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    offset_scale: float = 1.0
    remove_center: bool = False
    tail: int = 0

    @property
    def settings(self):
        """Keyword arguments of ``dcnv4``."""
        names = ('stride', 'padding', 'dilation', 'offset_scale', 'remove_center')
        return {name: getattr(self, name) for name in names}

    @property
    def sampling(self):
        return Sampling(self.groups, **self.settings)

    def tensors(self, dtype=torch.float32, seed=0):
        """Return a value, an offset_mask and a gradient of the output; some taps lie outside."""
        generator = torch.Generator().manual_seed(seed)
        out_size = self.sampling.output_size(*self.size)
        shape = (self.batch, *self.size, self.groups * self.depth)
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        numbers = self.sampling.num_offsets + self.tail
        offset_mask = torch.randn(
            (self.batch, *out_size, numbers), generator=generator, dtype=torch.float64
        )
        gradient = torch.randn(
            (self.batch, *out_size, shape[3]), generator=generator, dtype=torch.float64
        )
        return value.to(dtype), offset_mask.to(dtype), gradient.to(dtype)


CASES = {
    'plain': Case(),
    'padded numbers': Case(groups=1, tail=5),
    'scale 0.5': Case(offset_scale=0.5),
    'scale 2': Case(offset_scale=2.0, depth=3),
    'stride 2': Case(stride=2, size=(7, 5)),
    'dilation 2': Case(dilation=2, padding=2, batch=1),
    'no padding': Case(padding=0, batch=1),
    'without center': Case(remove_center=True, groups=3, depth=2),
    'everything': Case(
        stride=2, padding=2, dilation=2, offset_scale=0.5, remove_center=True, tail=3, batch=3
    ),
}


def reference(value, offset_mask, case):
    """Compute DCNv4 as the published kernel does, number by number, ``(N, H_out, W_out, C)``.

    Follows the loops of OpenGVLab/DCNv4, dcnv4_im2col_cuda.cuh: x outside y, both scaled around
    the middle tap, samples at -1 and beyond or at the size and beyond skipped.
    """
    value, offset_mask = (np.asarray(x, np.float64) for x in (value, offset_mask))
    batch, out_height, out_width, _ = offset_mask.shape
    height, width = value.shape[1:3]
    depth, scale = case.depth, case.offset_scale
    num_taps = 8 if case.remove_center else 9
    half = case.dilation * 2 // 2
    output = np.zeros((batch, out_height, out_width, value.shape[3]))
    for n, row, column, group in np.ndindex(batch, out_height, out_width, case.groups):
        numbers = offset_mask[n, row, column, group * 3 * num_taps :]
        channels = slice(group * depth, (group + 1) * depth)
        start_x = half - case.padding + column * case.stride - half * scale
        start_y = half - case.padding + row * case.stride - half * scale
        tap = 0
        for i in range(3):
            for j in range(3):
                if case.remove_center and i == 1 and j == 1:
                    continue
                x = start_x + (i * case.dilation + numbers[2 * tap]) * scale
                y = start_y + (j * case.dilation + numbers[2 * tap + 1]) * scale
                if -1 < x < width and -1 < y < height:
                    sample = bilinear(value[n, :, :, channels], x, y)
                    output[n, row, column, channels] += numbers[2 * num_taps + tap] * sample
                tap += 1
    return output


def bilinear(image, x, y):
    """Return ``image (H, W, D)`` at (x, y), 0 outside."""
    left, top = math.floor(x), math.floor(y)
    total = np.zeros(image.shape[2])
    for corner_y, share_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for corner_x, share_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= corner_y < image.shape[0] and 0 <= corner_x < image.shape[1]:
                total += share_y * share_x * image[corner_y, corner_x]
    return total
