"""From a finished evaluation to the frames of it that are worth labelling."""

from __future__ import annotations

from collections.abc import Sequence
import csv
import logging
from pathlib import Path
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from offroad_seg_core.evaluation.counting import number_or_none
from offroad_seg_core.evaluation.frame_table import read_table
from offroad_seg_core.evaluation.outputs.sink import safe_name
from offroad_seg_core.evaluation.parts import PartResult
from offroad_seg_core.evaluation.result import add_note
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.mining.annotation_set import SEPARATOR, AnnotationSet
from offroad_seg_core.mining.reading_again import ReadAgain
from offroad_seg_core.mining.selection import (
    choose,
    hardness,
    hashes_of,
    looks_of,
    measure_signals,
)

if TYPE_CHECKING:  # it imports this module
    from offroad_seg_core.evaluation.evaluate import Evaluation

log = logging.getLogger(__name__)

FOLDER, TABLE = 'hard_frames', 'frames.csv'


def export_hard_frames(evaluation: Evaluation, folder: Path, parts: Sequence[PartResult]) -> None:
    """Choose ``evaluation.num_hard`` frames and write them to ``<folder>/hard_frames``.

    Of the source, what holds them is read once more; they are decoded and labelled again.

    Args:
        evaluation: What was evaluated, with FrameSignals among its sinks.
        folder: Of the result, which is complete; where frames cannot be read any more, its
            summary gets a note.
        parts: All that were evaluated.

    Raises:
        SourceError: None of the frames can be read any more.
    """
    chosen = choose_frames(folder, evaluation.num_hard, evaluation.reference is not None)
    if len(chosen) < evaluation.num_hard:
        log.warning(
            'hard frames: got %d that differ, expected %d; the others look like these',
            len(chosen),
            evaluation.num_hard,
        )
    place = folder / FOLDER
    shutil.rmtree(place, ignore_errors=True)  # of a run that was interrupted here
    written = AnnotationSet(place, evaluation.predictor.taxonomy)
    rows = {(row['camera'], row['name']): row for row in chosen}
    again = ReadAgain(evaluation, parts, set(rows))
    for key, image_bgr, label_map in again:
        written.add(rows[key]['image'], image_bgr, label_map)
    left = [row for key, row in rows.items() if key not in again.missing]
    if again.missing:
        note = f'{len(again.missing)} of {len(rows)} hard frames were not written: {again.reason}'
        if not left:
            raise SourceError(f'{note}; fix: make the source readable and repeat the command')
        log.warning('%s', note)
        add_note(folder, note)
    written.finish(evaluation.output / FOLDER)
    with open(place / TABLE, 'w', newline='', encoding='utf-8') as stream:
        writer = csv.DictWriter(stream, list(chosen[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(left)
    log.info('%d frames worth labelling in %s', len(left), evaluation.output / FOLDER)


def choose_frames(folder: Path, count: int, has_reference: bool) -> list[dict[str, Any]]:
    """Return a row for each frame worth labelling, the most wanted first.

    Args:
        folder: Of a result whose table has FrameSignals' columns.
        count: Most to return.
        has_reference: See measure_signals.
    """
    table = read_table(folder)
    labelled = np.flatnonzero(np.isfinite(table['unlabeled_share']))
    columns = {
        name: values[labelled]
        if isinstance(values, np.ndarray)
        else [values[index] for index in labelled]
        for name, values in table.items()
    }
    signals = measure_signals(columns, has_reference)
    scores = hardness(signals)
    return [
        {
            'image': SEPARATOR.join(safe_name(columns[key][index]) for key in ('camera', 'name')),
            'camera': columns['camera'][index],
            'name': columns['name'][index],
            'stamp_ns': int(columns['stamp_ns'][index]),
            'hardness': number_or_none(scores[index]),
            **{name: number_or_none(values[index]) for name, values in signals.items()},
        }
        for index in choose(scores, hashes_of(columns), looks_of(columns), count)
    ]
