"""Train one model from one configuration."""

from __future__ import annotations

import atexit
from dataclasses import replace
import logging
import os
from pathlib import Path
import random
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
import yaml

from offroad_seg_core.config import ConfigError, dump_config
from offroad_seg_core.datasets.analysis.class_weights import (
    ClassCounts,
    class_weights,
    count_frames,
)
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.loading import ValidationViews
from offroad_seg_core.distillation.lesson import Lesson, prepare_lesson
from offroad_seg_core.distillation.task import DistillationTask
from offroad_seg_core.files import atomic_path
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.metrics.segmentation import SegmentationScores
from offroad_seg_core.models.pretrained import load_encoder_weights
from offroad_seg_core.provenance import computes_bf16
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy
from offroad_seg_core.training.batches import create_training_loader
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.config import Precision, TrainConfig
from offroad_seg_core.training.distributed import end_started_processes, trainer_options
from offroad_seg_core.training.failures import RunState, explained
from offroad_seg_core.training.gpu_support import check_gpus
from offroad_seg_core.training.initial_weights import initialize_from, with_channels_of_start
from offroad_seg_core.training.lightning_import import lightning
from offroad_seg_core.training.progress import Progress
from offroad_seg_core.training.random_states import RandomStates
from offroad_seg_core.training.recorder import Recorder, finished_scores
from offroad_seg_core.training.task import SegmentationTask
from offroad_seg_core.training.tensorboard_log import (
    NUM_PICTURES,
    TensorBoardLog,
    check_tensorboard,
)
from offroad_seg_core.training.trials import fast_dev_run, smoke_run, without_variation

__all__ = ['fast_dev_run', 'resolve_precision', 'smoke_run', 'train']

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
        DatasetError, TaxonomyError, CheckpointError, BundleError, BagError: As their names say.
        TrainingError: The loss is not finite, memory or disk are full, or this build of PyTorch
            does not know the GPU.
        TrainingInterruptedError: Ctrl-C; the state was saved.
    """
    config = _settled(config, resume)
    check_gpus()
    if config.tensorboard:
        check_tensorboard()
    trainer = _create_trainer(config)
    if not trainer.is_global_zero:
        logging.getLogger('offroad_seg_core').setLevel(logging.WARNING)
    taxonomy = load_taxonomy(config.taxonomy)
    last = _prepare_folder(config, resume, taxonomy, writes=trainer.is_global_zero)
    if resume and (scores := finished_scores(config, last, taxonomy)) is not None:
        log.info('%s has trained all its steps', config.folder)
        return scores
    keep_freed_memory()
    _seed_everything(config.seed)
    labelled, validation = _frames(config, taxonomy)
    lesson = _lesson(config, taxonomy, labelled, validation, trainer)
    frames = lesson.frames
    num_cached = frames.cache(config.loader.cache_gb)
    log.info('%d training frames, %d of them in memory', len(frames), num_cached)
    task = _create_task(config, taxonomy, labelled, lesson)
    if not resume:  # what it started from may be gone since
        _load_first_weights(task, config, taxonomy)
    if trainer.global_rank:  # the same first weights everywhere, but not the same dropout
        torch.manual_seed(config.seed + (trainer.global_rank << 32))
    spec = config.model.input_spec(task.input_multiple)
    reader = lesson.reader(task.output_stride)
    loader, sampler = create_training_loader(
        config, frames, spec, trainer.global_rank, reader, lesson.strengths
    )
    accumulate = config.optimizer.accumulate
    sampler.first_step = lambda: trainer.global_step * accumulate
    views = _validation_views(config, validation, spec)
    recorder = Recorder(config.folder, taxonomy, _part(views, trainer), command)
    cast(Any, trainer).callbacks += _callbacks(config, taxonomy, recorder, views)
    state = RunState(
        folder=config.folder,
        batch_size=config.loader.batch_size,
        accumulate=accumulate,
        step=lambda: trainer.global_step,
        batch_files=lambda batch: [frames.files[key[1]].image for key in sampler.keys(batch)],
        file_suffix=f'_rank{trainer.global_rank}' if trainer.global_rank else '',
    )
    atexit.register(end_started_processes, trainer)
    with recorder.saving_on_interrupt(), explained(state):
        trainer.fit(task, loader, ckpt_path=str(last) if resume else None, weights_only=True)
    assert recorder.scores is not None  # the last step is always validated
    return recorder.scores


def _settled(config: TrainConfig, resume: bool) -> TrainConfig:
    """Return the run with everything that its configuration leaves to machine and start."""
    config = replace(config, precision=resolve_precision(config.precision))
    config = with_channels_of_start(config, resume=resume)
    return without_variation(config) if config.overfit_frames else config


def resolve_precision(precision: Precision) -> Precision:
    """Turn ``auto`` into ``bf16`` where this machine computes it natively, else ``fp32``."""
    if precision != 'auto':
        return precision
    if torch.cuda.is_available():
        return 'bf16' if torch.cuda.is_bf16_supported(including_emulation=False) else 'fp32'
    return 'bf16' if computes_bf16() else 'fp32'


def _prepare_folder(config: TrainConfig, resume: bool, taxonomy: Taxonomy, writes: bool) -> Path:
    """Make the run's folder and return its ``last.ckpt``; refuse to mix two runs."""
    last = config.folder / 'last.ckpt'
    if not resume:
        if last.exists():
            raise ConfigError(
                f'{config.folder} holds a run already; continue it with --resume, give another '
                'name=..., or delete the folder'
            )
        if writes:
            with atomic_path(config.folder / 'config.yaml') as temporary:
                temporary.write_text(yaml.safe_dump(dump_config(config), sort_keys=False))
        return last
    if not last.exists():
        raise ConfigError(f'{last}: nothing to resume; start the run without --resume')
    checkpoint = load_checkpoint(last)
    before, now = dump_config(checkpoint.config), dump_config(config)
    changed = [key for key in {**now, **before} if now.get(key) != before.get(key)]
    if changed:
        raise ConfigError(
            f'{last} is of a run with another configuration; these sections differ: '
            f'{", ".join(changed)}; restore them (see config.yaml beside it) or give another name'
        )
    if checkpoint.info['taxonomy_sha256'] != taxonomy.sha256():
        raise ConfigError(
            f'{last} is of a run with other classes than {config.taxonomy} has now; restore that '
            'file, or start another run from it: name=..., init_checkpoint=...'
        )
    if writes:
        for leftover in config.folder.glob('.*.ckpt'):  # of a run that was killed while it saved
            leftover.unlink()
    return last


