"""Draw what single frames show: their scores, where errors lie, and the frames themselves."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
import numpy as np

from offroad_seg_core.datasets.analysis.gap_figures import plain
from offroad_seg_core.evaluation.boundary_errors import BIN_NAMES, BoundaryErrors
from offroad_seg_core.evaluation.frame_scores import FramePicture, FrameScore
from offroad_seg_core.evaluation.report.style import (
    EDGE,
    INK,
    SERIES,
    WARNING,
    new_figure,
    score_text,
    series_style,
    tidy,
)
from offroad_seg_core.evaluation.run_record import ClassLegend
from offroad_seg_core.metrics.calibration import CalibrationScores
from offroad_seg_core.taxonomy import IGNORE_INDEX
from offroad_seg_core.visualization import colorize

NUM_BINS = 25
_TILE_INCH = 3.0
_ERROR_RGB = np.array([225, 0, 45], np.float32)
_MAX_LEGEND = 30
_MAX_STACKED = 7


def draw_iou_histogram(frames: Sequence[FrameScore]) -> Figure:
    """Draw how many frames have which mean IoU, environments stacked."""
    environments = sorted({frame.environment for frame in frames})
    stacked = environments if 1 < len(environments) <= _MAX_STACKED else ['']
    groups = [
        [f.miou for f in frames if np.isfinite(f.miou) and name in ('', f.environment)]
        for name in stacked
    ]
    values = np.concatenate([np.array(group, np.float64) for group in groups])
    figure = new_figure(3.4)
    axes = figure.subplots()
    axes.hist(
        groups,
        NUM_BINS,
        range=(0, 1),
        stacked=True,
        color=[series_style(place)['color'] for place in range(len(groups))],
        edgecolor='white',
        label=[plain(name) for name in stacked],
    )
    if len(values):
        for value, style, label in (
            (values.mean(), '-', 'mean'),
            (np.median(values), (0, (4, 2)), 'median'),
            (np.percentile(values, 10), (0, (1, 1.5)), '10 % of the frames below'),
        ):
            text = f'{label}: {value:.3f}'
            axes.axvline(value, color=INK, linestyle=style, linewidth=1.5, label=text)
    axes.set(xlim=(0, 1), xlabel="mean IoU of the classes in the frame's truth", ylabel='frames')
    axes.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    tidy(axes, 'y')
    handles, labels = axes.get_legend_handles_labels()
    shown = [pair for pair in zip(handles, labels, strict=True) if pair[1]]
    figure.legend(*zip(*shown, strict=True), loc='outside upper center', ncols=4, frameon=False)
    return figure


def draw_boundary(boundary: BoundaryErrors) -> Figure:
    """Draw error rate, share of pixels and share of errors by distance to the nearest border."""
    figure = new_figure(3.8)
    rate_axes, share_axes = figure.subplots(1, 2)
    rows = np.arange(len(BIN_NAMES))
    rates = 100 * boundary.errors / np.maximum(boundary.pixels, 1)
    overall = 100 * boundary.errors.sum() / max(1, boundary.pixels.sum())
    rate_axes.bar(rows, rates, color=SERIES[0], width=0.78)
    for row, rate in zip(rows, rates, strict=True):
        text = f'{rate:.0f}' if rate >= 9.95 else f'{rate:.1f}'
        paper = {'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.8, 'alpha': 0.8}
        rate_axes.text(row, rate + 0.6, text, ha='center', va='bottom', size=8.5, bbox=paper)
    rate_axes.axhline(overall, color=INK, linestyle=(0, (4, 2)), linewidth=1.3)
    rate_axes.text(
        rows[-1] + 0.45, overall, f'all: {overall:.1f}', ha='right', va='bottom', size=9
    )
    rate_axes.set(ylabel='% of the pixels there that are wrong')
    for offset, counts, color, label in (
        (-0.2, boundary.pixels, '#b8b8b8', 'of all pixels'),
        (0.2, boundary.errors, WARNING, 'of all errors'),
    ):
        share = 100 * counts / max(1, counts.sum())
        share_axes.bar(rows + offset, share, 0.4, color=color, label=label)
    share_axes.set(ylabel='share, %')
    share_axes.legend(frameon=False)
    for axes in (rate_axes, share_axes):
        axes.set_xticks(rows, BIN_NAMES, size=7.5)
        axes.set_xlabel('distance to the nearest class border, px')
        tidy(axes, 'y')
    return figure


def draw_reliability(scores: CalibrationScores) -> Figure:
    """Draw how often predictions are right against how sure the network is."""
    figure = new_figure(3.8)
    right_axes, share_axes = figure.subplots(1, 2)
    num_bins = len(scores.bin_pixels)
    centers = (np.arange(num_bins) + 0.5) / num_bins
    accuracy = np.nan_to_num(scores.bin_accuracy)
    right_axes.bar(centers, accuracy, 0.9 / num_bins, color=SERIES[0], label='right')
    right_axes.plot([0, 1], [0, 1], color=INK, linestyle=(0, (4, 2)), linewidth=1.3)
    text = f'ECE {score_text(scores.ece)}'
    right_axes.text(0.03, 0.95, text, va='top', color=INK, transform=right_axes.transAxes)
    right_axes.set(ylabel='share of the pixels that are right', ylim=(0, 1))
    share = 100 * scores.bin_pixels / max(1, scores.bin_pixels.sum())
    share_axes.bar(centers, share, 0.9 / num_bins, color='#b8b8b8')
    share_axes.set(ylabel='% of the pixels')
    for axes in (right_axes, share_axes):
        axes.set(xlim=(0, 1), xlabel='confidence')
        tidy(axes, 'y')
    return figure


def draw_pictures(pictures: Sequence[FramePicture], classes: ClassLegend) -> Figure:
    """Draw frames in rows: picture, truth, prediction, errors.

    Args:
        pictures: At least one.
        classes: Names and colours.
    """
    heights = [p.image.shape[0] / p.image.shape[1] for p in pictures]
    shown = _classes_shown(pictures, len(classes.names))
    columns = 6
    legend_inch = 0.22 * -(-len(shown) // columns) + 0.15
    rows_inch = sum(_TILE_INCH * height + 0.3 for height in heights)
    figure = new_figure(rows_inch + legend_inch + 0.2, 4 * _TILE_INCH + 0.2)
    margins = {'w_pad': 0.03, 'h_pad': 0.03, 'wspace': 0, 'hspace': 0}
    # Titles reach beyond what the layout reckons with.
    figure.set_layout_engine('constrained', **margins, rect=(0.002, 0.002, 0.996, 0.99))
    all_axes = figure.subplots(len(pictures), 4, squeeze=False, height_ratios=heights)
    palette = classes.palette_rgb
    for row_axes, picture in zip(all_axes, pictures, strict=True):
        tiles = (
            picture.image,
            colorize(picture.target, palette),
            colorize(picture.label_map, palette),
            error_map(picture),
        )
        for axes, tile in zip(row_axes, tiles, strict=True):
            _show(axes, tile)
        score = picture.score
        name = plain(score.name, 48)
        row_axes[0].set_title(name, loc='left', size=9, color=INK, weight='bold')
        facts = f'mIoU {score_text(score.miou)}, {100 * score.accuracy:.0f} % right'
        row_axes[1].set_title('truth', loc='left', size=9, color=EDGE)
        row_axes[2].set_title('prediction', loc='left', size=9, color=EDGE)
        row_axes[3].set_title(facts, loc='left', size=9, color=INK, weight='bold')
    figure.legend(
        handles=_patches(classes, shown), loc='outside lower center', ncols=columns, frameon=False
    )
    return figure


def error_map(picture: FramePicture) -> np.ndarray:
    """Return the frame in pale grey with its errors in red; black where it is not labelled.

    Returns:
        ``(h, w, 3)`` uint8 RGB.
    """
    gray = cv2.cvtColor(picture.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    pale = (90 + 0.6 * gray)[..., None]
    wrong = picture.wrong[..., None]
    mixed = pale * (1 - wrong) + _ERROR_RGB * wrong
    mixed[picture.target == IGNORE_INDEX] = 0
    return mixed.clip(0, 255).astype(np.uint8)


def _classes_shown(pictures: Sequence[FramePicture], num_classes: int) -> list[int]:
    counts = np.zeros(256, np.int64)
    for picture in pictures:
        for label_map in (picture.target, picture.label_map):
            counts += np.bincount(label_map.ravel(), minlength=256)
    most = np.argsort(-counts[:num_classes], kind='stable')[:_MAX_LEGEND]
    return sorted(int(index) for index in most if counts[index])


def _patches(classes: ClassLegend, shown: Sequence[int]) -> list[Patch]:
    return [
        Patch(facecolor=classes.colors_rgb[i] / 255, edgecolor=EDGE, label=plain(classes.names[i]))
        for i in shown
    ]


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.imshow(image, aspect='equal', interpolation='none')
