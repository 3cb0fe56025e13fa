"""How long the labels of a live node took, as ``latency_recorder`` writes it: a line a frame."""

from __future__ import annotations

import csv
from pathlib import Path

from offroad_seg_core.evaluation.sources.frame import SourceError

FRAMES = 'frames.csv'
COLUMNS = ('camera', 'stamp_ns', 'latency_ms')
"""Of the file; the latency is empty for a frame that got no labels."""


def read_latencies(folder: str | Path) -> dict[tuple[str, int], float]:
    """Return (camera, stamp) -> age of the labels when they arrived, ms, of frames with labels.

    Of a frame that came several times, as from a bag in a loop, the first counts.

    Raises:
        SourceError: The folder holds no such file.
    """
    path = Path(folder) / FRAMES
    found: dict[tuple[str, int], float] = {}
    try:
        with open(path, newline='', encoding='utf-8') as stream:
            for row in csv.DictReader(stream):
                camera, stamp_ns, latency_ms = (row[name] for name in COLUMNS)
                if latency_ms:
                    found.setdefault((camera, int(stamp_ns)), float(latency_ms))
    except (OSError, KeyError, TypeError, ValueError) as error:
        expected = f'a table of latency_recorder with {", ".join(COLUMNS)}'
        fix = 'give the folder that it wrote'
        raise SourceError(f'{path}: got {error!r}, expected {expected}; fix: {fix}') from error
    return found
