"""What the report's page shows, as plain data for its scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from offroad_seg_core.evaluation.counting import SHARE
from offroad_seg_core.evaluation.drive_report.plain import number, numbers
from offroad_seg_core.evaluation.drive_report.scores import scored
from offroad_seg_core.evaluation.drive_report.times import TimeAxis
from offroad_seg_core.evaluation.frame_table import read_table
from offroad_seg_core.evaluation.outputs.sink import frame_path
from offroad_seg_core.evaluation.parts import UNFINISHED
from offroad_seg_core.evaluation.summary import read_summary
from offroad_seg_core.taxonomy import UNKNOWN_COST, Taxonomy
from offroad_seg_core.visualization import TRAVERSABILITY_PALETTE_RGB

METRICS = {
    'miou_present': 'mIoU of the classes in the frame',
    'pixel_accuracy': 'share of right pixels',
    'false_safe_rate': 'false safe: costly ground called free',
    'mean_confidence': 'mean confidence',
    'unlabeled_share': 'share of unknown pixels',
    'free_share': 'share of free ground',
    'costly_share': 'share of costly ground',
    'flicker': 'flicker: share of pixels that changed their class in place',
    'latency_ms': 'age of the labels on arrival, ms',
    'engine_ms': 'engine, ms',
}
"""Columns of the table that the timeline can show, in the order in which it offers them."""
_MAX_BINS = 240
_MAX_GAPS = 100


@dataclass(frozen=True)
class DriveResult:
    """The result of one evaluation, read back.

    Attributes:
        folder: Where it is.
        name: Short, unique among those that are compared.
        summary: Content of summary.json.
        columns: Of the per-frame table.
        taxonomy: The classes.
    """

    folder: Path
    name: str
    summary: Mapping[str, Any]
    columns: Mapping[str, Any]
    taxonomy: Taxonomy


def read_results(folders: Sequence[str | Path]) -> list[DriveResult]:
    """Read the results of evaluations.

    Raises:
        ResultError: A folder holds none.
        ValueError: They are of different classes.
    """
    results: list[DriveResult] = []
    for folder in map(Path, folders):
        summary = read_summary(folder)
        taxonomy = Taxonomy.from_dict(summary['taxonomy'], origin=str(folder))
        name = folder.resolve().name.removesuffix(UNFINISHED)
        taken = [result.name for result in results]
        name = name if name not in taken else f'{name} ({len(results) + 1})'
        results.append(DriveResult(folder, name, summary, read_table(folder), taxonomy))
        if taxonomy.names != results[0].taxonomy.names:
            got = f'classes of {taxonomy.name} beside those of {results[0].taxonomy.name}'
            raise ValueError(f'{folder}: got {got}; expected equal ones; compare others')
    return results


def page_data(results: Sequence[DriveResult]) -> dict[str, Any]:
    """Return everything that the page's scripts need, plain values for JSON.

    Args:
        results: One, or several to be compared, the first being what others are held against.
    """
    return {
        'classes': [
            {'name': entry.name, 'color': '#' + bytes(entry.color_rgb).hex()}
            for entry in results[0].taxonomy.classes
        ],
        'notes': _differences(results),
        'costColors': TRAVERSABILITY_PALETTE_RGB.tolist(),
        'unknownCost': UNKNOWN_COST,
        'metrics': METRICS,
        'runs': [_run(result) for result in results],
    }


def _differences(results: Sequence[DriveResult]) -> list[str]:
    """Return what keeps results from being compared as they stand, as sentences."""
    groups = [[entry.group for entry in result.taxonomy.classes] for result in results]
    costs = [
        ['unknown' if cost == UNKNOWN_COST else cost for cost in result.summary['costs']]
        for result in results
    ]
    names = [result.name for result in results]
    told = []
    for what, of_runs in (('costs', costs), ('groups', groups)):
        found = [
            f'{name} {", ".join(f"{v} in {run}" for v, run in zip(values, names, strict=True))}'
            for name, *values in zip(results[0].taxonomy.names, *of_runs, strict=True)
            if len(set(values)) > 1
        ]
        if found:
            told.append(f'{what} differ: {"; ".join(found)}')
    return told


def _run(result: DriveResult) -> dict[str, Any]:
    summary, taxonomy = result.summary, result.taxonomy
    axis = TimeAxis(result.columns, summary['source'])
    shown = ('title', 'date', 'source', 'notes', 'model', 'reference', 'num_frames', 'problems')
    others = ('num_labelled', 'num_with_truth', 'means', 'timings_ms', 'costs')
    data: dict[str, Any] = {
        'name': result.name,
        **{key: summary[key] for key in (*shown, *others, 'frames_per_s', 'environment')},
        'classGroups': [entry.group for entry in taxonomy.classes],
        'recording': _recording(summary, axis),
        'frames': _frames(result, axis),
        'shares': _shares(result.columns, taxonomy, axis),
        'scores': None,
    }
    if summary['scores']:
        data |= scored(summary, taxonomy)
    return data


def _recording(summary: Mapping[str, Any], axis: TimeAxis) -> dict[str, Any]:
    """Return the facts of each camera's recording, its gaps on the axis of the frames."""
    return {
        camera: facts
        | {
            'gaps': [
                gap | {'seconds': number(axis.seconds(camera, gap['start_ns']))}
                for gap in facts['gaps'][:_MAX_GAPS]
            ]
        }
        for camera, facts in summary['recording'].items()
    }


