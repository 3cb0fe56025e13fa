"""Say in a corner of a picture what its colours mean.

A legend is rendered once for its entries and text size, and pasted from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from offroad_seg_core.taxonomy import UNKNOWN_COST, Taxonomy, TaxonomyClass
from offroad_seg_core.visualization import TRAVERSABILITY_PALETTE_BGR, put_text, text_size

_BACKGROUND = 28
_CORNERS = ('top_left', 'top_right', 'bottom_left', 'bottom_right')


class LegendEntry(NamedTuple):
    """A colour, in the channel order of the picture, and what it means."""

    text: str
    color: tuple[int, int, int]


def legend_entries(
    taxonomy: Taxonomy,
    cost_overrides: Mapping[str, int] | None = None,
    palette: np.ndarray = TRAVERSABILITY_PALETTE_BGR,
    max_entries: int = 12,
) -> tuple[LegendEntry, ...]:
    """Return the entries of a traversability overlay, from free to lethal.

    One line for the classes of each cost, or for each traversability group (in the colour of its
    classes' median cost) where there are more than ``max_entries`` classes. Classes of unknown
    cost have none: the overlay leaves them untinted.

    Args:
        taxonomy: The classes.
        cost_overrides: See Taxonomy.cost_table.
        palette: Colour of each cost, (256, 3) uint8.
        max_entries: Most classes to be named.
    """
    table = taxonomy.cost_table(cost_overrides)
    known = [entry for entry in taxonomy.classes if table[entry.id] != UNKNOWN_COST]
    lines: dict[str | int, list[TaxonomyClass]] = {}
    for entry in known:
        key = entry.group if len(known) > max_entries else int(table[entry.id])
        lines.setdefault(key, []).append(entry)
    ranked = []
    for key, members in lines.items():
        costs = sorted(int(table[entry.id]) for entry in members)
        name = key if isinstance(key, str) else ', '.join(entry.name for entry in members)
        ranked.append((costs[len(costs) // 2], _label(name, costs)))
    return tuple(LegendEntry(text, _color(palette, cost)) for cost, text in sorted(ranked))


def class_legend_entries(taxonomy: Taxonomy, palette: np.ndarray) -> tuple[LegendEntry, ...]:
    """Return one entry for each class, in the colours of ``palette``, (256, 3) uint8."""
    return tuple(LegendEntry(entry.name, _color(palette, entry.id)) for entry in taxonomy.classes)


def draw_legend(
    image: np.ndarray,
    entries: tuple[LegendEntry, ...],
    corner: str = 'bottom_left',
    text_height_px: int | None = None,
) -> np.ndarray:
    """Paste a legend into a corner of an image, in place.

    Args:
        image: (H, W, 3) uint8, writeable. A legend that does not fit is cut at the image's edge.
        entries: What to show, in order.
        corner: ``top_left``, ``top_right``, ``bottom_left`` or ``bottom_right``.
        text_height_px: Height of a capital letter; None: 1/75 of the image height, at least 7.

    Returns:
        ``image``.

    Raises:
        ValueError: Unknown corner.
    """
    if corner not in _CORNERS:
        raise ValueError(f'corner: got {corner!r}; expected one of {", ".join(_CORNERS)}')
    height, width = image.shape[:2]
    size = text_height_px or max(7, height // 75)
    patch = render_legend(tuple(entries), size, height)[:height, :width]
    top = 0 if corner.startswith('top') else height - patch.shape[0]
    left = 0 if corner.endswith('left') else width - patch.shape[1]
    image[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return image


@lru_cache(maxsize=16)
def render_legend(
    entries: tuple[LegendEntry, ...], text_height_px: int, max_height_px: int
) -> np.ndarray:
    """Return a legend as a read-only picture, (h, w, 3) uint8, with as many columns as needed.

    Args:
        entries: What to show, in order.
        text_height_px: Height of a capital letter.
        max_height_px: Height that a further column is opened for.
    """
    line = 2 * text_height_px
    pad = text_height_px // 2 + 1
    rows = max(1, min(len(entries), (max_height_px - 2 * pad) // line))
    columns = -(-len(entries) // rows)
    rows = -(-len(entries) // max(1, columns))
    widths = [text_size(entry.text, text_height_px)[0] for entry in entries]
    column_width = line + pad + max(widths, default=0) + pad
    patch = np.full(
        (rows * line + 2 * pad, columns * column_width + 2 * pad, 3), _BACKGROUND, np.uint8
    )
    for position, entry in enumerate(entries):
        column, row = divmod(position, rows)
        top, left = pad + row * line, pad + column * column_width
        inset = max(1, line // 8)
        patch[top + inset : top + line - inset, left : left + line - inset] = entry.color
        base = (left + line + pad // 2, top + (line + text_height_px) // 2)
        put_text(patch, entry.text, base, text_height_px)
    patch.flags.writeable = False
    return patch


def _color(palette: np.ndarray, index: int) -> tuple[int, int, int]:
    first, second, third = (int(part) for part in palette[index])
    return first, second, third


def _label(name: str, costs: list[int]) -> str:
    low, high = costs[0], costs[-1]
    return f'{name} {low}' if low == high else f'{name} {low}-{high}'
