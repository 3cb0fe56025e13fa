"""What this package adds to a training step, and what its losses cost.

    python benchmarks/train_step.py [--quick] [--json PATH]

Step: ddrnet23_slim, 4 views of 256x448, in blocks of steps that take turns: our task under
Lightning with its recorder, and a plain PyTorch loop with the same model, loss, optimizer,
averaged weights and gradient clipping. `step_overhead` is the relative difference of the medians.

Loss: cross entropy and Dice on (4, 10, 512, 896) logits, forward and backward, from one softmax
against torch's cross entropy plus the DiceLoss of segmentation-models-pytorch. Memory is what
both keep for the backward pass (on a GPU: the peak above the logits).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
import io
from itertools import pairwise
import logging
from pathlib import Path
import statistics
import tempfile
import time
from typing import Any

from report import arguments, finish, interleaved_ms
import torch
from torch import Tensor, nn
from torch.nn import functional

from offroad_seg_core.config import load_config
from offroad_seg_core.losses.functional import Scores, cross_entropy_of, dice_of
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.ema import update_average
from offroad_seg_core.training.lightning_import import lightning
from offroad_seg_core.training.recorder import Recorder
from offroad_seg_core.training.run import resolve_precision
from offroad_seg_core.training.task import SegmentationTask

BATCH_SIZE, CROP_SIZE, LOSS_SIZE, NUM_CLASSES = 4, (256, 448), (512, 896), 10
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


class Clock(lightning.Callback):
    """Keeps the time of each step's end."""

    def __init__(self) -> None:
        self.ends_s: list[float] = []

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Look at the clock."""
        self.ends_s.append(time.perf_counter())


class Unvalidated(Recorder):
    """The recorder without what is not part of a step: validation and checkpoints."""

    def _validate(self, *arguments: Any) -> None:
        pass


def create_task() -> SegmentationTask:
    """Return a fresh task; equal for equal seeds."""
    config = load_config(
        TrainConfig,
        {
            'name': 'benchmark',
            'dataset': {'kind': 'folder', 'root': 'none'},
            'model': {'name': 'ddrnet23_slim', 'input_size': list(CROP_SIZE)},
            'optimizer': {'max_steps': 10**6, 'warmup_steps': 0},
            'loss': {'terms': [{'name': 'cross_entropy'}, {'name': 'dice'}]},
        },
    )
    torch.manual_seed(0)
    return SegmentationTask(config, NUM_CLASSES)


def batch_of() -> dict[str, Tensor]:
    """Return one batch as the loader makes it."""
    torch.manual_seed(1)
    image = torch.randint(0, 256, (BATCH_SIZE, *CROP_SIZE, 3), dtype=torch.uint8)
    target = torch.randint(0, NUM_CLASSES, (BATCH_SIZE, *CROP_SIZE), dtype=torch.uint8)
    return {'image': image, 'target': target}


def lightning_block(num_steps: int, folder: Path) -> float:
    """Return the median time of a step under Lightning, in seconds."""
    task, clock, batch = create_task(), Clock(), batch_of()
    recorder = Unvalidated(folder, load_taxonomy('falcon10'), [], '')
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    trainer = lightning.Trainer(
        max_steps=num_steps,
        precision='bf16-mixed' if resolve_precision('auto') == 'bf16' else '32-true',
        callbacks=[recorder, clock],
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    batches = torch.utils.data.DataLoader([batch] * num_steps, batch_size=None)
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        trainer.fit(task, batches)
    ends_s = clock.ends_s
    return statistics.median(b - a for a, b in pairwise(ends_s[1:]))


def plain_block(num_steps: int) -> float:
    """Return the median time of a step of the plain loop, in seconds."""
    task, batch = create_task().to(DEVICE), batch_of()
    made = task.configure_optimizers()
    optimizer, schedule = made['optimizer'], made['lr_scheduler']['scheduler']
    settings = task.config.optimizer
    task.train()
    use_bf16 = resolve_precision('auto') == 'bf16'
    ends_s = []
    for step in range(num_steps):
        images, target = batch['image'].to(DEVICE), batch['target'].to(DEVICE).long()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=use_bf16):
            outputs = task.model(task.normalize(images))
        labels = {'target': target}
        main, auxiliary = (task._loss_of(logits, labels)['total'] for logits in outputs)
        loss = main + task.config.loss.auxiliary_weight * auxiliary
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(task.model.parameters(), settings.max_grad_norm, foreach=True)
        optimizer.step()
        schedule.step()
        update_average(task.average, task.model, settings.ema_decay, step + 1)
        loss.item()
        ends_s.append(time.perf_counter())
    return statistics.median(b - a for a, b in pairwise(ends_s[1:]))


def compare_steps(num_blocks: int, num_steps: int) -> tuple[float, float]:
    """Return the median times of our step and of the plain one, in ms."""
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        for block in range(num_blocks):
            path = Path(folder) / str(block)
            path.mkdir()
            ours.append(1e3 * lightning_block(num_steps, path))
            plain.append(1e3 * plain_block(num_steps))
    return statistics.median(ours), statistics.median(plain)


def loss_functions() -> tuple[Callable[[Tensor, Tensor], Tensor], ...]:
    """Return ours and the libraries'."""
    ensure_torchvision_imports()
    from segmentation_models_pytorch.losses import DiceLoss

    dice = DiceLoss('multiclass', ignore_index=255)

    def ours(logits: Tensor, target: Tensor) -> Tensor:
        scores = Scores.of(logits, target)
        return cross_entropy_of(scores) + dice_of(scores, 0.0, all_classes=True)

    def theirs(logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, ignore_index=255) + dice(logits, target)

    return ours, theirs


