"""What the times of frames say of their recording: gaps, drops, stamps that are not in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import re
from typing import Any

import numpy as np

# A pause of so many usual periods is a gap: a camera that misses one frame leaves two periods.
_GAP_PERIODS = 1.75
_MAX_LISTED = 1000
_NUMBER = re.compile(r'\d+')


def recording_facts(columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return camera -> what its frames' times tell.

    Keys: ``num_frames``, ``num_failed`` (with a problem), ``period_ms`` (median), ``gaps`` (each
    with ``start_ns`` of bag time, ``length_s`` and ``missing``, the frames that would have fitted
    in), ``num_missing`` in all of them, ``num_backwards`` and ``num_repeated`` stamps.

    Args:
        columns: Of the per-frame table.
    """
    cameras = np.array(columns['camera'], object)
    facts = {}
    for camera in dict.fromkeys(columns['camera']):
        chosen = cameras == camera
        problems = [text for text, mine in zip(columns['problem'], chosen, strict=True) if mine]
        facts[camera] = {
            'num_frames': int(chosen.sum()),
            'num_failed': sum(bool(text) for text in problems),
            **_gaps(columns['time_ns'][chosen]),
            **_order(columns['stamp_ns'][chosen]),
        }
    return facts


def _gaps(times_ns: np.ndarray) -> dict[str, Any]:
    steps = np.diff(times_ns)
    period_ns = float(np.median(steps)) if len(steps) else 0.0
    places = np.flatnonzero((steps > _GAP_PERIODS * period_ns) & (period_ns > 0))
    gaps = [
        {
            'start_ns': int(times_ns[place]),
            'length_s': round(float(steps[place]) / 1e9, 6),
            'missing': round(float(steps[place]) / period_ns) - 1,
        }
        for place in places
    ]
    return {
        'period_ms': round(period_ns / 1e6, 3),
        'num_gaps': len(gaps),
        'num_missing': sum(gap['missing'] for gap in gaps),
        'gaps': sorted(gaps, key=lambda gap: -gap['length_s'])[:_MAX_LISTED],
    }


def _order(stamps_ns: np.ndarray) -> dict[str, int]:
    steps = np.diff(stamps_ns)
    return {'num_backwards': int((steps < 0).sum()), 'num_repeated': int((steps == 0).sum())}


def problem_counts(problems: Sequence[str]) -> list[dict[str, Any]]:
    """Return ``problem`` and ``count`` of frames, the most frequent first.

    Problems that differ in nothing but numbers are one; its text is that of the first.
    """
    kinds: dict[str, list[str]] = {}
    for problem in filter(None, problems):
        kinds.setdefault(_NUMBER.sub('#', problem), []).append(problem)
    found = [{'problem': texts[0], 'count': len(texts)} for texts in kinds.values()]
    return sorted(found, key=lambda entry: -entry['count'])
