"""Write a run's log, checkpoints and result while it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
import csv
import json
import logging
import math
from pathlib import Path
import signal
import threading
import time
from types import FrameType
from typing import Any

import torch

from offroad_seg_core import provenance
from offroad_seg_core.config import dump_config
from offroad_seg_core.files import atomic_path
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.metrics.segmentation import SegmentationScores, segmentation_scores
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_core.training.checkpoint import FORMAT_VERSION, KEY, load_checkpoint
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.distributed import (
    all_equal_buffers,
    any_process,
    summed_matrices,
)
from offroad_seg_core.training.lightning_import import lightning
from offroad_seg_core.training.task import SegmentationTask
from offroad_seg_core.training.validation import confusion_matrices, merged

log = logging.getLogger(__name__)

_RESUMED = ('elapsed_s', 'best_step', 'best_miou_present', 'miou_present', 'scores')


class TrainingInterruptedError(RuntimeError):
    """Ctrl-C: the state was saved. The message says how to resume."""


class Recorder(lightning.Callback):
    """Keep ``last.ckpt``, ``best.ckpt``, ``steps.csv``, ``validation.jsonl`` and ``result.json``.

    Checkpoints replace one another atomically: a full disk or a power cut leaves the old one.
    Inside ``saving_on_interrupt`` the first Ctrl-C ends training after the current step with
    ``last.ckpt`` up to date; a second one ends it at once.

    Where several processes train together, each validates on its part of the frames and the
    first one writes.

    Everything is saved after a whole step and from this one place, so that there is one kind of
    state to resume from. Lightning's own validation comes after its callbacks have seen the step.

    Args:
        folder: Where the files are.
        taxonomy: Of the labels.
        frames: To validate on, see ``ValidationViews``.
        command: How the run was started, for the record.

    Attributes:
        scores: Of the last validation; None before it.
        validated_step: Its step.
    """

    def __init__(
        self, folder: Path, taxonomy: Taxonomy, frames: Iterable[dict[str, Any]], command: str
    ) -> None:
        self.folder = folder
        self.scores: SegmentationScores | None = None
        self.validated_step = -1
        self._taxonomy = taxonomy
        self._frames = frames
        self._info: dict[str, Any] = {
            'command': command,
            'git_commit': provenance.git_commit(),
            'taxonomy_sha256': taxonomy.sha256(),
            'elapsed_s': 0.0,
            'best_step': 0,
            'best_miou_present': -1.0,
            'miou_present': math.nan,
            'scores': {},
        }
        self._started_s = time.monotonic()
        self._elapsed_before_s = 0.0
        self._last_step = 0
        self._stop = False

    # Lightning stores these with the checkpoint and gives them back on resume.
    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on with."""
        return {key: self._info[key] for key in _RESUMED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the time, the best result and the last one of the run that is resumed."""
        self._info.update(state_dict)
        self._elapsed_before_s = state_dict['elapsed_s']

    @contextmanager
    def saving_on_interrupt(self) -> Iterator[None]:
        """Let the first Ctrl-C inside the block end the training after its current step."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Drop log lines from beyond the step that is resumed."""
        self._started_s = time.monotonic()
        self._last_step = trainer.global_step
        if trainer.is_global_zero:
            _keep_csv_rows(self.folder / 'steps.csv', trainer.global_step)
            _keep_json_rows(self.folder / 'validation.jsonl', trainer.global_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log and validate some steps; after Ctrl-C, save and stop."""
        step = trainer.global_step
        if step == self._last_step:  # this batch's gradients wait for those of further ones
            return
        self._last_step = step
        config = pl_module.config
        if trainer.is_global_zero and (step % config.log_every == 0 or step == 1):
            (_, rate), *others = pl_module.learning_rates.items()
            rates = {f'learning_rate_{part}': value for part, value in others}
            self._append_step({'step': step, 'learning_rate': rate, **rates, **pl_module.terms})
        if step % config.validate_every == 0 or step == trainer.max_steps:
            self._validate(trainer, pl_module)
        elif config.checkpoint_every and step % config.checkpoint_every == 0:
            self._save(trainer, 'last.ckpt')
        # Ctrl-C reaches the processes of one training at different steps.
        self._stop = any_process(self._stop, pl_module.device)
        if self._stop:
            self._save(trainer, 'last.ckpt')
            raise TrainingInterruptedError(
                f'stopped at step {step} of {trainer.max_steps}; saved '
                f'{self.folder / "last.ckpt"}; continue with the same command and --resume'
            )

    def _validate(self, trainer: lightning.Trainer, task: SegmentationTask) -> None:
        """Measure, record the scores, keep the best checkpoint and the last."""
        step = trainer.global_step
        all_equal_buffers(task.average)
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            matrices = confusion_matrices(task.average_logits, self._frames, task.num_classes)
        matrices = summed_matrices(matrices, task.num_classes, task.device)
        scores = segmentation_scores(merged(matrices.values()), self._taxonomy)
        self.scores, self.validated_step = scores, step
        self._info.update(miou_present=scores.miou_present, scores=scores.to_dict())
        row = {'step': step, 'elapsed_s': round(self._elapsed_s(), 1), **scores.to_dict()}
        if trainer.is_global_zero:
            with open(self.folder / 'validation.jsonl', 'a', encoding='utf-8') as stream:
                stream.write(json.dumps(row) + '\n')
        log.info('step %d: mIoU over present classes %.4f', step, scores.miou_present)
        if scores.miou_present > self._info['best_miou_present']:
            self._info.update(best_step=step, best_miou_present=scores.miou_present)
            self._save(trainer, 'best.ckpt')
        patience_steps = task.config.early_stopping * task.config.validate_every
        if patience_steps and step - self._info['best_step'] >= patience_steps:
            log.info('stopping early: no better validation since step %d', self._info['best_step'])
            trainer.should_stop = True
        if trainer.is_global_zero:  # first, so that a finished run that can be resumed has one
            self._write_result(task, step, matrices, trainer.should_stop)
        self._save(trainer, 'last.ckpt')

    def _save(self, trainer: lightning.Trainer, name: str) -> None:
        self._info['elapsed_s'] = self._elapsed_s()
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.folder / name)  # takes part, but writes nothing
            return
        with atomic_path(self.folder / name) as temporary:
            trainer.save_checkpoint(temporary)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Add what explains the weights."""
        checkpoint[KEY] = {
            'format_version': FORMAT_VERSION,
            'config': dump_config(pl_module.config),
            'taxonomy': self._taxonomy.to_dict(),
            'info': {
                **self._info,
                'step': trainer.global_step,
                'config_sha256': provenance.config_sha256(pl_module.config),
            },
        }

    def _write_result(
        self,
        task: SegmentationTask,
        step: int,
        matrices: dict[str, ConfusionMatrix],
        stopped_early: bool,
    ) -> None:
        environments = {
            name: {
                'scores': segmentation_scores(matrix, self._taxonomy).to_dict(),
                'confusion_matrix': matrix.counts.tolist(),
            }
            for name, matrix in sorted(matrices.items())
        }
        content = {
            **self._info,
            'elapsed_s': round(self._elapsed_s(), 1),
            'step': step,
            'finished': stopped_early or step >= task.config.optimizer.max_steps,
            'stopped_early': stopped_early,
            'config': dump_config(task.config),
            'config_sha256': provenance.config_sha256(task.config),
            'seed': task.config.seed,
            'cpu': provenance.cpu_name(),
            'versions': provenance.versions(),
            'environments': environments,
        }
        with atomic_path(self.folder / 'result.json') as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding='utf-8')

    def _append_step(self, row: dict[str, float]) -> None:
        path = self.folder / 'steps.csv'
        columns = list(row)
        if path.exists():  # a run that an earlier version began keeps its columns
            with open(path, newline='', encoding='utf-8') as stream:
                columns = next(csv.reader(stream))
        with open(path, 'a', newline='', encoding='utf-8') as stream:
            writer = csv.DictWriter(stream, fieldnames=columns, extrasaction='ignore')
            if stream.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._started_s

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        log.warning('interrupted: saving after this step; press Ctrl-C again to stop at once')


def finished_scores(
    config: TrainConfig, last: Path, taxonomy: Taxonomy
) -> SegmentationScores | None:
    """Return the scores of a run that is over: at its last step, or stopped early; else None.

    Args:
        config: The run.
        last: Its ``last.ckpt``.
        taxonomy: Its classes.
    """
    file = last.with_name('result.json')
    step = load_checkpoint(last).info['step']
    result = json.loads(file.read_text()) if file.exists() else {}
    # A result of a later step is of a run that was killed before it saved that step.
    is_over = step >= config.optimizer.max_steps or result.get('stopped_early')
    if not is_over or result.get('step') != step:
        return None
    rows = [entry['confusion_matrix'] for entry in result['environments'].values()]
    matrices = [ConfusionMatrix.from_counts(entry, file) for entry in rows]
    return segmentation_scores(merged(matrices), taxonomy)


def _keep_csv_rows(path: Path, last_step: int) -> None:
    lines = _whole_lines(path)
    if not lines:
        path.unlink(missing_ok=True)
    else:
        kept = [row for row in lines[1:] if int(row.partition(',')[0]) <= last_step]
        with atomic_path(path) as temporary:
            temporary.write_text(lines[0] + ''.join(kept), encoding='utf-8')


def _keep_json_rows(path: Path, last_step: int) -> None:
    lines = _whole_lines(path)
    if lines:
        kept = [row for row in lines if json.loads(row)['step'] <= last_step]
        with atomic_path(path) as temporary:
            temporary.write_text(''.join(kept), encoding='utf-8')


def _whole_lines(path: Path) -> list[str]:
    """Return the lines of a file; one without an end was being written when the run died."""
    if not path.exists():
        return []
    lines = path.read_text(encoding='utf-8').splitlines(keepends=True)
    return [line for line in lines if line.endswith('\n')]
