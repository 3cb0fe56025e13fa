"""How the figures of a training report look."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

INK, EDGE, SOFT, WARNING = '#333333', '#555555', '#777777', '#b00020'
# Okabe & Ito, "Color universal design" (2008), without yellow, which is too light for lines.
SERIES = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000')
WIDTH_INCH = 9.0
_DPI = 120


def new_figure(height: float, width: float = WIDTH_INCH) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), dpi=_DPI, layout='constrained')


def tidy(axes: Axes, grid: str = 'x') -> None:
    """Take away what carries no information."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis=grid, color='#dddddd', linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def limit_steps(axes: Axes, last: float) -> None:
    """Let the horizontal axis run from the first step of a run to the last."""
    axes.set_xlim(0, max(1.0, last) * 1.01)
    axes.set_xlabel('step')


def score_text(value: float) -> str:
    """Return a score as figures show it; ``–`` where it is undefined."""
    return '–' if np.isnan(value) else f'{value:.3f}'


def count_text(count: int) -> str:
    """Return a count in at most four letters, such as ``980``, ``9.8k``, ``98M``."""
    for unit in ('', 'k', 'M', 'G'):
        if count < 999.5 or unit == 'G':
            break
        count = count / 1000  # type: ignore[assignment]
    return f'{count:.0f}{unit}' if not unit or count >= 9.95 else f'{count:.1f}{unit}'


def series_style(place: int) -> dict[str, Any]:
    """Return colour and dashes of a line; they differ for 28 lines."""
    dashes: tuple[Any, ...] = ('-', (0, (5, 1.5)), (0, (1, 1)), '-.')
    line = dashes[place // len(SERIES) % len(dashes)]
    return {'color': SERIES[place % len(SERIES)], 'linestyle': line}
