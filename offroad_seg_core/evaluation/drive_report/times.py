"""Where frames lie on the report's axis of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class TimeAxis:
    """The axis of one result: seconds, or numbers of frames where those have no time.

    Drives that were evaluated as one follow each other on it, however far apart they were
    recorded.

    Args:
        columns: Of the per-frame table.
        source: What the summary says of the source.

    Attributes:
        is_timed: Whether its unit is the second.
    """

    def __init__(self, columns: Mapping[str, Any], source: Mapping[str, Any]) -> None:
        self._kinds = source.get('kinds', {})
        self.is_timed = set(self._kinds.values() or [source['kind']]) != {'dataset'}
        drives = np.array([self._drive(camera) for camera in columns['camera']], object)
        self._stretches: dict[str, _Stretch] = {}
        start = 0.0
        for drive in dict.fromkeys(drives):
            times = np.unique(columns['time_ns'][drives == drive])
            step = float(np.median(np.diff(times))) if len(times) > 1 else 1e9
            # Frames of datasets are counted, however far apart they are.
            is_counted = self._kinds.get(drive, source['kind']) == 'dataset'
            per_second = step if is_counted else 1e9
            self._stretches[drive] = _Stretch(int(times[0]), start, per_second)
            start += (float(times[-1] - times[0]) + step) / per_second

    def seconds(self, camera: str, time_ns: int) -> float:
        """Return the place of a time of a camera's drive."""
        stretch = self._stretches[self._drive(camera)]
        return stretch.start + (time_ns - stretch.first_ns) / stretch.per_second

    def _drive(self, camera: str) -> str:
        name = camera.partition('/')[0]
        return name if name in self._kinds else ''


class _Stretch(NamedTuple):
    """Where the axis holds a drive."""

    first_ns: int
    start: float
    per_second: float
