"""Draw how a training went."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
import numpy as np

from offroad_seg_core.datasets.analysis.gap_figures import plain
from offroad_seg_core.evaluation.report.style import (
    EDGE,
    INK,
    SOFT,
    limit_steps,
    new_figure,
    series_style,
    tidy,
)
from offroad_seg_core.evaluation.run_record import RunRecord

MAX_LINES = 12
"""More classes than that are rows of a table of colours instead of a line each."""

_SMOOTHED_SHARE = 0.04  # of the logged steps, in the mean that is drawn over the single values
_TOTAL, _RATE = 'total', 'learning_rate'


def draw_training(record: RunRecord) -> Figure:
    """Draw loss and learning rate at each logged step, and the mean scores of the validations."""
    steps = record.steps['step']
    figure = new_figure(6.2)
    loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    names = loss_columns(record)
    for place, name in enumerate(names):
        style = series_style(place)
        values = record.steps[name]
        loss.plot(steps, values, color=style['color'], alpha=0.25, linewidth=0.8)
        label = 'total' if name == _TOTAL else plain(name.replace('_', ' '))
        loss.plot(steps, smooth(values), linewidth=1.9, label=label, **style)
    positive = np.concatenate([record.steps[name] for name in names] or [np.ones(1)])
    if len(positive) and positive.min() > 0 and positive.max() > 30 * np.median(positive):
        loss.set_yscale('log')
    else:
        loss.set_ylim(bottom=0)
    loss.set_ylabel('loss')
    loss.legend(frameon=False)
    for place, name in enumerate(name for name in record.steps if name.startswith(_RATE)):
        rate.plot(steps, record.steps[name], label=plain(name), **series_style(place))
    if len(rate.lines) > 1:
        rate.legend(frameon=False)
    rate.set(ylabel='learning rate', ylim=(0, None))
    rate.ticklabel_format(axis='y', style='sci', scilimits=(-2, 3), useMathText=True)
    limit_steps(rate, float(steps.max(initial=0)))
    for axes in (loss, rate):
        tidy(axes, 'both')
    return figure


def loss_columns(record: RunRecord) -> list[str]:
    """Return which columns of the log are the loss and its terms, the total first.

    A single term that is all of the loss stands alone: two equal lines would show as one.
    """
    terms = [str(t.get('name')) for t in (record.config.get('loss') or {}).get('terms', ())]
    others = [n for n in record.steps if n != 'step' and not n.startswith(_RATE) and n != _TOTAL]
    known = [name for name in others if name in terms]
    columns = [name for name in [_TOTAL, *(known or others)] if name in record.steps]
    if len(columns) == 2:
        total, term = (record.steps[name] for name in columns)
        return columns[1:] if np.array_equal(total, term) else columns
    return columns


def smooth(values: np.ndarray) -> np.ndarray:
    """Return the mean of each value and its neighbours, fewer of them at the ends."""
    half = int(len(values) * _SMOOTHED_SHARE / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def draw_means(record: RunRecord) -> Figure:
    """Draw mean IoU and accuracy of each validation."""
    steps = [row.step for row in record.validations]
    figure = new_figure(3.0)
    axes = figure.subplots()
    present = [row.miou_present for row in record.validations]
    either = [row.miou for row in record.validations]
    curves = {'pixel accuracy': [row.pixel_accuracy for row in record.validations]}
    if present == either:
        curves['mIoU'] = present
    else:
        curves |= {'mIoU, classes in the truth': present, 'mIoU, in truth or prediction': either}
    for place, (label, values) in enumerate(curves.items()):
        axes.plot(steps, values, marker='o', markersize=4, label=label, **series_style(place))
    best = int(np.nanargmax([-1, *present])) - 1
    if best >= 0:
        row = record.validations[best]
        axes.annotate(
            f'best: {row.miou_present:.3f}',
            (row.step, row.miou_present),
            (0, 7),
            textcoords='offset points',
            ha='right' if row.step > 0.8 * steps[-1] else 'center',
            color=INK,
        )
    axes.set_ylim(0, 1)
    limit_steps(axes, steps[-1])
    axes.legend(frameon=False)
    tidy(axes, 'both')
    return figure


def draw_class_curves(record: RunRecord) -> Figure:
    """Draw the IoU of each class at each validation, as lines or, of many classes, as colours."""
    if len(record.classes.names) > MAX_LINES:
        return _class_table(record)
    figure = new_figure(4.6)
    axes = figure.subplots()
    steps = [row.step for row in record.validations]
    iou = np.array([row.iou for row in record.validations])
    # Class colours may be as light as the paper: each line has a dark rim.
    rim = [Stroke(linewidth=3.4, foreground=EDGE), Normal()]
    for name, color, values in zip(
        record.classes.names, record.classes.colors_rgb / 255, iou.T, strict=True
    ):
        if np.isfinite(values).any():
            line = {'color': color, 'linewidth': 2.2, 'path_effects': rim, 'label': plain(name)}
            axes.plot(steps, values, marker='o', markersize=5, markeredgecolor=EDGE, **line)
    axes.set(ylim=(-0.02, 1.02), ylabel='IoU')
    limit_steps(axes, steps[-1])
    _label_ends(axes, steps[-1], iou[-1], record.classes.names)
    tidy(axes, 'both')
    return figure


def _label_ends(axes: Axes, last: int, values: np.ndarray, names: Sequence[str]) -> None:
    """Write each class beside the end of its line, apart from one another."""
    order = [index for index in np.argsort(values) if np.isfinite(values[index])]
    heights = spread(values[order], 0.052)
    for index, height in zip(order, heights, strict=True):
        axes.annotate(
            f'{plain(names[index])} {values[index]:.2f}',
            (last, values[index]),
            (1.03, height),
            textcoords=axes.get_yaxis_transform(),
            va='center',
            size=9,
            color=INK,
            arrowprops={'arrowstyle': '-', 'color': SOFT, 'linewidth': 0.6, 'relpos': (0, 0.5)},
            annotation_clip=False,
        )


def spread(values: np.ndarray, gap: float) -> np.ndarray:
    """Move ascending values apart to at least ``gap``, by the least squares, within 0 to 1."""
    # Without the gaps, what remains to be found is the nearest sequence that never falls: pool
    # neighbours that do (Ayer et al. 1955).
    gaps = gap * np.arange(len(values))
    blocks: list[tuple[float, int]] = []
    for value in np.asarray(values, np.float64) - gaps:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (low, many), (high, few) = blocks.pop(-2), blocks.pop(-1)
            blocks.append(((low * many + high * few) / (many + few), many + few))
    placed = np.repeat([mean for mean, _ in blocks], [size for _, size in blocks]) + gaps
    return np.clip(placed, gaps, 1.0 - gaps[::-1])


def _class_table(record: RunRecord) -> Figure:
    iou = np.array([row.iou for row in record.validations]).T
    shown = np.flatnonzero(np.isfinite(iou).any(axis=1))
    figure = new_figure(1.4 + 0.2 * len(shown))
    axes = figure.subplots()
    image = axes.imshow(iou[shown], aspect='auto', cmap='YlGnBu', vmin=0, vmax=1)
    axes.set_yticks(range(len(shown)), [plain(record.classes.names[i]) for i in shown], size=8)
    ticks = np.unique(np.linspace(0, iou.shape[1] - 1, min(iou.shape[1], 10)).round().astype(int))
    axes.set_xticks(ticks, [str(record.validations[tick].step) for tick in ticks])
    axes.set_xlabel('step')
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if iou.shape[1] <= 12:
        for (row, column), value in np.ndenumerate(iou[shown]):
            if np.isfinite(value):
                ink = 'white' if value > 0.55 else 'black'
                text = f'{value:.2f}'
                axes.text(column, row, text, ha='center', va='center', size=7, color=ink)
    figure.colorbar(image, ax=axes, shrink=0.5, label='IoU')
    return figure
