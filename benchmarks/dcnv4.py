"""DCNv4 on the CPU and on the GPU, at the four stages of FlashInternImage-L.

    python benchmarks/dcnv4.py [--quick] [--json PATH]

CPU: images of 512x896, forward and training step (forward, and backward to value and offsets),
against one `grid_sample` of all taps and, where torchvision has its operators, against its
`deform_conv2d`. All must agree. Times are taken in turn (256x448 in a quick run); the ratios are
those of all operators of the network together, each stage as often as it has blocks. Memory is
what a call adds to its inputs at most, output and gradients included: the peak of the resident
set of a fresh process whose malloc returns every large block to the kernel at once. Of the stages
the worst ratio counts.

GPU: see `dcnv4_gpu.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
import multiprocessing
import os
from pathlib import Path
import re
from typing import Any, NamedTuple

import dcnv4_gpu
from dcnv4_stages import STAGES, Stage, inputs, train_step
from report import arguments, finish, interleaved_ms
import torch
from torch import Tensor

from offroad_seg_core.models.dcnv4 import _grid_sample, dcnv4
from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports

IMAGE_SIZE, QUICK_SIZE = (512, 896), (256, 448)
NOT_MEASURED = 'not measured'
Operator = Callable[[Tensor, Tensor], Tensor]
KINDS = ('forward', 'train')


def ours(stage: Stage, value: Tensor, offset_mask: Tensor) -> Tensor:
    """Run the operator."""
    return dcnv4(value, offset_mask, stage.groups, offset_scale=stage.offset_scale)


def grid_sample(stage: Stage, value: Tensor, offset_mask: Tensor) -> Tensor:
    """Sample all taps at once."""
    return _grid_sample(value, offset_mask, stage.sampling)


def deform_conv2d(stage: Stage, value: Tensor, offset_mask: Tensor) -> Tensor:
    """Run torchvision's operator, whose taps go along x first, as a depthwise sum of taps."""
    from torchvision.ops import deform_conv2d as operator

    batch, height, width, channels = value.shape
    numbers = offset_mask[..., : 27 * stage.groups].unflatten(3, (stage.groups, 27))
    planes = numbers.permute(0, 3, 4, 1, 2)  # (N, G, 27, H, W)
    by_column = torch.arange(9, device=value.device).view(3, 3).t().flatten()
    base = torch.cartesian_prod(*(torch.arange(-1.0, 2.0, device=value.device),) * 2)
    scale = stage.offset_scale
    pairs = planes[:, :, :18].unflatten(2, (9, 2))[:, :, by_column].flip(3)  # (dy, dx)
    offsets = scale * pairs + (scale - 1) * base.view(9, 2, 1, 1)
    return operator(
        value.permute(0, 3, 1, 2),
        offsets.reshape(batch, -1, height, width),
        value.new_ones(channels, 1, 3, 3),
        padding=1,
        mask=planes[:, :, 18:][:, :, by_column].reshape(batch, -1, height, width),
    ).permute(0, 2, 3, 1)


def operators() -> dict[str, Callable[[Stage, Tensor, Tensor], Tensor]]:
    """Return what is compared; torchvision only where its compiled operators are."""
    ensure_torchvision_imports()
    found = {'ours': ours, 'grid_sample': grid_sample}
    if hasattr(torch.ops.torchvision, 'deform_conv2d'):
        found['torchvision'] = deform_conv2d
    return found


def call(kind: str, operator: Operator, tensors: tuple[Tensor, Tensor, Tensor]) -> Any:
    """Run forward or a training step."""
    return operator(*tensors[:2]) if kind == 'forward' else train_step(operator, *tensors)


def resident_mib(field: str) -> float:
    """Return the resident set: VmRSS now, VmHWM its peak."""
    found = re.search(rf'{field}:\s+(\d+) kB', Path('/proc/self/status').read_text())
    assert found is not None, field
    return int(found[1]) / 1024


