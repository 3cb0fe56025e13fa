"""Draw several runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from offroad_seg_core.datasets.analysis.gap_figures import plain
from offroad_seg_core.evaluation.evaluated_run import EvaluatedRun
from offroad_seg_core.evaluation.report.style import (
    SERIES,
    limit_steps,
    new_figure,
    score_text,
    series_style,
    tidy,
)

MAX_BARS = 5
"""More runs than that are columns of a table of colours instead of a bar for each class."""


def class_names(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Return the classes of all runs, in the order in which they first come."""
    return list(dict.fromkeys(name for run in runs if run.matrix for name in run.classes.names))


def iou_table(runs: Sequence[EvaluatedRun]) -> np.ndarray:
    """Return the IoU of each of ``class_names`` in each run, ``(C, R)``; nan if absent."""
    columns = []
    for run in runs:
        iou = dict(zip(run.classes.names, run.matrix.iou(), strict=True)) if run.matrix else {}
        columns.append([iou.get(name, np.nan) for name in class_names(runs)])
    return np.array(columns, np.float64).reshape(len(runs), -1).T


def draw_mean_curves(runs: Sequence[EvaluatedRun], names: Sequence[str]) -> Figure:
    """Draw the mIoU of the runs' validations."""
    figure = new_figure(3.8)
    axes = figure.subplots()
    last = 0
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        rows = run.record.validations
        if rows:
            steps, values = [row.step for row in rows], [row.miou_present for row in rows]
            axes.plot(
                steps, values, marker='o', markersize=4, label=plain(name), **series_style(place)
            )
            last = max(last, steps[-1])
    axes.set(ylim=(0, None), ylabel='mIoU, classes in the truth')
    limit_steps(axes, last)
    tidy(axes, 'both')
    figure.legend(loc='outside right upper', frameon=False)
    return figure


def draw_class_bars(runs: Sequence[EvaluatedRun], names: Sequence[str]) -> Figure:
    """Draw the IoU of each class in each run, the means first."""
    means = [run.matrix.miou_present if run.matrix else np.nan for run in runs]
    table = np.vstack([[means], iou_table(runs)])
    labels = ['mIoU', *map(plain, class_names(runs))]
    kept = np.isfinite(table).any(axis=1)
    table, labels = table[kept], [label for label, keep in zip(labels, kept, strict=True) if keep]
    if len(runs) > MAX_BARS:
        return _color_table(table, labels, names)
    figure = new_figure(1.1 + len(labels) * (0.14 + 0.17 * len(runs)))
    axes = figure.subplots()
    height = 0.84 / len(runs)
    rows = np.arange(len(labels))
    for place, (column, name) in enumerate(zip(table.T, names, strict=True)):
        at = rows + (place - (len(runs) - 1) / 2) * height
        color = SERIES[place % len(SERIES)]
        axes.barh(at, np.nan_to_num(column), height * 0.92, color=color, label=plain(name))
        for y, value in zip(at, column, strict=True):
            text = f' {score_text(value)}'
            axes.text(np.nan_to_num(value), y, text, va='center', size=7.5)
    axes.axhline(0.5, color='#999999', linewidth=0.8)
    _rows(axes, labels)
    axes.set(xlim=(0, 1.04), xlabel='IoU')
    tidy(axes)
    figure.legend(loc='outside upper center', ncols=min(len(runs), 4), frameon=False)
    return figure


def _color_table(table: np.ndarray, labels: Sequence[str], names: Sequence[str]) -> Figure:
    figure = new_figure(2.2 + 0.3 * len(labels), 3.0 + 0.62 * len(names))
    axes = figure.subplots()
    axes.imshow(table, aspect='auto', cmap='YlGnBu', vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(table):
        ink = 'white' if value > 0.55 else 'black'
        text = '–' if np.isnan(value) else f'{value:.2f}'
        axes.text(column, row, text, ha='center', va='center', size=8, color=ink)
    axes.set_xticks(range(len(names)), [plain(name) for name in names], rotation=40)
    for label in axes.get_xticklabels():
        label.set(ha='right', rotation_mode='anchor')
    axes.axhline(0.5, color='white', linewidth=3)
    _rows(axes, labels)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.get_yticklabels()[0].set_fontweight('bold')
    axes.tick_params(axis='y', length=0)
