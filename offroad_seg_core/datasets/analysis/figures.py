"""Draw what a data set consists of."""

from __future__ import annotations

from collections.abc import Sequence
import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
import numpy as np

from offroad_seg_core.taxonomy import Taxonomy

_INK, _EDGE, _WARNING = '#333333', '#555555', '#b00020'
_LEAST_SHARE = 1e-7
_DPI = 110


def class_share_figure(shares: np.ndarray, frame_shares: np.ndarray, taxonomy: Taxonomy) -> bytes:
    """Draw the share of each class in the labelled pixels, the largest on top, as PNG.

    The axis is logarithmic: rare classes are what one looks for. A dot tells in how many of the
    frames a class is.

    Args:
        shares: ``(C,)``, 0 to 1.
        frame_shares: Share of the frames that show each class, ``(C,)``, 0 to 1.
        taxonomy: Names and colours.
    """
    order = np.argsort(-shares, kind='stable')
    figure = Figure(figsize=(9, 1.0 + 0.27 * len(order)), dpi=_DPI, layout='constrained')
    axes: Axes = figure.subplots()
    percent = 100 * np.maximum(shares[order], _LEAST_SHARE)
    present = shares[order] > 0
    low = 10.0 ** np.floor(np.log10(percent[present].min() if present.any() else 1) - 0.3)
    rows = np.arange(len(order))
    colors = taxonomy.palette_rgb[order] / 255
    width = np.where(present, percent, low)
    axes.barh(rows, width, color=colors, edgecolor=_EDGE, linewidth=0.6, height=0.72)
    axes.scatter(
        100 * frame_shares[order][present],
        rows[present],
        s=16,
        color='white',
        edgecolors=_INK,
        zorder=3,
        label='share of the frames that show it',
    )
    for row, share in zip(rows, shares[order], strict=True):
        text = percent_text(share) if share else 'absent'
        axes.text(
            130, float(row), f' {text}', va='center', size=9, color=_INK if share else _WARNING
        )
    axes.set_yticks(rows, [_plain(taxonomy.names[index]) for index in order])
    axes.set_xscale('log')
    axes.set_xlim(low, 130)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.set_xlabel('% of the labelled pixels (bars), % of the frames (dots); logarithmic')
    _tidy(axes)
    return png(figure)


def environment_figure(names: Sequence[str], shares: np.ndarray, taxonomy: Taxonomy) -> bytes:
    """Draw the class shares of each environment as one stacked bar each, as PNG.

    Args:
        names: Of the environments.
        shares: ``(len(names), C)``, each row sums to 1 or is 0.
        taxonomy: Names and colours.
    """
    shown = np.argsort(-shares.max(axis=0), kind='stable')[:24]
    shown = np.sort(shown[shares.max(axis=0)[shown] > 0])
    legend_rows = -(-len(shown) // 5)
    height = 0.8 + 0.34 * len(names) + 0.25 * legend_rows
    figure = Figure(figsize=(9, height), dpi=_DPI, layout='constrained')
    axes: Axes = figure.subplots()
    left = np.zeros(len(names))
    for index in shown:
        part = 100 * shares[:, index]
        axes.barh(
            range(len(names)),
            part,
            left=left,
            color=taxonomy.palette_rgb[index] / 255,
            edgecolor=_EDGE,
            linewidth=0.4,
            height=0.76,
            label=_plain(taxonomy.names[index]),
        )
        left += part
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.set_xlim(0, 100)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlabel('% of the labelled pixels')
    _tidy(axes)
    figure.legend(loc='outside lower center', ncols=5, fontsize=9, frameon=False)
    return png(figure)


def percent_text(share: float) -> str:
    """Return a share of 0 to 1 as a text with two digits, such as ``4.1 %`` or ``0.0031 %``."""
    percent = 100 * share
    if percent == 0:
        return '0 %'
    digits = max(0, 1 - int(np.floor(np.log10(percent))))
    return f'{percent:.{digits}f} %'


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', facecolor='white')
    return buffer.getvalue()


def _plain(text: str) -> str:
    """Keep matplotlib from reading ``$`` as mathematics, or a leading ``_`` as hidden."""
    return text.replace('$', r'\$').replace('_', ' ').strip()


def _tidy(axes: Axes) -> None:
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis='y', length=0)
    axes.grid(axis='x', color='#dddddd', linewidth=0.6)
    axes.set_axisbelow(True)
