"""The result of an evaluation as files: ``summary.json``, the table, the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offroad_seg_core.evaluation.counting import SHARE, Row
from offroad_seg_core.evaluation.frame_table import read_table, write_table
from offroad_seg_core.evaluation.parts import PartResult
from offroad_seg_core.evaluation.recording import problem_counts, recording_facts
from offroad_seg_core.evaluation.sources.frame import LEFT_OUT, TARGET
from offroad_seg_core.evaluation.summary import (
    FORMAT_VERSION,
    SUMMARY,
    ResultError,
    read_summary,
    write_summary,
)
from offroad_seg_core.metrics.arithmetic import plain
from offroad_seg_core.metrics.meter import SegmentationMeter, Tally
from offroad_seg_core.places import OutputError
from offroad_seg_core.provenance import cpu_name, git_commit, versions

if TYPE_CHECKING:  # it imports this module
    from offroad_seg_core.evaluation.evaluate import Evaluation

_TIMINGS = ('preprocess_ms', 'engine_ms', 'decode_ms', 'latency_ms')
_TIMED = ('bag', 'video')


def check_place(evaluation: Evaluation) -> None:
    """Refuse to let a result take the place of one of another source or model.

    Raises:
        OutputError: Naming what is there.
        ResultError: It cannot be told.
    """
    if not (evaluation.output / SUMMARY).is_file():
        return
    older = read_summary(evaluation.output)
    source, model = evaluation.source.description(), evaluation.predictor.description()
    is_same = source['path'] == older['source']['path'] and all(
        plain(model[key]) == older['model'][key] for key in ('model', 'options')
    )
    if not is_same:
        got = f'a result of {older["source"]["path"]} by {older["model"]["model"]}'
        fix = 'name the place of this one: --output DIR; one that is named is replaced'
        raise OutputError(f'{evaluation.output}: got {got}, expected a free name; fix: {fix}')


def write_result(
    folder: Path, evaluation: Evaluation, parts: Sequence[PartResult], speed: float
) -> None:
    """Write table and summary of a complete evaluation.

    Args:
        folder: Of the result.
        evaluation: What was done.
        parts: All of them.
        speed: Frames per second of the last run; 0 if there was nothing left to do.

    Raises:
        ValueError: No frame got labels; names the reasons.
    """
    rows = [row for part in parts for row in part.rows]
    source = evaluation.source.description()
    told = [*(note for part in parts for note in part.notes), *evaluation.source.notes]
    notes = list(dict.fromkeys([*told, *_unmatched(evaluation, rows, source)]))
    problems = problem_counts([row['problem'] for row in rows])
    num_labelled = sum('unlabeled_share' in row for row in rows)
    if not num_labelled:
        reasons = '; '.join(f'{p["count"]} x {p["problem"]}' for p in problems[:3])
        reasons = reasons or '; '.join(notes) or 'no frames'
        raise ResultError(f'got no frame with labels of {len(rows)}, expected some: {reasons}')
    files = write_table(folder, rows)
    columns = read_table(folder)
    tallies = _merge(evaluation, parts)
    summary = {
        'format_version': FORMAT_VERSION,
        **_subject(evaluation, source, notes),
        'num_frames': len(rows),
        'num_labelled': num_labelled,
        'num_with_truth': sum('miou_present' in row for row in rows),
        'problems': problems,
        'recording': _recording(columns, source),
        'means': _means(columns),
        'timings_ms': _timings(columns),
        'frames_per_s': round(speed, 3) or None,
        'scores': _scores(evaluation, tallies),
        'counts': {name: _counts(tally) for name, tally in sorted(tallies.items())},
        'files': files,
        'environment': {
            'versions': versions(),
            'commit': git_commit(),
            'cpu': cpu_name(),
            'cores': len(os.sched_getaffinity(0)),
        },
    }
    write_summary(folder, summary)


def _subject(
    evaluation: Evaluation, source: dict[str, Any], notes: Sequence[str]
) -> dict[str, Any]:
    """Return what was evaluated: the frames, the model, its classes."""
    if 'left_out' in source:  # before an interruption, too
        lost = [note for note in notes if LEFT_OUT in note]
        source['left_out'] = list(dict.fromkeys([*source['left_out'], *lost]))
    source['path'] = evaluation.path or source['path']
    taxonomy, costs = evaluation.predictor.taxonomy, evaluation.predictor.cost_table
    return {
        'title': evaluation.title or Path(source['path']).name,
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'source': source,
        'notes': notes,
        'model': evaluation.predictor.description(),
        'reference': evaluation.reference.description() if evaluation.reference else None,
        'taxonomy': taxonomy.to_dict(),
        'costs': [int(costs[index]) for index in range(taxonomy.num_classes)],
    }


def _unmatched(
    evaluation: Evaluation, rows: Sequence[Row], source: Mapping[str, Any]
) -> Iterator[str]:
    """Yield a note for what was asked for and belongs to no frame: truth of a drive, latencies."""
    found: dict[str, bool] = {}
    for row in rows:
        drive = row['camera'].partition('/')[0] if 'kinds' in source else ''
        has_truth = 'miou_present' in row or f'{TARGET}: ' in row['problem']
        found[drive] = found.get(drive, False) or has_truth
    for drive in (name for name, has_truth in found.items() if evaluation.truth and not has_truth):
        got = f'truth of no frame{drive and " of " + drive}'
        fix = 'name label files after frames, or take the labels of this drive'
        yield f'{evaluation.truth}: got {got}, expected names or stamps of frames; fix: {fix}'
    if evaluation.latencies_ms and not any('latency_ms' in row for row in rows):
        fix = 'take those of this drive'
        yield f'latencies: got those of no frame, expected stamps of frames; fix: {fix}'


def add_note(folder: Path, note: str) -> None:
    """Add what could not be done to the summary of a result."""
    summary = read_summary(folder)
    summary['notes'].append(note)
    write_summary(folder, summary)


def _merge(evaluation: Evaluation, parts: Sequence[PartResult]) -> dict[str, Tally]:
    """Add up the counts of all parts: exact, as they are whole numbers."""
    total: dict[str, Tally] = {}
    for part in parts:
        for environment, tally in part.tallies.items():
            total.setdefault(environment, evaluation.new_tally()).add(tally)
    return total


def _scores(evaluation: Evaluation, tallies: Mapping[str, Tally]) -> dict[str, Any] | None:
    if not tallies:
        return None
    predictor = evaluation.predictor
    meter = SegmentationMeter(predictor.taxonomy, evaluation.meter, predictor.cost_table)
    meter.tallies = dict(sorted(tallies.items()))
    scores = meter.to_dict()
    for entry in (scores['together'], *scores['environments'].values()):
        del entry['images']  # the table has them
    return scores


def _counts(tally: Tally) -> dict[str, Any]:
    """Return what the scores are made of, so that results can be added and drawn."""
    return {
        'confusion_matrix': tally.matrix.counts.tolist(),
        'calibration': tally.calibration.counts.tolist(),
    }


def _recording(columns: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of cameras whose frames have times: of several drives, theirs."""
    kinds = source.get('kinds', {})
    return {
        camera: facts
        for camera, facts in recording_facts(columns).items()
        if kinds.get(camera.partition('/')[0], source['kind']) in _TIMED
    }


def _means(columns: Mapping[str, Any]) -> dict[str, float]:
    names = ('mean_confidence', 'unlabeled_share', 'free_share', 'costly_share')
    wanted = [name for name in columns if name in names or name.startswith(SHARE)]
    return {
        name: round(float(np.nanmean(columns[name])), 6) for name in wanted if _has(columns[name])
    }


def _timings(columns: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {
        name: {
            'p50': round(float(np.nanpercentile(columns[name], 50)), 3),
            'p95': round(float(np.nanpercentile(columns[name], 95)), 3),
        }
        for name in _TIMINGS
        if name in columns and _has(columns[name])
    }


def _has(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())