def kept_bytes(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> int:
    """Return the memory that a loss needs besides its arguments."""
    if logits.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss(logits, target).backward()
        logits.grad = None
        return torch.cuda.max_memory_allocated() - before
    own = {tensor.untyped_storage().data_ptr() for tensor in (logits, target)}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(logits, target)
    value.backward()
    logits.grad = None
    return sum(size for address, size in kept.items() if address not in own)


def compare_losses(rounds: int) -> Iterator[tuple[str, float, float]]:
    """Yield the name, the time (ms) and the memory (MiB) of both."""
    torch.manual_seed(0)
    logits = torch.randn(BATCH_SIZE, NUM_CLASSES, *LOSS_SIZE, device=DEVICE, requires_grad=True)
    target = torch.randint(0, NUM_CLASSES, (BATCH_SIZE, *LOSS_SIZE), device=DEVICE)
    target[:, :40] = 255
    functions = dict(zip(('ours', 'torch and smp'), loss_functions(), strict=True))
    values = [function(logits, target).item() for function in functions.values()]
    assert abs(values[0] - values[1]) < 1e-4, values

    def run(function: Callable[[Tensor, Tensor], Tensor]) -> None:
        logits.grad = None
        function(logits, target).backward()
        logits.grad.sum().item()

    times = interleaved_ms(
        {name: lambda f=function: run(f) for name, function in functions.items()}, rounds
    )
    for name, function in functions.items():
        yield name, times[name], kept_bytes(function, logits, target) / 2**20


def main() -> None:
    """Run both comparisons."""
    options = arguments(__doc__)
    keep_freed_memory()
    ours_ms, plain_ms = compare_steps(*((3, 8) if options.quick else (7, 16)))
    rows: list[dict[str, Any]] = [
        {'what': 'step, ours', 'ms': ours_ms},
        {'what': 'step, plain loop', 'ms': plain_ms},
    ]
    losses = list(compare_losses(3 if options.quick else 15))
    rows += [{'what': f'loss, {name}', 'ms': ms, 'kept_mib': mib} for name, ms, mib in losses]
    (_, ours, ours_mib), (_, theirs, theirs_mib) = losses
    ratios = {
        'step_overhead': ours_ms / plain_ms - 1,
        'loss_time_vs_smp': ours / theirs,
        'loss_memory_vs_smp': ours_mib / theirs_mib,
    }
    finish('train_step', options, rows, ratios)


if __name__ == '__main__':
    main()