def _frames(result: DriveResult, axis: TimeAxis) -> dict[str, Any]:
    """Return the timeline: parallel lists, one entry a frame."""
    columns = result.columns
    cameras = list(dict.fromkeys(columns['camera']))
    paths = [
        frame_path(Path(), camera, name, '').as_posix()
        for camera, name in zip(columns['camera'], columns['name'], strict=True)
    ]
    present = _pictures(result.folder)
    return {
        'cameras': cameras,
        'camera': [cameras.index(camera) for camera in columns['camera']],
        'path': paths,
        'hasPicture': [int(path in present) for path in paths],
        'seconds': numbers(_seconds(columns, axis)),
        'isTimed': axis.is_timed,
        'stamp': [str(stamp) for stamp in columns['stamp_ns']],
        'problem': list(columns['problem']),
        'metrics': {name: numbers(columns[name]) for name in METRICS if _has(columns, name)},
    }


def _seconds(columns: Mapping[str, Any], axis: TimeAxis) -> np.ndarray:
    times = zip(columns['camera'], columns['time_ns'].tolist(), strict=True)
    return np.array([axis.seconds(camera, time_ns) for camera, time_ns in times])


def _pictures(folder: Path) -> set[str]:
    home = folder / 'report' / 'frames'
    return {str(path.relative_to(home).with_suffix('')) for path in home.rglob('*.js')}


def _shares(columns: Mapping[str, Any], taxonomy: Taxonomy, axis: TimeAxis) -> dict[str, Any]:
    """Return camera -> mean share of each class over time, in bins of equal length."""
    cameras = np.array(columns['camera'], object)
    all_seconds = _seconds(columns, axis)
    found = {}
    for camera in dict.fromkeys(columns['camera']):
        chosen = cameras == camera
        seconds = all_seconds[chosen]
        num_bins = min(_MAX_BINS, len(seconds))
        span = float(np.ptp(seconds))
        # All frames of one moment are in the first bin.
        places = (seconds - seconds.min()) / (span or 1.0) * num_bins
        bins = np.minimum(places, num_bins - 1).astype(int)
        values = np.stack([columns[SHARE + name][chosen] for name in taxonomy.names])
        known = np.isfinite(values[0])
        totals = np.bincount(bins[known], minlength=num_bins)
        sums = [np.bincount(bins[known], row[known], num_bins) for row in values]
        filled = totals > 0
        centers = seconds.min() + (np.arange(num_bins) + 0.5) * span / num_bins
        found[camera] = {
            'seconds': numbers(centers[filled]),
            'classes': [numbers(row[filled] / totals[filled]) for row in sums],
        }
    return found


def _has(columns: Mapping[str, Any], name: str) -> bool:
    return name in columns and bool(np.isfinite(columns[name]).any())
