"""Numbers as the page's data hold them."""

from __future__ import annotations

import numpy as np

_DIGITS = 6
"""Of a million pixels one that is wrong must not read as none."""


def numbers(values: np.ndarray) -> list[float | None]:
    """Return numbers as short as the page needs them, None for nan."""
    return [number(value) for value in values.tolist()]


def number(value: float) -> float | None:
    """Return one number likewise."""
    return None if np.isnan(value) else round(float(value), _DIGITS)
