"""What stops a training, told so that it can be put right: bad batch, full memory, full disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import errno
from pathlib import Path
import shutil

import torch
from torch import Tensor, distributed

from offroad_seg_core.files import atomic_path

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MIN_BATCH_SIZE = 2  # batch norms need two values a channel


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


class NonFiniteLossError(TrainingError):
    """A loss is nan or infinite.

    Attributes:
        batch: What it was computed from, see ``create_training_loader``.
        terms: The values of the losses.
        part: Which of the step's batches it was, from 0.
    """

    def __init__(
        self, message: str, batch: dict[str, Tensor], terms: dict[str, float], part: int
    ) -> None:
        super().__init__(message)
        self.batch = batch
        self.terms = terms
        self.part = part


@dataclass(frozen=True)
class RunState:
    """What an explanation of a failure needs to know of the run.

    Attributes:
        folder: Of the run.
        batch_size: Views of a batch.
        accumulate: Batches of a step.
        step: Returns how many steps are done.
        batch_files: Returns the pictures of a batch, counted from the start of the training.
        file_suffix: Goes into the names of files that every process writes.
    """

    folder: Path
    batch_size: int
    accumulate: int
    step: Callable[[], int]
    batch_files: Callable[[int], Sequence[Path]]
    file_suffix: str = ''


@contextmanager
def explained(run: RunState) -> Iterator[None]:
    """Turn failures inside the block into ones that say what to do.

    Raises:
        TrainingError: A loss is not finite, or memory or disk are full.
    """
    try:
        yield
    except NonFiniteLossError as error:
        files = [str(path) for path in run.batch_files(run.step() * run.accumulate + error.part)]
        path = run.folder / f'bad_batch{run.file_suffix}.pt'
        save_bad_batch(path, error, files, run.step())
        raise TrainingError(
            f'{error}; the batch is saved as {path}; its frames: {", ".join(files)}'
        ) from error
    except torch.OutOfMemoryError as error:
        raise TrainingError(_out_of_memory(run)) from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise TrainingError(_no_room(run, error)) from error
    except RuntimeError as error:
        if not _lost_another_process(error):
            raise
        raise TrainingError(
            f'another process of this training ended after step {run.step()}; its own message '
            'says why; go on with --resume when that is put right'
        ) from error


def save_bad_batch(path: Path, error: NonFiniteLossError, files: list[str], step: int) -> None:
    """Keep a batch: ``torch.load(path, weights_only=True)`` gives it back.

    The file holds ``image`` (N, H, W, 3) uint8 RGB, ``target`` (N, H, W) uint8, ``files``,
    ``terms`` and ``step``.
    """
    content = {name: value.cpu() for name, value in error.batch.items()}
    with atomic_path(path) as temporary:
        torch.save({**content, 'files': files, 'terms': error.terms, 'step': step}, temporary)


def smaller_batch(batch_size: int, accumulate: int) -> tuple[int, int] | None:
    """Return the next smaller batch size and the batches a step that keep the views of a step.

    None if there is none: the batch has two views already, or the number of views is prime.
    """
    views = batch_size * accumulate
    for size in range(batch_size // 2, MIN_BATCH_SIZE - 1, -1):
        if views % size == 0:
            return size, views // size
    return None


def out_of_memory_message(
    step: int, batch_size: int, accumulate: int, peak_bytes: int, total_bytes: int
) -> str:
    """Say how much memory was needed, and which settings need about half of it.

    Args:
        step: Steps that were done.
        batch_size: Views of a batch.
        accumulate: Batches of a step.
        peak_bytes: Memory that was in use at most; 0 if unknown.
        total_bytes: Of the GPU; 0 if unknown.
    """
    used = f': {peak_bytes / 1e9:.1f} of {total_bytes / 1e9:.1f} GB in use' if total_bytes else ''
    smaller = smaller_batch(batch_size, accumulate)
    if smaller is not None:
        size, parts = smaller
        fix = (
            f'the same step in parts needs about {size / batch_size:.0%} of it: '
            f'loader.batch_size={size} optimizer.accumulate={parts}'
        )
    else:
        fix = (
            f'batches of {batch_size} x {accumulate} cannot be divided further; lower '
            'loader.crop_size, set precision=bf16 or take a smaller model'
        )
    return f'the GPU has no memory left at step {step} with batches of {batch_size}{used}; {fix}'


def _out_of_memory(run: RunState) -> str:
    peak = total = 0
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return out_of_memory_message(run.step(), run.batch_size, run.accumulate, peak, total)


def _lost_another_process(error: RuntimeError) -> bool:
    # Over NCCL it has a type of its own, over gloo only its words.
    return isinstance(error, distributed.DistBackendError) or (
        'Connection closed by peer' in str(error) or 'Connection reset by peer' in str(error)
    )


def _no_room(run: RunState, error: OSError) -> str:
    free_gb = shutil.disk_usage(run.folder).free / 1e9
    last = run.folder / 'last.ckpt'
    fix = (
        f'make room, then go on from {last}, which is unharmed, with --resume'
        if last.exists()
        else 'make room, then start again: there is no checkpoint yet'
    )
    return (
        f'{run.folder}: cannot be written to after step {run.step()}: {error.strerror}; '
        f'{free_gb:.2f} GB are free there; {fix}'
    )
