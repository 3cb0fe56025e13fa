"""Draw how groups of frames differ: class shares, colours, looks and distances."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
import numpy as np

from offroad_seg_core.datasets.analysis.domain_gap import GroupComparison, GroupStatistics
from offroad_seg_core.datasets.analysis.features import THIRDS, lightness_shares
from offroad_seg_core.datasets.analysis.gap_findings import number, percent
from offroad_seg_core.taxonomy import Taxonomy

MAX_COLUMNS = 5
"""More groups than that are stacked bars instead of a column of bars each."""

_MAX_CLASSES = 24
_MAX_DETAILED = 8  # groups; with more, a pair's cell has no room for the interval
# Okabe & Ito, "Color universal design" (2008), without yellow, which is too light for lines.
_COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000')
_MARKERS = 'osD^vP'  # one fewer than the colours: pairs repeat after 42 groups
_DASHES: tuple[Any, ...] = ('-', (0, (5, 1.5)), (0, (1, 1)), '-.')
_EDGE = '#333333'
_WARNING = '#b00020'


def draw_class_shares(groups: Sequence[GroupStatistics], taxonomy: Taxonomy) -> Figure:
    """Draw the share of each class in each group, in the taxonomy's colours."""
    labelled = [group for group in groups if group.is_labelled]
    largest = np.max([group.shares for group in labelled], axis=0)
    ids = np.sort(np.argsort(-largest, kind='stable')[:_MAX_CLASSES])
    ids = ids[largest[ids] > 0]
    if len(labelled) > MAX_COLUMNS:
        return _stacked_shares(labelled, taxonomy, ids)
    figure = Figure(figsize=(2.6 + 2.6 * len(labelled), 1.1 + 0.34 * len(ids)), dpi=120)
    figure.set_layout_engine('constrained')
    all_axes = figure.subplots(1, len(labelled), sharey=True, sharex=True, squeeze=False)[0]
    colors = taxonomy.palette_rgb[ids] / 255
    for axes, group in zip(all_axes, labelled, strict=True):
        shares = 100 * group.shares[ids]
        axes.barh(range(len(ids)), shares, color=colors, edgecolor=_EDGE, linewidth=0.7)
        for place, share in enumerate(shares):
            text, color = (percent(share / 100), _EDGE) if share else ('none', _WARNING)
            weight = 'normal' if share else 'bold'
            offset = share + 0.02 * 100 * largest.max()
            axes.text(offset, place, text, va='center', color=color, weight=weight, size=9)
        axes.set_title(f'{plain(group.name)} ({group.num_frames} frames)', size=11)
        axes.set_xlabel('% of the labelled pixels')
        _tidy(axes)
    all_axes[0].set_yticks(range(len(ids)), [plain(taxonomy.names[index]) for index in ids])
    all_axes[0].set_xlim(0, 100 * largest.max() * 1.28)
    all_axes[0].invert_yaxis()
    return figure


