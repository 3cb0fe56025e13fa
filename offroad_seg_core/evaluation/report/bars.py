"""Draw the scores and shares of each class."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
import numpy as np

from offroad_seg_core.datasets.analysis.figures import percent_text
from offroad_seg_core.datasets.analysis.gap_figures import plain
from offroad_seg_core.evaluation.class_scores import ClassScores
from offroad_seg_core.evaluation.report.style import (
    EDGE,
    INK,
    SERIES,
    SOFT,
    WARNING,
    new_figure,
    tidy,
)
from offroad_seg_core.evaluation.run_record import ClassLegend

_LEAST_SHARE = 1e-7
_COLUMNS = (1.05, 1.115, 1.18)  # of numbers, right of bars from 0 to 1


def draw_iou(
    classes: ClassLegend, scores: ClassScores, miou_present: float, miou_all: float
) -> Figure:
    """Draw the IoU of each class, best first, with both means.

    Args:
        classes: Names and colours.
        scores: Of each class.
        miou_present: Mean over the classes in the truth.
        miou_all: Mean over all classes, those that never occur counted as 0.
    """
    order = np.argsort(-np.nan_to_num(scores.iou, nan=-1), kind='stable')
    figure = new_figure(1.5 + 0.27 * len(order))
    axes = figure.subplots()
    iou = scores.iou[order]
    colors = classes.colors_rgb[order] / 255
    axes.barh(
        range(len(order)),
        np.nan_to_num(iou),
        color=colors,
        edgecolor=EDGE,
        linewidth=0.6,
        height=0.72,
    )
    for row, index in enumerate(order):
        text, color = _iou_text(scores, index)
        axes.text(1.01, row, text, va='center', size=9, color=color)
    means = {'mIoU over the classes in the truth': (miou_present, '-')}
    if miou_all == miou_present:
        means = {f'mIoU over all {len(order)} classes, which all occur': (miou_all, '-')}
    else:
        means[f'mIoU over all {len(order)}, absent ones as 0'] = (miou_all, '--')
    for label, (value, style) in means.items():
        if np.isfinite(value):
            text = f'{label}: {value:.3f}'
            axes.axvline(value, color=INK, linestyle=style, linewidth=1.4, label=text)
    _class_rows(axes, classes, order)
    axes.set(xlim=(0, 1), xlabel='IoU')
    tidy(axes)
    figure.legend(loc='outside upper center', ncols=2, frameon=False)
    return figure


def _iou_text(scores: ClassScores, index: int) -> tuple[str, str]:
    if np.isnan(scores.iou[index]):
        return 'in neither', WARNING
    if not scores.truth_share[index] > 0:
        return '0, only predicted', WARNING
    return f'{scores.iou[index]:.3f}', INK


def draw_precision_recall(classes: ClassLegend, scores: ClassScores) -> Figure:
    """Draw precision and recall of each class beside each other, Dice as a dot."""
    order = np.argsort(-np.nan_to_num(scores.iou, nan=-1), kind='stable')
    figure = new_figure(1.5 + 0.36 * len(order))
    axes = figure.subplots()
    rows = np.arange(len(order))
    for offset, values, color, label in (
        (-0.2, scores.precision, SERIES[0], 'precision: right / predicted'),
        (0.2, scores.recall, SERIES[5], 'recall: found / true'),
    ):
        axes.barh(rows + offset, np.nan_to_num(values[order]), 0.38, color=color, label=label)
    dots = {'s': 30, 'color': 'white', 'edgecolors': INK, 'zorder': 3, 'label': 'Dice (F1)'}
    axes.scatter(scores.dice[order], rows, **dots)  # type: ignore[arg-type]
    for row, index in enumerate(order):
        triple = (scores.precision[index], scores.recall[index], scores.dice[index])
        for place, value in zip(_COLUMNS, triple, strict=True):
            text = '–' if np.isnan(value) else f'{value:.2f}'
            axes.text(place, row, text, va='center', ha='center', size=8.5, color=INK)
    for place, text in zip(_COLUMNS, ('prec.', 'recall', 'Dice'), strict=True):
        axes.text(place, -0.75, text, va='bottom', ha='center', size=8, color=SOFT)
    _class_rows(axes, classes, order)
    axes.set(xlim=(0, 1))
    tidy(axes)
    figure.legend(loc='outside upper center', ncols=3, frameon=False)
    return figure


def draw_shares(classes: ClassLegend, scores: ClassScores) -> Figure:
    """Draw the share of each class in truth and prediction, on a logarithmic axis."""
    order = np.argsort(-scores.truth_share, kind='stable')
    truth, predicted = (
        np.nan_to_num(shares[order]) for shares in (scores.truth_share, scores.predicted_share)
    )
    positive = np.concatenate([truth[truth > 0], predicted[predicted > 0], [1.0]])
    low = 100 * max(_LEAST_SHARE, 10 ** np.floor(np.log10(positive.min()) - 0.3))
    figure = new_figure(1.5 + 0.36 * len(order))
    axes = figure.subplots()
    rows = np.arange(len(order))
    colors = classes.colors_rgb[order] / 255
    for offset, shares, hatch in ((-0.2, truth, ''), (0.2, predicted, '/////')):
        axes.barh(
            rows + offset,
            np.maximum(100 * shares, low),
            0.38,
            color=colors,
            edgecolor=EDGE,
            linewidth=0.6,
            hatch=hatch,
            label='truth' if not hatch else 'prediction',
        )
    for row, a, b in zip(rows, truth, predicted, strict=True):
        text = f'{percent_text(a)} → {percent_text(b)}'
        ratio = f'   × {b / a:{".2f" if b < 10 * a else ",.0f"}}' if a and b else ''
        wrong = not a or not b or not 0.5 <= b / a <= 2
        axes.text(
            115, float(row), text + ratio, va='center', size=8.5, color=WARNING if wrong else INK
        )
    _class_rows(axes, classes, order)
    axes.set(xscale='log', xlim=(low, 100), xlabel='% of the labelled pixels; logarithmic')
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    tidy(axes)
    legend = figure.legend(loc='outside upper center', ncols=2, frameon=False)
    for handle in legend.legend_handles:
        handle.set_facecolor('white')  # type: ignore[union-attr]
    return figure


def _class_rows(axes: Axes, classes: ClassLegend, order: np.ndarray) -> None:
    axes.set_yticks(range(len(order)), [plain(classes.names[index]) for index in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.tick_params(axis='y', length=0)
