"""From a finished evaluation to the frames of it that are worth labelling."""

from __future__ import annotations

from contextlib import suppress
import csv
import logging
from pathlib import Path
import shutil
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from offroad_seg_core.evaluation.counting import number_or_none
from offroad_seg_core.evaluation.frame_table import read_table
from offroad_seg_core.evaluation.outputs.sink import safe_name
from offroad_seg_core.evaluation.sources.frame import TARGET, Frame, UniqueNames
from offroad_seg_core.mining.annotation_set import SEPARATOR, AnnotationSet
from offroad_seg_core.mining.selection import choose, hardness, hashes_of, measure_signals

if TYPE_CHECKING:  # it imports this module
    from offroad_seg_core.evaluation.evaluate import Evaluation

log = logging.getLogger(__name__)

FOLDER, TABLE = 'hard_frames', 'frames.csv'


def export_hard_frames(evaluation: Evaluation, folder: Path) -> None:
    """Choose ``evaluation.num_hard`` frames and write them to ``<folder>/hard_frames``.

    The drive is read once more: only the chosen frames are decoded, and labelled again.

    Args:
        evaluation: What was evaluated, with FrameSignals among its sinks.
        folder: Of the result; its table is complete.
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
    wanted = {(row['camera'], row['name']): row['image'] for row in chosen}
    for _, frame in evaluation.source.frames(0, UniqueNames()):
        name = wanted.pop((frame.camera, frame.name), None)
        if name is not None:
            written.add(name, *_labelled(evaluation, frame))
        if not wanted:
            break
    written.finish(evaluation.output / FOLDER)
    with open(place / TABLE, 'w', newline='', encoding='utf-8') as stream:
        writer = csv.DictWriter(stream, list(chosen[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(chosen)
    log.info('%d frames worth labelling in %s', len(chosen), evaluation.output / FOLDER)


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
        for index in choose(scores, hashes_of(columns), count)
    ]


def _labelled(evaluation: Evaluation, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return BGR image and label map of a frame that was labelled before."""
    image = frame.load()
    maps = {}
    for key, load in frame.maps.items():
        if key != TARGET:
            with suppress(ValueError, cv2.error):  # it was no good before, and is done without
                maps[key] = load()
    prediction = evaluation.predictor.predict(frame, image, maps)
    assert prediction is not None, 'what had labels has them again'
    return image.bgr(), prediction.label_map