def _stacked_shares(
    groups: Sequence[GroupStatistics], taxonomy: Taxonomy, ids: np.ndarray
) -> Figure:
    rows = -(-len(ids) // 4)
    height = 1.0 + 0.36 * len(groups) + 0.26 * rows
    figure = Figure(figsize=(10, height), dpi=120, layout='constrained')
    axes = figure.subplots()
    left = np.zeros(len(groups))
    for index in ids:
        shares = np.array([100 * group.shares[index] for group in groups])
        color = taxonomy.palette_rgb[index] / 255
        axes.barh(range(len(groups)), shares, left=left, color=color, edgecolor=_EDGE, lw=0.4)
        left += shares
    axes.set_yticks(range(len(groups)), [plain(group.name) for group in groups])
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    axes.set_xlabel('% of the labelled pixels')
    _tidy(axes)
    figure.legend(handles=class_patches(taxonomy, ids), loc='outside lower center', ncols=4)
    return figure


def class_patches(taxonomy: Taxonomy, ids: Sequence[int] | np.ndarray) -> list[Patch]:
    """Return a legend's entries for classes."""
    return [
        Patch(
            facecolor=taxonomy.palette_rgb[index] / 255,
            edgecolor=_EDGE,
            label=plain(taxonomy.names[index]),
        )
        for index in ids
    ]


def draw_colors(groups: Sequence[GroupStatistics]) -> Figure:
    """Draw mean and spread of the channels, and the lightness of top, middle and bottom."""
    groups = [group for group in groups if group.has_pictures]
    if len(groups) > _MAX_DETAILED:
        return _lightness_rows(groups)
    styles = _styles(len(groups))
    figure = Figure(figsize=(13, 3.7 + 0.2 * (len(groups) // 6)), dpi=120, layout='constrained')
    channels, *thirds = figure.subplots(1, 1 + len(THIRDS), width_ratios=(1.4, 1, 1, 1))
    _draw_channels(channels, groups, styles)
    for group, style in zip(groups, styles, strict=True):
        if not len(group.features):
            continue
        for axes, shares in zip(thirds, lightness_shares(group.features), strict=True):
            edges = np.linspace(0, 100, len(shares) + 1)
            line = {'color': style['color'], 'linestyle': style['linestyle'], 'linewidth': 2}
            axes.stairs(100 * shares, edges, baseline=None, **line)
    for axes, third in zip(thirds, THIRDS, strict=True):
        axes.set(xlabel='lightness L*, 0 black to 100 white', xlim=(0, 100), ylim=(0, None))
        axes.set_title(f'Lightness, {third} third', size=11)
        _tidy(axes, 'y')
    thirds[0].set_ylabel('% of the pixels')
    handles = [
        Line2D([], [], label=plain(group.name), markersize=7, linewidth=2, **style)
        for group, style in zip(groups, styles, strict=True)
    ]
    columns = min(len(groups), 6)
    figure.legend(handles=handles, loc='outside lower center', ncols=columns, handlelength=4)
    return figure


def _lightness_rows(groups: Sequence[GroupStatistics]) -> Figure:
    """Draw the mean colour and the lightness histograms with a row for each group."""
    figure = Figure(figsize=(13, 1.6 + 0.3 * len(groups)), dpi=120, layout='constrained')
    swatches, *thirds = figure.subplots(1, 4, sharey=True, width_ratios=(0.25, 1, 1, 1))
    means = np.array([group.mean_rgb for group in groups]) / 255
    swatches.imshow(np.clip(means, 0, 1)[:, None], aspect='auto')
    for row, group in enumerate(groups):
        color = 'white' if group.luminance < 128 else 'black'
        swatches.text(0, row, f'{group.luminance:.0f}', ha='center', va='center', color=color)
    swatches.set_xticks([])
    swatches.set_yticks(range(len(groups)), [plain(group.name) for group in groups])
    swatches.set_title('Luminance', size=11)
    empty = np.full((len(THIRDS), 1), np.nan)
    rows = [lightness_shares(g.features) if len(g.features) else empty for g in groups]
    num_bins = max(part.shape[1] for part in rows)
    shares = 100 * np.stack([np.broadcast_to(part, (len(THIRDS), num_bins)) for part in rows])
    extent = (0, 100, len(groups) - 0.5, -0.5)
    limits = {'vmin': 0, 'vmax': float(np.nanmax(shares, initial=1))}
    for position, (axes, third) in enumerate(zip(thirds, THIRDS, strict=True)):
        part = shares[:, position]
        shown = axes.imshow(part, aspect='auto', extent=extent, cmap='YlGnBu', **limits)
        axes.set_title(f'Lightness, {third} third', size=11)
        axes.set_xlabel('L*, 0 black to 100 white')
    figure.colorbar(shown, ax=thirds, shrink=0.9).set_label('% of the pixels')
    return figure


def _draw_channels(
    axes: Axes, groups: Sequence[GroupStatistics], styles: list[dict[str, Any]]
) -> None:
    """Draw each channel's mean as a point with a bar of one standard deviation either way."""
    offsets = np.linspace(-0.3, 0.3, len(groups))
    for group, style, offset in zip(groups, styles, offsets, strict=True):
        color, marker = style['color'], style['marker']
        places = np.arange(3) + offset
        bars = {'color': color, 'fmt': marker, 'markersize': 6, 'capsize': 3, 'elinewidth': 1.2}
        axes.errorbar(places, group.mean_rgb, group.std_rgb, **bars)
        square: dict[str, Any] = {'marker': 's', 's': min(170, 900 / len(groups)), 'zorder': 3}
        mean = np.clip(np.asarray(group.mean_rgb) / 255, 0, 1)
        axes.scatter([3 + offset], [group.luminance], color=[mean], edgecolor=color, **square)
    axes.set(xticks=range(4), ylabel='level, 0 to 255', ylim=(0, 255), xlim=(-0.5, 3.5))
    axes.set_xticklabels(['red', 'green', 'blue', 'mean colour\nat its luminance'])
    axes.set_title('Mean and standard deviation', size=11)
    _tidy(axes, 'y')


def draw_embedding(groups: Sequence[GroupStatistics]) -> Figure:
    """Draw the frames by the first two principal components of their features."""
    features = np.concatenate([group.features for group in groups]).astype(np.float64)
    centered = features - features.mean(axis=0)
    _, values, directions = np.linalg.svd(centered, full_matrices=False)
    explained = values**2 / max(float((values**2).sum()), 1e-12)
    points = centered @ directions[:2].T
    figure = Figure(figsize=(7.5, 6), dpi=120, layout='constrained')
    axes = figure.subplots()
    stops = np.cumsum([len(group.features) for group in groups])[:-1]
    for group, style, part in zip(
        groups, _styles(len(groups)), np.split(points, stops), strict=True
    ):
        name, color, marker = plain(group.name), style['color'], style['marker']
        x, y = part.T
        axes.scatter(x, y, 30, color, marker=marker, alpha=0.6, linewidths=0, label=name)
    axes.set_xlabel(f'first component ({100 * explained[0]:.0f} % of the variance)')
    axes.set_ylabel(f'second component ({100 * explained[1]:.0f} % of the variance)')
    axes.set_aspect('equal', 'datalim')
    figure.legend(loc='outside right upper', frameon=False)
    _tidy(axes, 'both')
    return figure


def draw_distances(comparison: GroupComparison) -> Figure:
    """Draw the distance of every pair of groups with its interval, each group's drift between."""
    names = [plain(group.name) for group in comparison.groups]
    count = len(names)
    matrix = np.full((count, count), np.nan)
    texts: dict[tuple[int, int], str] = {}
    has_room = count <= _MAX_DETAILED
    for (i, j), distance in comparison.distances.items():
        if distance is None:
            continue
        matrix[i, j] = matrix[j, i] = distance.value
        interval = f'\n{number(distance.low)} to {number(distance.high)}' if has_room else ''
        texts[i, j] = texts[j, i] = number(distance.value) + interval
        for place, within in ((i, distance.within_a), (j, distance.within_b)):
            matrix[place, place] = within
            texts[place, place] = number(within) + '\nits halves' * has_room
    cell = 1.35 if has_room else 0.55
    figure = Figure(figsize=(3.2 + cell * count, 1.6 + cell * count), dpi=120)
    axes = figure.subplots()
    top = max(0.05, float(np.nanmax(matrix, initial=0.0)))
    shown = axes.imshow(np.maximum(matrix, 0), cmap='YlGnBu', vmin=0, vmax=top)
    for (row, column), text in texts.items():
        color = 'white' if matrix[row, column] > 0.55 * top else 'black'
        slant = 'italic' if row == column else 'normal'
        size = 9.5 if has_room else 7.5
        axes.text(column, row, text, ha='center', va='center', color=color, size=size, style=slant)
    axes.set_xticks(range(count), names, rotation=40 if count > 4 else 0)
    if count > 4:
        for label in axes.get_xticklabels():
            label.set(ha='right', rotation_mode='anchor')
    axes.set_yticks(range(count), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_label('distance (0: same look)')
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def plain(text: str, longest: int = 28) -> str:
    """Return a name as matplotlib shows it literally, shortened at the end."""
    text = text if len(text) <= longest else text[: longest - 1] + '…'
    text = text.replace('$', r'\$')
    # Matplotlib leaves names with a leading underscore out of legends.
    return '\u200a' + text if text.startswith('_') else text


def _styles(count: int) -> list[dict[str, Any]]:
    """Return colour, marker and line style of each group; they differ in more than colour."""
    colors, markers = islice(cycle(_COLORS), count), islice(cycle(_MARKERS), count)
    # Colours repeat after 7, dashes after 4: 28 groups have styles of their own.
    dashes = islice(cycle(_DASHES), count)
    return [
        {'color': color, 'marker': marker, 'linestyle': dash}
        for color, marker, dash in zip(colors, markers, dashes, strict=True)
    ]


def _tidy(axes: Axes, grid: str = 'x') -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis=grid, color='#dddddd', linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
