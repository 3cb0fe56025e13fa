"""The batches of a training run, as its configuration asks for them."""

from __future__ import annotations

import logging
import multiprocessing
import signal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from offroad_seg_core.datasets.copy_paste.transform import CopyPaste
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.loading import (
    SoftLabelsOf,
    StepBatchSampler,
    TrainingViews,
    ViewOptions,
)
from offroad_seg_core.datasets.sampling import SamplingPlan, expected_draws, plan_sampling
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.training.config import TrainConfig

log = logging.getLogger(__name__)


def create_training_loader(
    config: TrainConfig,
    frames: FrameSet,
    spec: InputSpec,
    rank: int = 0,
    soft_labels: SoftLabelsOf | None = None,
    strengths: np.ndarray | None = None,
) -> tuple[DataLoader, StepBatchSampler]:
    """Return what yields the batch of every step, and the sampler that can begin at any step.

    A batch holds ``image`` (N, H, W, 3) uint8 RGB, ``target`` (N, H, W) uint8 and, if asked for,
    ``soft`` (N, h, w, C) float16.

    Args:
        config: The run.
        frames: To train on; fill their cache before, so that all workers share it.
        spec: The network's input on the robot.
        rank: Number of this process among those that train together.
        soft_labels: See ``ViewOptions``.
        strengths: ``(N,)`` float, how strongly each frame is augmented; None: all alike.

    Raises:
        DatasetError: A label file cannot be read, sampling names an unknown class, or the
            instance bank is missing or of another taxonomy.
    """
    loader = config.loader
    plan = plan_sampling(frames, config.sampling)
    _log_plan(plan)
    sampler = StepBatchSampler(
        len(frames),
        loader.batch_size,
        config.optimizer.max_steps * config.optimizer.accumulate,
        config.seed,
        plan.weights,
        rank=rank,
        world_size=config.distributed.world_size,
    )
    pasting = config.copy_paste
    options = ViewOptions(
        crop_scale_range=loader.crop_scale_range,
        strengths=_strengths(plan, config.sampling.rare_strength, strengths),
        copy_paste=None if pasting is None else CopyPaste.from_config(pasting, frames.taxonomy),
        mix=config.mix,
        soft_labels=soft_labels,
    )
    views = TrainingViews(frames, loader.crop_size, spec, config.augment, config.seed, options)
    return DataLoader(
        views,
        batch_sampler=sampler,
        num_workers=loader.num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        prefetch_factor=loader.prefetch_batches if loader.num_workers else None,
        multiprocessing_context=_worker_context() if loader.num_workers else None,
    ), sampler


def _strengths(
    plan: SamplingPlan, rare_strength: float, wanted: np.ndarray | None
) -> np.ndarray | None:
    """Return how strongly each frame is augmented."""
    if plan.is_rare is None:
        return wanted
    return np.where(plan.is_rare, rare_strength, 1.0) * (1.0 if wanted is None else wanted)


def _worker_context() -> str | None:
    # A forked worker shares the cached frames; any other would be sent a copy of all of them.
    return 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None


def _start_worker(_: int) -> None:
    cv2.setNumThreads(1)  # as many workers as there are cores would start as many threads each
    # Ctrl-C reaches every process; the one that trains ends its step first and then its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _log_plan(plan: SamplingPlan) -> None:
    if plan.weights is not None:
        draws = expected_draws(plan.weights)
        log.info('frames are drawn %.2f to %.2f times an epoch', draws.min(), draws.max())
    if plan.is_rare is not None:
        count = np.count_nonzero(plan.is_rare)
        log.info('%d of %d frames show a rare class', count, len(plan.is_rare))
