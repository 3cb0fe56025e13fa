"""Compare the Triton kernels in Triton's interpreter with PyTorch; prints JSON.

TRITON_INTERPRET=1 python test/core/models/dcnv4_interpreted.py
"""

from dataclasses import replace
import json
import math

from dcnv4_cases import CASES, Case
import torch

from offroad_seg_core.models import dcnv4_gather, dcnv4_triton

SELECTED = {
    # 75 pixels are more than a block of 64, which then ends within the second image.
    'blocks cross images': Case(groups=1, batch=3, size=(5, 5)),
    'published depth': Case(groups=2, depth=16, batch=1, size=(3, 4), offset_scale=2.0, tail=2),
    'far outside': Case(groups=1, depth=5, batch=1),
    'all settings': replace(CASES['everything'], groups=1),
}


def largest_errors(name, case):
    """Return the largest differences of output and gradients."""
    value, offset_mask, gradient = case.tensors()
    if name == 'far outside':
        offset_mask[..., 0], offset_mask[..., 3] = math.inf, -3e38
    output = dcnv4_triton.forward(value, offset_mask, case.sampling)
    grads = dcnv4_triton.backward(gradient, value, offset_mask, case.sampling)
    expected = dcnv4_gather.forward(value, offset_mask, case.sampling)
    expected_grads = dcnv4_gather.backward(gradient, value, offset_mask, case.sampling)
    pairs = zip((output, *grads), (expected, *expected_grads), strict=True)
    return [(ours - theirs).abs().max().item() for ours, theirs in pairs]


if __name__ == '__main__':
    torch.set_num_threads(1)
    print(json.dumps({name: largest_errors(name, case) for name, case in SELECTED.items()}))
