"""A training run with the counts that its report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from offroad_seg_core.config import ConfigError
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.evaluation.frame_scores import FrameScores
from offroad_seg_core.evaluation.predictions import PredictionOptions, score_checkpoint
from offroad_seg_core.evaluation.run_record import ClassLegend, RunRecord, read_run
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.taxonomy import TaxonomyError
from offroad_seg_core.training.checkpoint import CheckpointError, load_checkpoint
from offroad_seg_core.world.identity import StaleDatasetError

CHECKPOINTS = ('best.ckpt', 'last.ckpt')


@dataclass(frozen=True)
class EvaluatedRun:
    """What a report shows of a run.

    Attributes:
        record: What training wrote.
        matrices: Environment -> counts; of the predictions if there are some, else those of the
            last validation; empty without either.
        source: Where ``matrices`` are from, as a sentence.
        frames: Scores and pictures of single frames; None without predictions.
        notes: What is missing, as sentences.
    """

    record: RunRecord
    matrices: Mapping[str, ConfusionMatrix]
    source: str
    frames: FrameScores | None
    notes: tuple[str, ...]

    @property
    def classes(self) -> ClassLegend:
        """What the scores are of."""
        return self.record.classes

    @property
    def matrix(self) -> ConfusionMatrix | None:
        """Return the counts of all environments together."""
        return reduce(ConfusionMatrix.merge, self.matrices.values()) if self.matrices else None


def evaluate_run(path: str | Path, options: PredictionOptions | None) -> EvaluatedRun:
    """Read a run and, where its checkpoint and its frames are there, predict them again.

    Args:
        path: The run's folder, or its ``result.json`` alone.
        options: What to predict; None for nothing.

    Raises:
        RunError: There is no run, or a file holds something else.
    """
    record = read_run(path)
    source = 'no validation yet'
    if record.matrices:
        source = f'the last validation in training, step {record.result.get("step", "unknown")}'
    recorded = EvaluatedRun(record, record.matrices, source, None, record.notes)
    if options is None:
        return recorded
    found = [file for file in (record.path / name for name in CHECKPOINTS) if file.is_file()]
    if not found:
        note = f'No {" or ".join(CHECKPOINTS)}: no pictures, no scores of single frames.'
        return replace(recorded, notes=(*record.notes, note))
    try:
        return _predicted(record, found[0], options)
    except (CheckpointError, ConfigError, DatasetError, StaleDatasetError, TaxonomyError) as error:
        note = f'No pictures, no scores of single frames: {error} (or give other frames)'
        return replace(recorded, notes=(*record.notes, note))


def _predicted(record: RunRecord, path: Path, options: PredictionOptions) -> EvaluatedRun:
    checkpoint = load_checkpoint(path)
    names = checkpoint.taxonomy.names
    if record.classes.names not in ((), names):
        raise CheckpointError(f'{path}: is of other classes than the scores beside it')
    frames = score_checkpoint(checkpoint, options)
    step = checkpoint.info['step']
    source = f'{path.name} of step {step}, measured for this report on {len(frames.frames)} of '
    source += f'{frames.num_available} validation frames'
    before = [row.miou_present for row in record.validations if row.step == step]
    if before and options.dataset is None:
        source += f' (in training its mIoU was {before[0]:.4f})'
    record = replace(record, classes=ClassLegend.of(checkpoint.taxonomy))
    return EvaluatedRun(record, frames.matrices, source, frames, record.notes)
