"""Figures of the demo: what came out, how fast, how right."""

from __future__ import annotations

from collections.abc import Mapping
import math
from typing import Any

import numpy as np

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_ros.demo_replay import CameraTimes, Replay

_COUNTERS = ('dropped_busy', 'dropped_stale', 'failed', 'lost_in_transport')


def summarize(
    replay: Replay,
    bundle: Bundle,
    scores: tuple[Mapping[str, ConfusionMatrix], str],
) -> dict[str, Any]:
    """Return all figures as plain data for JSON; what is not known is None."""
    matrices, why_not = scores
    total = ConfusionMatrix(bundle.taxonomy.num_classes)
    for matrix in matrices.values():
        total = total.merge(matrix)
    latencies = [times.latencies_ms() for times in replay.cameras.values()]
    num_in = sum(times.num_sent for times in replay.cameras.values())
    num_out = sum(times.num_received for times in replay.cameras.values())
    return {
        'engine': {
            name: replay.engine.get(name, '')
            for name in ('engine', 'engine_version', 'precision', 'device', 'cpu', 'cpu_cores')
        },
        'bundle': bundle.identity,
        'taxonomy': bundle.taxonomy.name,
        'cameras': {
            name: {
                **_flow(times.num_sent, times.num_received, times.fps, times.latencies_ms()),
                **_scores(matrices.get(name)),
                'node': _node_figures(replay.diagnostics.get(name, {})),
            }
            for name, times in replay.cameras.items()
        },
        'total': {
            **_flow(num_in, num_out, _total_fps(replay.cameras), np.concatenate(latencies)),
            **_scores(total if matrices else None),
        },
        'class_iou': _class_iou(total, bundle.taxonomy) if matrices else {},
        'no_miou_because': why_not,
    }


def table(summary: Mapping[str, Any]) -> str:
    """Return the figures of the cameras as a Markdown table that reads well in a terminal."""
    header = ['camera', 'in', 'out', 'dropped', 'fps', 'p50 ms', 'p95 ms', 'mIoU', 'mIoU present']
    lines = [header]
    rows = {**summary['cameras'], 'total': summary['total']}
    for name, row in rows.items():
        values = [row['latency_p50_ms'], row['latency_p95_ms']]
        scores = [row['miou'], row['miou_present']]
        lines.append(
            [
                name,
                *(str(row[key]) for key in ('frames_in', 'frames_out', 'dropped')),
                f'{row["fps"]:.1f}',
                *('-' if value is None else f'{value:.1f}' for value in values),
                *('-' if value is None else f'{value:.3f}' for value in scores),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [_line(cells, widths) for cells in lines]
    rights = ['-' * (width + 1) + ':' for width in widths[1:]]
    rule = '|'.join(['', ':' + '-' * (widths[0] + 1), *rights, ''])
    return '\n'.join([text[0], rule, *text[1:]])


def _line(cells: list[str], widths: list[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return f'| {" | ".join([first, *rest])} |'


def _flow(num_in: int, num_out: int, fps: float, latencies_ms: np.ndarray) -> dict[str, Any]:
    p50, p95 = np.percentile(latencies_ms, (50, 95)) if latencies_ms.size else (None, None)
    return {
        'frames_in': num_in,
        'frames_out': num_out,
        'dropped': num_in - num_out,
        'fps': round(fps, 2),
        'latency_p50_ms': None if p50 is None else round(float(p50), 2),
        'latency_p95_ms': None if p95 is None else round(float(p95), 2),
    }


def _scores(matrix: ConfusionMatrix | None) -> dict[str, float | None]:
    if matrix is None:
        return {'miou': None, 'miou_present': None, 'pixel_accuracy': None}
    return {
        'miou': _number(matrix.miou),
        'miou_present': _number(matrix.miou_present),
        'pixel_accuracy': _number(matrix.pixel_accuracy),
    }


def _class_iou(matrix: ConfusionMatrix, taxonomy: Taxonomy) -> dict[str, float | None]:
    return {
        name: _number(float(value))
        for name, value in zip(taxonomy.names, matrix.iou(), strict=True)
    }


def _node_figures(status: Mapping[str, str]) -> dict[str, int | float]:
    """Return what the node itself counted, and its time from receipt to the last publish."""
    counted: dict[str, int | float] = {
        name: int(status[name]) for name in _COUNTERS if status.get(name, '').isdigit()
    }
    for name in ('latency_p50_ms', 'latency_p95_ms', 'engine_p50_ms'):
        if status.get(name):
            counted[name] = float(status[name])
    return counted


def _total_fps(cameras: Mapping[str, CameraTimes]) -> float:
    return sum(times.fps for times in cameras.values())


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
