"""The GPU's part of `dcnv4.py`: the Triton kernels, and a training step of the whole network.

The kernels run on the four stages of FlashInternImage-L without their linear layers, in float16
and bfloat16, against the faster of the two ways in pure PyTorch: strips of gathered rows, and one
`grid_sample` of all taps. Their bandwidth is that of reading value and offsets and writing the
output once, against that of a copy on the same GPU. The step is UPerNet on the backbone with
activation checkpointing, in bfloat16, with AdamW.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dcnv4_stages import STAGES, Stage, inputs, train_step
from report import interleaved_ms
import torch
from torch import Tensor
from torch.nn import functional

from offroad_seg_core.models import dcnv4_gather
from offroad_seg_core.models.dcnv4 import _grid_sample, dcnv4
from offroad_seg_core.models.teachers import upernet_flash_intern_image

NOT_MEASURED = 'not measured: no CUDA GPU'
IMAGE_SIZES = ((512, 896), (1024, 2048))
TYPES = {'fp16': torch.float16, 'bf16': torch.bfloat16}
CROP_SIZE, NUM_CLASSES = (1024, 2048), 64
WORDS = ('gpu forward', 'gpu step', 'gpu copy', 'gpu training step')


def measure(quick: bool) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return rows and ratios; without a GPU, rows that say so."""
    if not torch.cuda.is_available():
        return [{'what': name, 'stage': NOT_MEASURED} for name in WORDS], {}
    rows, ratios = operators('cuda', IMAGE_SIZES[:1] if quick else IMAGE_SIZES, 5 if quick else 30)
    sizes = ((1, (256, 512)),) if quick else ((1, CROP_SIZE), (2, CROP_SIZE))
    return rows + [training_peak('cuda', *size) for size in sizes], ratios


def operators(
    device: str, image_sizes: tuple[tuple[int, int], ...], rounds: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Time the kernels; the ratios are of the sums over all operators of the network."""
    copied = copy_bytes_per_ms(device, rounds)
    rows: list[dict[str, Any]] = [{'what': 'gpu copy', 'gb_per_s': copied / 1e6}]
    total = dict.fromkeys(('forward', 'step', 'torch forward', 'torch step', 'copy'), 0.0)
    for size in image_sizes:
        for name, dtype in TYPES.items():
            for stage in STAGES:
                tensors = inputs(stage, size, device, dtype)
                moved = sum(tensor.nbytes for tensor in tensors)  # the output is as the gradient
                for kind, ways in candidates(stage, tensors).items():
                    ms = interleaved_ms(ways, rounds)
                    best = min(ms['grid_sample'], ms['gather'])
                    row = {'what': f'gpu {kind} {name}', 'stage': stage.describe(size)}
                    rows.append({**row, **{f'{way}_ms': value for way, value in ms.items()}})
                    total[kind] += stage.num_blocks * ms['triton']
                    total[f'torch {kind}'] += stage.num_blocks * best
                total['copy'] += stage.num_blocks * moved / copied
    return rows, {
        'triton_forward_vs_torch': total['torch forward'] / total['forward'],
        'triton_step_vs_torch': total['torch step'] / total['step'],
        'bandwidth_share': total['copy'] / total['forward'],
    }


def candidates(
    stage: Stage, tensors: tuple[Tensor, Tensor, Tensor]
) -> dict[str, dict[str, Callable[[], object]]]:
    """Return forward and step of each way; all wait until the GPU is done."""
    value, offset_mask, gradient = tensors
    sampling = stage.sampling
    triton = partial(dcnv4, groups=stage.groups, offset_scale=stage.offset_scale)
    grid_sample = partial(_grid_sample, sampling=sampling)

    def gather_step() -> None:
        dcnv4_gather.forward(value, offset_mask, sampling)
        dcnv4_gather.backward(gradient, value, offset_mask, sampling)

    calls: dict[str, dict[str, Callable[[], object]]] = {
        'forward': {
            'triton': lambda: triton(value, offset_mask),
            'grid_sample': lambda: grid_sample(value, offset_mask),
            'gather': lambda: dcnv4_gather.forward(value, offset_mask, sampling),
        },
        'step': {
            'triton': lambda: train_step(triton, *tensors),
            'grid_sample': lambda: train_step(grid_sample, *tensors),
            'gather': gather_step,
        },
    }
    return {
        kind: {name: partial(finished, way) for name, way in ways.items()}
        for kind, ways in calls.items()
    }


def finished(work: Callable[[], object]) -> None:
    """Work, and wait until the GPU is done."""
    work()
    torch.cuda.synchronize()


def copy_bytes_per_ms(device: str, rounds: int) -> float:
    """Return the bytes that a copy reads and writes in a millisecond."""
    source = torch.empty(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = partial(finished, lambda: target.copy_(source))
    return 2 * source.nbytes / interleaved_ms({'copy': copy}, rounds)['copy']


def training_peak(device: str, batch_size: int, crop_size: tuple[int, int]) -> dict[str, Any]:
    """Return a row with the peak memory of a training step of FlashInternImage-L and UPerNet."""
    model = upernet_flash_intern_image(NUM_CLASSES, checkpointing=True).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    images = torch.randn(batch_size, 3, *crop_size, device=device)
    target = torch.randint(NUM_CLASSES, (batch_size, *crop_size), device=device)
    for step in range(2):  # the optimizer's averages exist from the first step on
        if step:
            torch.cuda.reset_peak_memory_stats()
        with torch.autocast(device, torch.bfloat16):
            outputs = model(images)
        losses = [
            functional.cross_entropy(functional.interpolate(logits.float(), crop_size), target)
            for logits in outputs
        ]
        sum(losses).backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
    what = f'gpu training step of {batch_size}x{crop_size[0]}x{crop_size[1]}'
    return {'what': what, 'peak_gib': torch.cuda.max_memory_allocated() / 2**30}
