"""Curves and pictures of a training for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from offroad_seg_core.config import ConfigError
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_core.training.lightning_import import lightning
from offroad_seg_core.training.recorder import Recorder
from offroad_seg_core.training.task import SegmentationTask
from offroad_seg_core.training.validation import predict
from offroad_seg_core.visualization import colorize

NUM_PICTURES = 4
_GAP_PX = 4


def check_tensorboard() -> None:
    """Refuse a run that wants TensorBoard where it is not installed.

    Raises:
        ConfigError: Says how to install it.
    """
    if find_spec('tensorboard') is None:
        raise ConfigError(
            'tensorboard is true, but the package is not installed; pip install tensorboard, or '
            'set it to false: steps.csv and validation.jsonl hold the same numbers'
        )


class TensorBoardLog(lightning.Callback):
    """Write losses, learning rates, scores and some validation pictures; the first process alone.

    Args:
        folder: Where to; TensorBoard's ``--logdir``.
        recorder: Comes before this in the trainer's callbacks.
        taxonomy: Of the labels.
        frames: Validation frames to show, see ``ValidationViews``.
    """

    def __init__(
        self,
        folder: Path,
        recorder: Recorder,
        taxonomy: Taxonomy,
        frames: Iterable[dict[str, Any]],
    ) -> None:
        self._folder = folder
        self._recorder = recorder
        self._taxonomy = taxonomy
        self._frames = frames
        self._writer: Any = None
        self._last_step = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Open the log; what is beyond the step that is resumed is dropped."""
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter

            self._last_step = trainer.global_step
            purge_step = trainer.global_step + 1 if trainer.global_step else None
            self._writer = SummaryWriter(str(self._folder), purge_step=purge_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the step, if it is one that steps.csv has, and its validation."""
        step = trainer.global_step
        if self._writer is None or step == self._last_step:
            return
        self._last_step = step
        if step % pl_module.config.log_every == 0 or step == 1:
            for name, value in pl_module.terms.items():
                self._writer.add_scalar(f'loss/{name}', value, step)
            for part, rate in pl_module.learning_rates.items():
                self._writer.add_scalar(f'learning_rate/{part}', rate, step)
        if self._recorder.validated_step == step:
            self._write_scores(step)
            with torch.inference_mode(), trainer.precision_plugin.forward_context():
                self._write_pictures(pl_module, step)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Close the log."""
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Close the log."""
        self._close()

    def _write_scores(self, step: int) -> None:
        scores = self._recorder.scores
        assert scores is not None
        self._writer.add_scalar('validation/miou_present', scores.miou_present, step)
        for name, iou in scores.iou.items():
            if not math.isnan(iou):
                self._writer.add_scalar(f'validation_iou/{name}', iou, step)

    def _write_pictures(self, task: SegmentationTask, step: int) -> None:
        for index, frame in enumerate(self._frames):
            label_map = predict(task.average_logits, frame).cpu().numpy()
            picture = compose_picture(frame, label_map, self._taxonomy)
            self._writer.add_image(f'validation/{index}', picture, step, dataformats='HWC')
        self._writer.flush()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def compose_picture(
    frame: dict[str, Any], label_map: np.ndarray, taxonomy: Taxonomy
) -> np.ndarray:
    """Return image, truth and prediction side by side, RGB uint8 ``(h, 3 w + 8, 3)``.

    Args:
        frame: See ``ValidationViews``.
        label_map: Predicted, ``(H, W)`` uint8, of the target's size.
        taxonomy: Has the colours.
    """
    height, width = frame['content_size']
    image = frame['image'].numpy()[:height, :width]
    truth, found = (
        colorize(
            cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST),
            taxonomy.palette_rgb,
        )
        for labels in (frame['target'], label_map)
    )
    gap = np.full((height, _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([image, gap, truth, gap, found], axis=1)
