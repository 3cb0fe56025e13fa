"""Write the report of training runs: pages that stand alone, their figures, all their numbers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment
from matplotlib.figure import Figure
import numpy as np

from offroad_seg_core.evaluation.boundary_errors import BoundaryErrors
from offroad_seg_core.evaluation.class_scores import class_scores
from offroad_seg_core.evaluation.evaluated_run import EvaluatedRun, evaluate_run
from offroad_seg_core.evaluation.frame_scores import FrameScores
from offroad_seg_core.evaluation.predictions import PredictionOptions
from offroad_seg_core.evaluation.report.bars import draw_iou, draw_precision_recall, draw_shares
from offroad_seg_core.evaluation.report.comparison import draw_class_bars, draw_mean_curves
from offroad_seg_core.evaluation.report.confusion import MAX_SHOWN, draw_confusion
from offroad_seg_core.evaluation.report.curves import (
    draw_class_curves,
    draw_means,
    draw_training,
    loss_columns,
)
from offroad_seg_core.evaluation.report.frames import (
    draw_boundary,
    draw_iou_histogram,
    draw_pictures,
    draw_reliability,
)
from offroad_seg_core.evaluation.report.numbers import run_numbers
from offroad_seg_core.evaluation.report.page import comparison_page, run_page
from offroad_seg_core.files import atomic_path

_TEMPLATE = Path(__file__).with_name('page.html')
_JPEG_QUALITY = 88
_NEAR_PX = 4
_ALL_FRAMES = PredictionOptions()


class _Drawing(NamedTuple):
    name: str
    title: str
    caption: str
    figure: Figure
    is_photo: bool = False


def write_report(
    folders: Sequence[str | Path],
    output: str | Path,
    options: PredictionOptions | None = _ALL_FRAMES,
) -> Path:
    """Write ``index.html``, ``report.json`` and the figures as PNG files.

    Of several runs the page compares them, and each has a page of its own in a folder of its name.

    Args:
        folders: Of runs, as training wrote them; a ``result.json`` alone will do. Whatever is
            missing is left out of the report, which says so.
        output: Folder; made if need be.
        options: What to predict again for pictures and scores of single frames; None for nothing:
            then the figures are of the last validation in training.

    Returns:
        The path of ``index.html``. It contains its figures.

    Raises:
        RunError: A folder holds no run, or one of its files is damaged.
    """
    if not folders:
        raise ValueError('folders: got none; expected at least one run, such as runs/NAME')
    output = Path(output)
    if len(folders) == 1:
        return _write_run(evaluate_run(folders[0], options), output)
    runs = []
    names: list[str] = []
    for folder in folders:
        run = evaluate_run(folder, options)
        names.append(_unused(run.record.name, names))
        _write_run(run, output / names[-1])
        runs.append(_without_pictures(run))
    numbers = {'runs': {name: run_numbers(run) for name, run in zip(names, runs, strict=True)}}
    page = comparison_page(runs, names, [f'{name}/index.html' for name in names])
    return _write(output, page, _comparison_drawings(runs, names), numbers)


def _unused(name: str, taken: Sequence[str]) -> str:
    """Return a name for a folder that no other run has."""
    plain = ''.join(c if c.isalnum() or c in '-_.' else '_' for c in name).lstrip('.') or 'run'
    candidates = (plain, *(f'{plain}-{number}' for number in range(2, len(taken) + 3)))
    return next(candidate for candidate in candidates if candidate not in taken)


def _without_pictures(run: EvaluatedRun) -> EvaluatedRun:
    """Forget what only the run's own page shows: many runs must fit into memory."""
    return replace(run, frames=None)


def _write_run(run: EvaluatedRun, output: Path) -> Path:
    return _write(output, run_page(run), _drawings(run), run_numbers(run))


def _write(
    output: Path, page: Mapping[str, Any], drawings: Iterable[_Drawing], numbers: Mapping[str, Any]
) -> Path:
    figures = []
    for drawing in drawings:
        picture = _encode(drawing.figure, 'png')
        with atomic_path(output / f'{drawing.name}.png') as path:
            path.write_bytes(picture)
        # Photographs as JPEG: the same as PNG would make the page ten times as large.
        kind = 'jpeg' if drawing.is_photo else 'png'
        shown = _encode(drawing.figure, kind) if drawing.is_photo else picture
        uri = f'data:image/{kind};base64,' + base64.b64encode(shown).decode()
        figures.append(
            {'name': drawing.name, 'title': drawing.title, 'caption': drawing.caption, 'uri': uri}
        )
    templates = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = templates.from_string(_TEMPLATE.read_text(encoding='utf-8'))
    content = {
        'report.json': json.dumps(numbers, indent=1, allow_nan=False) + '\n',
        'index.html': template.render(**page, figures=figures),
    }
    for name, text in content.items():
        with atomic_path(output / name) as path:
            path.write_text(text, encoding='utf-8')
    return output / 'index.html'


