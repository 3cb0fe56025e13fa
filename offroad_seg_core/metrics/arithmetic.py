"""Arithmetic that every score shares: shares, means, and the nan that JSON does not have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient of two arrays of one shape, float64; nan where the divisor is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0)


def share(part: int | np.integer, whole: int | np.integer) -> float:
    """Return ``part / whole``; nan when there is no whole."""
    return int(part) / int(whole) if whole else math.nan


def mean_of(values: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean of the values where ``mask`` is true; nan when it is nowhere."""
    return float(values[mask].mean()) if mask.any() else math.nan


def by_name(names: tuple[str, ...], values: np.ndarray) -> dict[str, float]:
    """Return name -> value, plain floats."""
    return dict(zip(names, (float(value) for value in values), strict=True))


def plain(value: Any) -> Any:
    """Return nested dicts and lists with None in place of nan, for JSON."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
