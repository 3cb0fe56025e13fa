"""What a report's pages show, as texts and tables for their template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from typing import Any

import numpy as np

from offroad_seg_core.evaluation.evaluated_run import EvaluatedRun
from offroad_seg_core.evaluation.report.comparison import class_names, iou_table
from offroad_seg_core.evaluation.report.numbers import RULES, summary
from offroad_seg_core.evaluation.report.style import score_text
from offroad_seg_core.evaluation.run_record import ClassLegend
from offroad_seg_core.metrics.confusion_matrix import MEAN_RULES, ConfusionMatrix

_COLUMNS = (
    ('miou_present', 'mIoU, in truth'),
    ('miou', 'in truth or prediction'),
    ('miou_all_absent_0', 'all, absent as 0'),
    ('pixel_accuracy', 'pixel accuracy'),
    ('false_safe_rate', 'false safe'),
    ('false_alarm_rate', 'false alarm'),
)


def run_page(run: EvaluatedRun) -> dict[str, Any]:
    """Return the variables of the page of one run, without its figures."""
    content: dict[str, Any] = {
        'title': run.record.name,
        'source': run.source,
        'notes': run.notes,
        'tiles': _tiles(run),
        'facts': _facts(run),
        'tables': [],
        'rules': _rules(run.matrix),
    }
    if run.matrices:
        content['tables'] = [
            environment_table(run.matrices, run.classes),
            _class_table(run),
        ]
    return content


def comparison_page(
    runs: Sequence[EvaluatedRun], names: Sequence[str], links: Sequence[str]
) -> dict[str, Any]:
    """Return the variables of the page that compares runs, without its figures."""
    sets = {
        (run.classes.names, tuple(m.num_pixels for m in run.matrices.values()))
        for run in runs
        if run.matrices
    }
    notes = []
    if len({kind[0] for kind in sets}) > 1:
        notes.append('The runs have different classes: their means are of different things.')
    if len({kind[1] for kind in sets}) > 1:
        notes.append('The runs were measured on different frames: compare with care.')
    measured = [(name, run) for name, run in zip(names, runs, strict=True) if run.matrix]
    notes += [
        f'{name}: {note}' for name, run in zip(names, runs, strict=True) for note in run.notes
    ]
    return {
        'title': ', '.join(names[:6]) + ', …' * (len(names) > 6),
        'source': f'{len(runs)} runs beside each other; differences are to the first',
        'notes': notes,
        'tiles': [],
        'facts': [],
        'links': list(zip(names, links, strict=True)),
        'tables': [_run_table(measured), _comparison_table(runs, names)] if measured else [],
        'rules': _rules(None) if measured else [],
    }


def environment_table(
    matrices: Mapping[str, ConfusionMatrix], classes: ClassLegend
) -> dict[str, Any]:
    """Return a row for each environment and, of several, one for all."""
    rows = [(name, summary(matrix, classes)) for name, matrix in matrices.items()]
    if len(rows) > 1:
        total = ConfusionMatrix(len(classes.names))
        for matrix in matrices.values():
            total.counts += matrix.counts
        rows.append(('all', summary(total, classes)))
    return {
        'title': 'Environments',
        'head': ['environment', 'pixels', 'classes in truth', *(title for _, title in _COLUMNS)],
        'rows': [
            [
                {'text': name},
                {'text': f'{scores["num_pixels"]:,}'},
                {'text': f'{scores["num_classes_present"]} of {scores["num_classes"]}'},
                *(_cell(scores[key], key.startswith('false')) for key, _ in _COLUMNS),
            ]
            for name, scores in rows
        ],
    }


def _class_table(run: EvaluatedRun) -> dict[str, Any]:
    """Return the IoU of each class in each environment, and at its edges."""
    matrices, classes = run.matrices, run.classes
    columns = {name: matrix.iou() for name, matrix in matrices.items()}
    if run.frames is not None:
        edges = run.frames.boundary.scores()
        columns |= {'boundary IoU': edges.iou, 'boundary F1': edges.f1}
    pixels = np.sum([matrix.true_pixels for matrix in matrices.values()], axis=0)
    return {
        'title': 'IoU of each class by environment',
        'folded': len(classes.names) > 24,
        'head': ['class', 'true pixels', *columns],
        'rows': [
            [
                {'text': name, 'swatch': '#' + classes.colors_rgb[index].tobytes().hex()},
                {'text': f'{pixels[index]:,}'},
                *(_cell(column[index]) for column in columns.values()),
            ]
            for index, name in enumerate(classes.names)
        ],
    }


def _run_table(runs: Sequence[tuple[str, EvaluatedRun]]) -> dict[str, Any]:
    rows: list[list[dict[str, Any]]] = []
    first = math.nan
    for name, run in runs:
        assert run.matrix is not None  # only such runs are given
        scores = summary(run.matrix, run.classes)
        first = scores['miou_present'] if math.isnan(first) else first
        difference = scores['miou_present'] - first
        rows.append(
            [
                {'text': name},
                *(_cell(scores[key], key.startswith('false')) for key, _ in _COLUMNS),
                {'text': f'{difference:+.3f}' if rows else ''},
                {'text': f'{scores["num_pixels"]:,}'},
                {'text': f'{run.record.result.get("step", "–")}'},
                {'text': _duration(run.record.result.get('elapsed_s'))},
                {'text': run.source, 'wrap': True},
            ]
        )
    if len(runs) > 1:
        rows.append(_mean_row([summary(run.matrix, run.classes) for _, run in runs if run.matrix]))
    head = ['run', *(title for _, title in _COLUMNS), 'mIoU against the first']
    head += ['pixels', 'steps', 'trained for', 'measured from']
    return {'title': 'Runs', 'head': head, 'rows': rows}


def _mean_row(scores: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return the mean of each column with its sample standard deviation, as of seeds or folds."""
    cells: list[dict[str, Any]] = [{'text': f'mean of {len(scores)} ± standard deviation'}]
    for key, _ in _COLUMNS:
        values = np.array([entry[key] for entry in scores])
        text = f'{values.mean():.3f} ± {values.std(ddof=1):.3f}'
        cells.append({'text': '–' if np.isnan(values).any() else text, 'bold': True})
    return cells + [{'text': ''}] * 5