def peaks_mib(name: str, image_size: tuple[int, int]) -> dict[tuple[int, str], float]:
    """Return what an operator adds to its inputs at most, MiB, for (number of stage, kind)."""
    function = operators()[name]
    peaks = {}
    for number, stage in enumerate(STAGES):
        operator: Operator = partial(function, stage)
        small, tensors = inputs(stage, (64, 64)), inputs(stage, image_size)
        for kind in KINDS:
            call(kind, operator, small)  # what is loaded and started only once
            before = resident_mib('VmRSS')
            Path('/proc/self/clear_refs').write_text('5')  # the peak begins anew
            call(kind, operator, tensors)
            peaks[number, kind] = resident_mib('VmHWM') - before
    return peaks


def memory(image_size: tuple[int, int]) -> dict[str, dict[tuple[int, str], float]]:
    """Measure each operator in a process of its own."""
    os.environ['MALLOC_MMAP_THRESHOLD_'] = str(1 << 16)  # read when a process starts
    context = multiprocessing.get_context('spawn')
    with context.Pool(1, maxtasksperchild=1) as pool:
        names = ('ours', 'grid_sample')
        found = pool.starmap(peaks_mib, [(name, image_size) for name in names], chunksize=1)
    return dict(zip(names, found, strict=True))


class Times(NamedTuple):
    """Medians in ms of one stage and kind, by operator."""

    stage: Stage
    kind: str
    ms: dict[str, float]


def times(image_size: tuple[int, int], rounds: int) -> list[Times]:
    """Time the operators in turn, after checking that they agree."""
    found = []
    for stage in STAGES:
        tensors = inputs(stage, image_size)
        calls = {name: partial(function, stage) for name, function in operators().items()}
        check(calls, tensors)
        for kind in KINDS:
            candidates = {
                name: partial(call, kind, operator, tensors) for name, operator in calls.items()
            }
            found.append(Times(stage, kind, interleaved_ms(candidates, rounds, warm_ups=1)))
    return found


def check(calls: Mapping[str, Operator], tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    """Assert that all operators give the same result."""
    expected = calls['ours'](*tensors[:2])
    for name, operator in calls.items():
        error = (operator(*tensors[:2]) - expected).abs().max().item()
        assert error < 1e-3, f'{name} differs by {error}'


def ratio(found: list[Times], kind: str, other: str) -> float:
    """Return the time of all operators of the network against another way to compute them."""
    own, theirs = (
        sum(entry.stage.num_blocks * entry.ms[name] for entry in found if entry.kind == kind)
        for name in ('ours', other)
    )
    return own / theirs


def cpu(timed_size: tuple[int, int], rounds: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return rows and ratios."""
    peaks, found = memory(IMAGE_SIZE), times(timed_size, rounds)
    rows = []
    for entry in found:
        row = {'what': f'cpu {entry.kind}', 'stage': entry.stage.describe(timed_size)}
        for name in ('ours', 'grid_sample', 'torchvision'):
            row[f'{name}_ms'] = entry.ms.get(name, NOT_MEASURED)
        rows.append(row)
    for kind, (number, stage) in product(KINDS, enumerate(STAGES)):
        row = {'what': f'cpu {kind} memory', 'stage': stage.describe(IMAGE_SIZE)}
        rows.append({**row, **{f'{name}_mib': peaks[name][number, kind] for name in peaks}})
    worst = {
        kind: max(
            peaks['ours'][number, kind] / peaks['grid_sample'][number, kind]
            for number in range(len(STAGES))
        )
        for kind in KINDS
    }
    ratios = {
        'cpu_peak_memory_vs_grid_sample': worst['forward'],
        'cpu_time_vs_grid_sample': ratio(found, 'forward', 'grid_sample'),
        'cpu_train_memory_vs_grid_sample': worst['train'],
        'cpu_train_time_vs_grid_sample': ratio(found, 'train', 'grid_sample'),
    }
    if 'torchvision' in found[0].ms:
        ratios['cpu_time_vs_torchvision'] = ratio(found, 'forward', 'torchvision')
    return rows, ratios


def main() -> None:
    """Measure the CPU, and the GPU if there is one."""
    options = arguments(__doc__)
    rows, ratios = cpu(*((QUICK_SIZE, 3) if options.quick else (IMAGE_SIZE, 9)))
    gpu_rows, gpu_ratios = dcnv4_gpu.measure(options.quick)
    finish('dcnv4', options, rows + gpu_rows, ratios | gpu_ratios)


if __name__ == '__main__':
    main()
