"""Draw which classes are taken for which."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
import numpy as np

from offroad_seg_core.datasets.analysis.gap_figures import plain
from offroad_seg_core.evaluation.report.style import count_text, new_figure
from offroad_seg_core.evaluation.run_record import ClassLegend
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix

MAX_SHOWN = 20
_CELL_INCH = 0.46
_LEAST_PERCENT = 0.5
_CENTERED: Any = {'ha': 'center', 'va': 'center'}


def shown_confusion(
    matrix: ConfusionMatrix, names: tuple[str, ...]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the counts that are readable: of at most MAX_SHOWN classes, the rest summed up.

    Args:
        matrix: Of all classes.
        names: Of the classes.

    Returns:
        Counts ``(R, K)`` int64 and the names of rows (truth) and columns (prediction). Classes are
        those with the most pixels in the truth (then in the prediction, then by id), in the order
        of their ids. All counts together are those of the matrix.
    """
    num_classes = matrix.num_classes
    predicted = matrix.counts[:, :-1].sum(axis=0)
    frequent = np.lexsort((np.arange(num_classes), -predicted, -matrix.true_pixels))
    kept = np.sort(frequent[:MAX_SHOWN])
    rest = np.setdiff1d(np.arange(num_classes), kept)
    rows = matrix.counts[kept]
    row_names = [names[index] for index in kept]
    column_names = list(row_names)
    if len(rest):
        rows = np.vstack([rows, matrix.counts[rest].sum(axis=0)])
        row_names.append(f'{len(rest)} others')
    columns = [rows[:, kept]]
    if len(rest):
        columns.append(rows[:, rest].sum(axis=1, keepdims=True))
        column_names.append(f'{len(rest)} others')
    if rows[:, -1].any():
        columns.append(rows[:, -1:])
        column_names.append('unlabeled')
    return np.hstack(columns), row_names, column_names


def draw_confusion(classes: ClassLegend, matrix: ConfusionMatrix, normalized: bool) -> Figure:
    """Draw the confusion matrix, as pixels or as percentages of each row.

    Args:
        classes: Names.
        matrix: Counts.
        normalized: Whether each row is 100 %.
    """
    counts, row_names, column_names = shown_confusion(matrix, classes.names)
    totals = counts.sum(axis=1, keepdims=True)
    percent = 100 * counts / np.maximum(totals, 1)
    num_rows, num_columns = counts.shape
    figure = new_figure(1.9 + _CELL_INCH * num_rows, 3.0 + _CELL_INCH * 1.25 * num_columns)
    axes = figure.subplots()
    if normalized:
        values, norm = percent, Normalize(0, 100)
    else:
        values, norm = np.maximum(counts, 1), LogNorm(1, max(10, int(counts.max())))
    image = axes.imshow(values, cmap='Blues', norm=norm, aspect='auto')
    for (row, column), count in np.ndenumerate(counts):
        if normalized:
            text = f'{percent[row, column]:.0f}' if percent[row, column] >= _LEAST_PERCENT else ''
        else:
            text = count_text(int(count)) if count else ''
        color = 'white' if norm(values[row, column]) > 0.55 else 'black'
        weight = 'bold' if row == column < min(len(row_names), MAX_SHOWN) else 'normal'
        axes.text(column, row, text, **_CENTERED, size=8.5, color=color, weight=weight)
    for row in np.flatnonzero(totals[:, 0] == 0).tolist():
        axes.text((num_columns - 1) / 2, row, 'not in the truth', **_CENTERED, size=8)
    _label_axes(axes, row_names, column_names)
    unit = '% of the true pixels' if normalized else 'pixels; logarithmic'
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label=unit)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _label_axes(axes: Axes, row_names: list[str], column_names: list[str]) -> None:
    """Name rows and columns, and draw lines between the cells."""
    axes.set_xticks(range(len(column_names)), [plain(name) for name in column_names], rotation=40)
    for label in axes.get_xticklabels():
        label.set(ha='right', rotation_mode='anchor')
    axes.set_yticks(range(len(row_names)), [plain(name) for name in row_names])
    axes.set(xlabel='predicted', ylabel='true')
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(column_names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(row_names) + 1) - 0.5, minor=True)
    axes.grid(which='minor', color='white', linewidth=1.2)
    axes.tick_params(which='minor', length=0)