def _frames(config: TrainConfig, taxonomy: Taxonomy) -> tuple[FrameSet, FrameSet]:
    """Return the frames to train and to validate on."""
    frames = config.dataset.frames('train', taxonomy)
    if config.overfit_frames:
        frames = frames.subset(range(min(config.overfit_frames, len(frames))))
        return frames, frames
    return frames, config.dataset.frames('validation', taxonomy)


def _lesson(
    config: TrainConfig,
    taxonomy: Taxonomy,
    frames: FrameSet,
    validation: FrameSet,
    trainer: lightning.Trainer,
) -> Lesson:
    """Return the frames with what teachers say of them, where there are any."""
    if config.distillation is None:
        return Lesson(frames)
    spec = config.model.input_spec(stride=1)
    part = (trainer.global_rank, trainer.world_size)
    return prepare_lesson(config.distillation, taxonomy, spec, frames, part, validation)


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries; this code has its own generators
    torch.manual_seed(seed)
    cv2.setNumThreads(1)  # batches are prepared beside the training threads


def _create_task(
    config: TrainConfig, taxonomy: Taxonomy, frames: FrameSet, lesson: Lesson
) -> SegmentationTask:
    weights, shares = _class_balance(config, taxonomy, frames)
    if config.distillation is None:
        return SegmentationTask(config, taxonomy.num_classes, weights, shares)
    return DistillationTask(config, taxonomy.num_classes, weights, shares, lesson.classes)


def _load_first_weights(task: SegmentationTask, config: TrainConfig, taxonomy: Taxonomy) -> None:
    if config.model.weights is not None:
        load_encoder_weights(task.model, config.model.weights)
    if config.init_checkpoint is not None:
        initialize_from(task.model, config.init_checkpoint, taxonomy)
    task.average.load_state_dict(task.model.state_dict())


def _class_balance(
    config: TrainConfig, taxonomy: Taxonomy, frames: FrameSet
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the classes' weights in the loss and their shares of the pixels, where wanted."""
    loss = config.loss
    if not isinstance(loss.class_weights, str) and len(loss.class_weights) not in (
        0,
        taxonomy.num_classes,
    ):
        raise ConfigError(
            f'loss.class_weights has {len(loss.class_weights)} values, expected '
            f'{taxonomy.num_classes}, one for each class of {taxonomy.name}'
        )
    weights = shares = None
    if not isinstance(loss.class_weights, str):
        weights = torch.tensor(loss.class_weights) if loss.class_weights else None
    if isinstance(loss.class_weights, str) or loss.needs_class_shares:
        counts = ClassCounts.of(count_frames(frames), taxonomy.num_classes)
        shares = torch.from_numpy(counts.pixels / max(1, counts.pixels.sum())).float()
        if isinstance(loss.class_weights, str):
            computed = class_weights(counts, loss.class_weights, loss.max_class_weight)
            weights = torch.from_numpy(computed).float()
    return weights, shares


def _validation_views(config: TrainConfig, frames: FrameSet, spec: InputSpec) -> Subset:
    return Subset(ValidationViews(frames, spec), config.validated(len(frames)))


def _part(views: Subset, trainer: lightning.Trainer) -> DataLoader:
    """Return the frames that this process validates."""
    own = Subset(views, range(trainer.global_rank, len(views), trainer.world_size))
    return DataLoader(own, batch_size=None, collate_fn=_unchanged)


def _unchanged(frame: Any) -> Any:
    return frame


def _callbacks(
    config: TrainConfig, taxonomy: Taxonomy, recorder: Recorder, views: Subset
) -> list[lightning.Callback]:
    views_of_step = config.loader.batch_size * config.optimizer.accumulate
    images_per_step = views_of_step * config.distributed.world_size
    callbacks = [RandomStates(), Progress(images_per_step, lambda: recorder.scores), recorder]
    if config.tensorboard:
        shown = Subset(views, range(0, len(views), -(-len(views) // NUM_PICTURES)))
        pictures = DataLoader(shown, batch_size=None, collate_fn=_unchanged)
        folder = config.folder / 'tensorboard'
        callbacks.append(TensorBoardLog(folder, recorder, taxonomy, pictures))
    return callbacks


def _create_trainer(config: TrainConfig) -> lightning.Trainer:
    return lightning.Trainer(
        max_steps=config.optimizer.max_steps,
        max_epochs=1,
        accumulate_grad_batches=config.optimizer.accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **_precision_options(config.precision),
        **trainer_options(
            config.distributed, os.environ, config.optimizer.freeze_encoder_steps > 0
        ),
    )


def _precision_options(precision: Precision) -> dict[str, Any]:
    if precision == 'fp16':
        # Asked for by name, Lightning would compute in bfloat16 on a processor.
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        return {'plugins': [lightning.plugins.MixedPrecision('16-mixed', device)]}
    return {'precision': 'bf16-mixed' if precision == 'bf16' else '32-true'}