def _comparison_table(runs: Sequence[EvaluatedRun], names: Sequence[str]) -> dict[str, Any]:
    rows = []
    for name, values in zip(class_names(runs), iou_table(runs), strict=True):
        best = np.nanmax(values) if np.isfinite(values).any() else None
        cells = [{**_cell(value), 'bold': value == best} for value in values]
        rows.append([{'text': name}, *cells])
    return {
        'title': 'IoU of each class',
        'folded': len(rows) > 24,
        'head': ['class', *names],
        'rows': rows,
    }


def _tiles(run: EvaluatedRun) -> list[tuple[str, str]]:
    tiles = []
    if run.matrix is not None:
        scores = summary(run.matrix, run.classes)
        present, total = scores['num_classes_present'], scores['num_classes']
        tiles = [
            (f'mIoU over the {present} classes in the truth', score_text(scores['miou_present'])),
            (f'mIoU over all {total}, absent as 0', score_text(scores['miou_all_absent_0'])),
            ('pixel accuracy', score_text(scores['pixel_accuracy'])),
            ('false safe', score_text(scores['false_safe_rate'])),
            ('false alarm', score_text(scores['false_alarm_rate'])),
        ]
    if 'elapsed_s' in run.record.result:
        tiles.append(('training', _duration(run.record.result['elapsed_s'])))
    return tiles


def _rules(matrix: ConfusionMatrix | None) -> list[tuple[str, str]]:
    """Return what each mean IoU is taken over, beside its value if there is one matrix."""
    if matrix is None:
        titles = dict(_COLUMNS)
        return [(titles[key], rule) for key, rule in RULES.items() if key in titles]
    return [
        (f'mIoU {score_text(matrix.mean_iou(rule))}', text) for rule, text in MEAN_RULES.items()
    ]


def _facts(run: EvaluatedRun) -> list[tuple[str, str]]:
    result, config = run.record.result, run.record.config
    model, optimizer = config.get('model') or {}, config.get('optimizer') or {}
    dataset = config.get('dataset') or {}
    size = ' × '.join(map(str, model.get('input_size', ())))
    facts = (
        ('model', f'{model.get("name", "")}, input {size}' if model else ''),
        ('data', ', '.join(f'{k}: {v}' for k, v in dataset.items() if isinstance(v, (str, int)))),
        ('steps', f'{result.get("step", "?")} of {optimizer.get("max_steps", "?")}'),
        ('best at step', result.get('best_step')),
        ('seed', result.get('seed')),
        ('command', result.get('command')),
        ('code', result.get('git_commit')),
        ('processor', result.get('cpu')),
    )
    return [(key, str(value)) for key, value in facts if value not in (None, '', '? of ?')]


def _cell(value: float, low_is_good: bool = False) -> dict[str, Any]:
    """Return a score with a tint: the greener the better."""
    if math.isnan(value):
        return {'text': '–'}
    good = 1 - value if low_is_good else value
    return {'text': score_text(value), 'tint': f'hsl({120 * good:.0f} 60% 88%)'}


def _duration(seconds: object) -> str:
    if not isinstance(seconds, (int, float)):
        return '–'
    minutes = round(seconds / 60)
    return (
        f'{minutes // 60} h {minutes % 60:02d} min' if minutes >= 60 else f'{seconds / 60:.1f} min'
    )
