"""Train one model from one configuration."""

from __future__ import annotations

from dataclasses import replace
import logging
from pathlib import Path
import random
import shutil
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
import yaml

from offroad_seg_core.config import ConfigError, dump_config
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.loading import StepBatchSampler, TrainingViews, ValidationViews
from offroad_seg_core.files import atomic_path
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.losses import inverse_sqrt_weights
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.metrics.segmentation import SegmentationScores
from offroad_seg_core.provenance import computes_bf16
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy
from offroad_seg_core.training.checkpoint import initialize_from, load_checkpoint
from offroad_seg_core.training.config import Precision, TrainConfig
from offroad_seg_core.training.lightning_import import lightning
from offroad_seg_core.training.recorder import Recorder
from offroad_seg_core.training.task import SegmentationTask

log = logging.getLogger(__name__)


def train(config: TrainConfig, *, resume: bool = False, command: str = '') -> SegmentationScores:
    """Run a training and write its folder: checkpoints, logs, ``result.json``.

    Args:
        config: The run.
        resume: Go on from ``last.ckpt`` of the run's folder, as if it had not stopped.
        command: How it was started, for the record.

    Returns:
        The scores of the last validation.

    Raises:
        ConfigError: The folder holds another run, or there is nothing to resume.
        DatasetError, TaxonomyError, CheckpointError: As their names say.
        TrainingError: The loss is not finite.
        TrainingInterruptedError: Ctrl-C; the state was saved.
    """
    config = replace(config, precision=resolve_precision(config.precision))
    last = _prepare_folder(config, resume)
    keep_freed_memory()
    _seed_everything(config.seed)
    taxonomy = load_taxonomy(config.taxonomy)
    frames = config.dataset.frames('train', taxonomy)
    num_cached = frames.cache(config.loader.cache_gb)
    log.info('%d training frames, %d of them in memory', len(frames), num_cached)
    task = _create_task(config, taxonomy, frames)
    sampler = StepBatchSampler(
        len(frames), config.loader.batch_size, config.optimizer.max_steps, config.seed
    )
    spec = _input_spec(config, task)
    recorder = Recorder(
        config.folder, taxonomy, _validation_loader(config, taxonomy, spec), command
    )
    trainer = _create_trainer(config, recorder, sampler)
    loader = _training_loader(config, frames, spec, sampler)
    with recorder.saving_on_interrupt():
        trainer.fit(task, loader, ckpt_path=str(last) if resume else None, weights_only=True)
    assert recorder.scores is not None  # the last step is always validated
    return recorder.scores


def resolve_precision(precision: Precision) -> Precision:
    """Turn ``auto`` into ``bf16`` where this machine computes it natively, else ``fp32``."""
    if precision != 'auto':
        return precision
    if torch.cuda.is_available():
        return 'bf16' if torch.cuda.is_bf16_supported(including_emulation=False) else 'fp32'
    return 'bf16' if computes_bf16() else 'fp32'


def fast_dev_run(config: TrainConfig) -> TrainConfig:
    """Return the run cut down to 2 steps and 2 validation frames, in a folder of its own."""
    folder = replace(config, name=f'{config.name}-dev').folder
    shutil.rmtree(folder, ignore_errors=True)
    return replace(
        config,
        name=folder.name,
        optimizer=replace(config.optimizer, max_steps=2, warmup_steps=0),
        validate_every=2,
        max_validation_frames=2,
        loader=replace(config.loader, cache_gb=0.0),
    )


def _prepare_folder(config: TrainConfig, resume: bool) -> Path:
    """Make the run's folder and return its ``last.ckpt``; refuse to mix two runs."""
    last = config.folder / 'last.ckpt'
    if not resume:
        if last.exists():
            raise ConfigError(
                f'{config.folder} holds a run already; continue it with --resume, give another '
                'name=..., or delete the folder'
            )
        with atomic_path(config.folder / 'config.yaml') as temporary:
            temporary.write_text(yaml.safe_dump(dump_config(config), sort_keys=False))
        return last
    if not last.exists():
        raise ConfigError(f'{last}: nothing to resume; start the run without --resume')
    before, now = dump_config(load_checkpoint(last).config), dump_config(config)
    changed = [key for key in now if now[key] != before[key]]
    if changed:
        raise ConfigError(
            f'{last} is of a run with another configuration; these sections differ: '
            f'{", ".join(changed)}; restore them (see config.yaml beside it) or give another name'
        )
    return last


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries; this code has its own generators
    torch.manual_seed(seed)
    cv2.setNumThreads(1)  # batches are prepared beside the training threads


def _create_task(config: TrainConfig, taxonomy: Taxonomy, frames: FrameSet) -> SegmentationTask:
    task = SegmentationTask(config, taxonomy.num_classes, _class_weights(config, taxonomy, frames))
    if config.init_checkpoint is not None:
        initialize_from(task.model, config.init_checkpoint, taxonomy)
        task.average.load_state_dict(task.model.state_dict())
    return task


def _class_weights(
    config: TrainConfig, taxonomy: Taxonomy, frames: FrameSet
) -> torch.Tensor | None:
    weights = config.loss.class_weights
    if weights == 'inverse_sqrt':
        counts = torch.from_numpy(frames.pixel_counts())
        return inverse_sqrt_weights(counts, config.loss.max_class_weight)
    if not weights:
        return None
    if len(weights) != taxonomy.num_classes:
        raise ConfigError(
            f'loss.class_weights has {len(weights)} values, expected {taxonomy.num_classes}, '
            f'one for each class of {taxonomy.name}'
        )
    return torch.tensor(weights)


def _input_spec(config: TrainConfig, task: SegmentationTask) -> InputSpec:
    """Return the network's input as the robot will have it."""
    model = config.model
    return InputSpec(
        size=model.input_size, mean=model.mean, std=model.std, stride=task.input_multiple
    )


def _training_loader(
    config: TrainConfig, frames: FrameSet, spec: InputSpec, sampler: StepBatchSampler
) -> DataLoader:
    views = TrainingViews(frames, config.loader.crop_size, spec, config.augment, config.seed)
    workers = config.loader.num_workers
    return DataLoader(views, batch_sampler=sampler, num_workers=workers)


def _validation_loader(config: TrainConfig, taxonomy: Taxonomy, spec: InputSpec) -> DataLoader:
    frames = config.dataset.frames('validation', taxonomy)
    views = ValidationViews(frames, spec)
    bound = config.max_validation_frames or len(views)
    step = -(-len(views) // bound)
    kept = Subset(views, range(0, len(views), step))
    return DataLoader(kept, batch_size=None, collate_fn=_unchanged)


def _unchanged(frame: Any) -> Any:
    return frame


def _create_trainer(
    config: TrainConfig, recorder: Recorder, sampler: StepBatchSampler
) -> lightning.Trainer:
    trainer = lightning.Trainer(
        max_steps=config.optimizer.max_steps,
        max_epochs=1,
        precision='bf16-mixed' if config.precision == 'bf16' else '32-true',
        callbacks=[recorder],
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    sampler.first_step = lambda: trainer.global_step
    return trainer