def _encode(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {'pil_kwargs': {'quality': _JPEG_QUALITY}} if kind == 'jpeg' else {}
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


def _drawings(run: EvaluatedRun) -> Iterator[_Drawing]:
    record = run.record
    if len(record.steps.get('step', ())) and loss_columns(record):
        caption = 'Single logged steps are pale, their running mean is strong.'
        yield _Drawing('training', 'Loss and learning rate', caption, draw_training(record))
    if len(record.validations) > 1:  # of one, the bars say more
        caption = 'Means over all validation frames, each from one confusion matrix.'
        yield _Drawing('validations', 'Validations', caption, draw_means(record))
        caption = 'IoU of each class at each validation.'
        yield _Drawing('class_curves', 'Classes in training', caption, draw_class_curves(record))
    if run.matrix is not None:
        yield from _class_drawings(run)
    if run.frames is not None:
        yield from _frame_drawings(run, run.frames)


def _class_drawings(run: EvaluatedRun) -> Iterator[_Drawing]:
    classes, matrix = run.classes, run.matrix
    assert matrix is not None  # asked before
    scores = class_scores(matrix)
    caption = 'Intersection over union, from one confusion matrix over all frames, best first.'
    figure = draw_iou(classes, scores, matrix.miou_present, matrix.mean_iou('all_absent_0'))
    yield _Drawing('class_iou', 'IoU of each class', caption, figure)
    caption = 'Low precision: the class is seen where it is not. Low recall: it is overlooked.'
    figure = draw_precision_recall(classes, scores)
    yield _Drawing('precision_recall', 'Precision and recall', caption, figure)
    caption = (
        'Plain: truth; hatched: prediction. Red where they differ by more than a factor of 2.'
    )
    yield _Drawing('class_shares', 'Class shares', caption, draw_shares(classes, scores))
    some = f' The {MAX_SHOWN} most frequent classes; the rest is summed up, so that the cell of '
    some += 'the others with themselves holds errors among them, too.'
    some *= matrix.num_classes > MAX_SHOWN
    caption = 'Of the pixels of each true class (row), % predicted as each class. Blank: < 0.5 %.'
    figure = draw_confusion(classes, matrix, normalized=True)
    yield _Drawing('confusion_percent', 'Confusion, % of each row', caption + some, figure)
    caption = 'Pixels of each true class (row) by predicted class. Blank: none.'
    figure = draw_confusion(classes, matrix, normalized=False)
    yield _Drawing('confusion_counts', 'Confusion, pixels', caption + some, figure)


def _frame_drawings(run: EvaluatedRun, scores: FrameScores) -> Iterator[_Drawing]:
    undefined = sum(bool(np.isnan(frame.miou)) for frame in scores.frames)
    caption = f'{len(scores.frames)} frames, each scored by itself.'
    caption += f' {undefined} of them have no labelled pixel.' * (undefined > 0)
    figure = draw_iou_histogram(scores.frames)
    yield _Drawing('frame_iou', 'IoU of single frames', caption, figure)
    caption = 'Below the diagonal, the network is surer than it is right.'
    figure = draw_reliability(scores.calibration.scores())
    yield _Drawing('reliability', 'Confidence', caption, figure)
    if scores.border.errors.any():
        caption = _boundary_text(scores.border)
        figure = draw_boundary(scores.border)
        yield _Drawing('boundary_errors', 'Errors at class borders', caption, figure)
    means = 'Red: wrong. Black: not labelled. mIoU: mean over the classes in the frame.'
    for name, title, pictures in (
        ('best_frames', f'The {len(scores.best)} best frames', scores.best),
        ('worst_frames', f'The {len(scores.worst)} worst frames', scores.worst),
        ('gallery', 'Frames from first to last', scores.gallery),
    ):
        if pictures:
            yield _Drawing(name, title, means, draw_pictures(pictures, run.classes), True)


def _boundary_text(boundary: BoundaryErrors) -> str:
    pixels, errors = boundary.shares_within(_NEAR_PX)
    return (
        f'{100 * errors:.0f} % of the errors lie within {_NEAR_PX} px of a border between '
        f'classes, where {100 * pixels:.0f} % of the pixels lie. '
        'Distance 0: touches another class.'
    )


def _comparison_drawings(runs: Sequence[EvaluatedRun], names: Sequence[str]) -> Iterator[_Drawing]:
    if any(len(run.record.validations) > 1 for run in runs):
        caption = 'mIoU over the classes in the truth, as measured in training.'
        figure = draw_mean_curves(runs, names)
        yield _Drawing('validations', 'Validations', caption, figure)
    if any(run.matrices for run in runs):
        caption = 'IoU of each class; the mean over the classes in the truth is on top.'
        yield _Drawing('class_iou', 'Classes', caption, draw_class_bars(runs, names))
