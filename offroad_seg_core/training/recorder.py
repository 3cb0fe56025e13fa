"""Write a run's log, checkpoints and result while it trains."""

from __future__ import annotations

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

from offroad_seg_core.config import dump_config
from offroad_seg_core.files import atomic_path
from offroad_seg_core.metrics.segmentation import segmentation_scores
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_core.training import provenance
from offroad_seg_core.training.checkpoint import FORMAT_VERSION, KEY
from offroad_seg_core.training.lightning_import import lightning
from offroad_seg_core.training.task import SegmentationTask

log = logging.getLogger(__name__)

LOG_EVERY = 10  # steps


class TrainingInterruptedError(RuntimeError):
    """Ctrl-C: the state was saved. The message says how to resume."""


class Recorder(lightning.Callback):
    """Keep ``last.ckpt``, ``best.ckpt``, ``steps.csv``, ``validation.jsonl`` and ``result.json``.

    Checkpoints replace one another atomically: a full disk or a power cut leaves the old one.
    The first Ctrl-C ends training after the current step with ``last.ckpt`` up to date; a second
    one ends it at once.

    Args:
        folder: Where the files are.
        taxonomy: Of the labels.
        command: How the run was started, for the record.
    """

    def __init__(self, folder: Path, taxonomy: Taxonomy, command: str) -> None:
        self.folder = folder
        self._taxonomy = taxonomy
        self._info: dict[str, Any] = {
            'command': command,
            'git_commit': provenance.git_commit(),
            'taxonomy_sha256': taxonomy.sha256(),
            'elapsed_s': 0.0,
            'best_step': 0,
            'best_miou_present': -1.0,
            'miou_present': math.nan,
        }
        self._started_s = time.monotonic()
        self._elapsed_before_s = 0.0
        self._stop = False
        self._previous_handler: Any = None

    # Lightning stores these with the checkpoint and gives them back on resume.
    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on with."""
        return {key: self._info[key] for key in ('elapsed_s', 'best_step', 'best_miou_present')}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the time and the best result of the run that is resumed."""
        self._info.update(state_dict)
        self._elapsed_before_s = state_dict['elapsed_s']

    def on_fit_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Listen to Ctrl-C, and drop log lines from beyond the step that is resumed."""
        self._started_s = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGINT, self._on_interrupt)
        _keep_csv_rows(self.folder / 'steps.csv', trainer.global_step)
        _keep_json_rows(self.folder / 'validation.jsonl', trainer.global_step)

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Give Ctrl-C back."""
        self._restore_handler()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: Any) -> None:
        """Give Ctrl-C back; Lightning tears nothing down after an exception."""
        self._restore_handler()

    def _restore_handler(self) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log some steps; after Ctrl-C, save and stop."""
        step = trainer.global_step
        if step % LOG_EVERY == 0 or step == 1:
            rate = trainer.optimizers[0].param_groups[0]['lr']
            self._append_step({'step': step, 'learning_rate': rate, **pl_module.terms})
        if self._stop:
            self._save(trainer, pl_module, 'last.ckpt')
            raise TrainingInterruptedError(
                f'stopped at step {step} of {trainer.max_steps}; saved '
                f'{self.folder / "last.ckpt"}; continue with the same command and --resume'
            )

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Record the scores, keep the best checkpoint and the last."""
        assert isinstance(pl_module, SegmentationTask)
        step = trainer.global_step
        scores = segmentation_scores(pl_module.matrix(), self._taxonomy)
        self._info['miou_present'] = scores.miou_present
        row = {'step': step, 'elapsed_s': round(self._elapsed_s(), 1), **scores.to_dict()}
        with open(self.folder / 'validation.jsonl', 'a', encoding='utf-8') as stream:
            stream.write(json.dumps(row) + '\n')
        log.info('step %d: mIoU over present classes %.4f', step, scores.miou_present)
        if scores.miou_present > self._info['best_miou_present']:
            self._info.update(best_step=step, best_miou_present=scores.miou_present)
            self._save(trainer, pl_module, 'best.ckpt')
        self._save(trainer, pl_module, 'last.ckpt')
        self._write_result(pl_module, step)

    def _save(self, trainer: lightning.Trainer, task: SegmentationTask, name: str) -> None:
        self._info['elapsed_s'] = self._elapsed_s()
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

    def _write_result(self, task: SegmentationTask, step: int) -> None:
        environments = {
            name: {
                'scores': segmentation_scores(matrix, self._taxonomy).to_dict(),
                'confusion_matrix': matrix.counts.tolist(),
            }
            for name, matrix in sorted(task.matrices.items())
        }
        content = {
            **self._info,
            'elapsed_s': round(self._elapsed_s(), 1),
            'step': step,
            'finished': step >= task.config.optimizer.max_steps,
            'config': dump_config(task.config),
            'config_sha256': provenance.config_sha256(task.config),
            'seed': task.config.seed,
            'cpu': provenance.cpu_name(),
            'versions': provenance.versions(),
            'scores': segmentation_scores(task.matrix(), self._taxonomy).to_dict(),
            'environments': environments,
        }
        with atomic_path(self.folder / 'result.json') as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding='utf-8')

    def _append_step(self, row: dict[str, float]) -> None:
        path = self.folder / 'steps.csv'
        is_new = not path.exists()
        with open(path, 'a', newline='', encoding='utf-8') as stream:
            writer = csv.DictWriter(stream, fieldnames=list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._started_s

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        log.warning('interrupted: saving after this step; press Ctrl-C again to stop at once')


def _keep_csv_rows(path: Path, last_step: int) -> None:
    if path.exists():
        header, *rows = path.read_text(encoding='utf-8').splitlines(keepends=True)
        kept = [row for row in rows if int(row.partition(',')[0]) <= last_step]
        with atomic_path(path) as temporary:
            temporary.write_text(header + ''.join(kept), encoding='utf-8')


def _keep_json_rows(path: Path, last_step: int) -> None:
    if path.exists():
        rows = path.read_text(encoding='utf-8').splitlines(keepends=True)
        kept = [row for row in rows if json.loads(row)['step'] <= last_step]
        with atomic_path(path) as temporary:
            temporary.write_text(''.join(kept), encoding='utf-8')
