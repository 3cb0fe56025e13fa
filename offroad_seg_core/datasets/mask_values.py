"""What the values in label files mean, and how to say that one means nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy

# class_ids: ids of the taxonomy, 255 ignored. raw_ids: the classes' raw_ids. colors: the classes'
# colours. palette: an indexed PNG file whose indices are raw ids.
MaskFormat = Literal['class_ids', 'raw_ids', 'colors', 'palette']
_MAX_LISTED = 12
_WORDS = {'class_ids': 'class ids', 'colors': 'colours'}


def stored_values(taxonomy: Taxonomy, format: MaskFormat) -> dict[int, int]:
    """Return the class id, or IGNORE_INDEX, of every stored value that has a meaning.

    Colours are numbers 0xRRGGBB. The first value of an id in the order of this dict is the one
    to write.
    """
    if format == 'class_ids':
        values = {entry.id: entry.id for entry in taxonomy.classes}
        return {**values, IGNORE_INDEX: IGNORE_INDEX}
    if format == 'colors':
        values = {_pack(entry.color_rgb): entry.id for entry in taxonomy.classes}
        ignored = tuple(_pack(color) for color in taxonomy.ignored_colors)
    else:
        values = {raw_id: entry.id for entry in taxonomy.classes for raw_id in entry.raw_ids}
        ignored = taxonomy.ignored_raw_ids
    return {**values, **dict.fromkeys(ignored, IGNORE_INDEX)}


def describe_unknown(
    taxonomy: Taxonomy, format: MaskFormat, counts: Mapping[int, int], dtype: np.dtype
) -> str:
    """Return the text of the error for stored values without a meaning.

    Args:
        taxonomy: What they were looked up in.
        format: As what.
        counts: Value -> number of pixels.
        dtype: Type of the stored values.
    """
    listed = list(counts.items())[:_MAX_LISTED]
    found = ', '.join(f'{format_value(value, format)} ({count} px)' for value, count in listed)
    if len(counts) > _MAX_LISTED:
        found += f' and {len(counts) - _MAX_LISTED} more values'
    return (
        f'got unknown {_WORDS.get(format, "raw ids")} {found}; expected those of '
        f'{taxonomy.name}: {_describe_known(taxonomy, format)}; '
        f'{_fix(taxonomy, format, set(counts), dtype)}'
    )


def format_value(value: int, format: MaskFormat) -> str:
    """Return a stored value as people write it: ``7100``, or ``#d2964b`` for a colour."""
    return f'#{value:06x}' if format == 'colors' else str(value)


def _describe_known(taxonomy: Taxonomy, format: MaskFormat) -> str:
    if format == 'class_ids':
        return f'0 to {taxonomy.num_classes - 1}, or 255'
    names = {**dict(enumerate(taxonomy.names)), IGNORE_INDEX: 'ignored'}
    known = stored_values(taxonomy, format).items()
    return ', '.join(f'{format_value(value, format)} {names[label]}' for value, label in known)


def _fix(taxonomy: Taxonomy, format: MaskFormat, unknown: set[int], dtype: np.dtype) -> str:
    """Return what to do about unknown values, by what most likely happened."""
    general = "use the taxonomy of this dataset, or set unknown to 'ignore' to make them void"
    if format == 'colors':
        return f'{general}, or add them to its ignored_colors'
    if format == 'class_ids':
        return f"if these are raw ids, set the mask format to 'raw_ids'; else {general}"
    largest = max(stored_values(taxonomy, format))
    if dtype == np.uint8 and largest > 255:
        return (
            f'the file has 8 bits, but {taxonomy.name} has raw ids up to {largest}: either 16 '
            f'bits were squeezed into 8 ({largest} becomes {largest >> 8}; save the masks again '
            f'from the original), or this is a mask of another dataset ({general})'
        )
    if unknown <= {*range(taxonomy.num_classes), IGNORE_INDEX}:
        return f"if these are class ids, set the mask format to 'class_ids'; else {general}"
    return f'{general}, or add them to its ignored_raw_ids'


def _pack(color_rgb: tuple[int, int, int]) -> int:
    return int.from_bytes(bytes(color_rgb), 'big')
