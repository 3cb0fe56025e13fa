"""What the report's page shows, as plain data for its scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from offroad_seg_core.evaluation.class_scores import class_scores
from offroad_seg_core.evaluation.counting import SHARE
from offroad_seg_core.evaluation.frame_table import read_table
from offroad_seg_core.evaluation.outputs.sink import frame_path
from offroad_seg_core.evaluation.parts import UNFINISHED
from offroad_seg_core.evaluation.result import read_summary
from offroad_seg_core.metrics.arithmetic import divide
from offroad_seg_core.metrics.calibration import CalibrationCounts
from offroad_seg_core.metrics.class_scores import group_matrix
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.metrics.segmentation import DEFAULT_COSTLY_FROM
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
_LEVEL_STEP = 5
_DIGITS = 4


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
    first = results[0]
    costs = first.summary['costs']
    return {
        'classes': [
            {
                'name': entry.name,
                'color': '#' + bytes(entry.color_rgb).hex(),
                'group': entry.group,
                'cost': costs[entry.id],
            }
            for entry in first.taxonomy.classes
        ],
        'costColors': TRAVERSABILITY_PALETTE_RGB.tolist(),
        'unknownCost': UNKNOWN_COST,
        'metrics': METRICS,
        'runs': [_run(result) for result in results],
    }


def _run(result: DriveResult) -> dict[str, Any]:
    summary, taxonomy = result.summary, result.taxonomy
    shown = ('title', 'date', 'source', 'notes', 'model', 'reference', 'num_frames', 'problems')
    others = ('num_labelled', 'num_with_truth', 'recording', 'means', 'timings_ms')
    data: dict[str, Any] = {
        'name': result.name,
        **{key: summary[key] for key in (*shown, *others, 'frames_per_s', 'environment')},
        'frames': _frames(result),
        'shares': _shares(result.columns, taxonomy),
        'scores': None,
    }
    if summary['scores']:
        data |= _scored(summary, taxonomy)
    return data


def _frames(result: DriveResult) -> dict[str, Any]:
    """Return the timeline: parallel lists, one entry a frame."""
    columns = result.columns
    cameras = list(dict.fromkeys(columns['camera']))
    times = columns['time_ns']
    # Datasets count frames instead of seconds.
    is_timed = result.summary['source']['kind'] != 'dataset'
    seconds = (times - times.min()) / 1e9 if is_timed else np.arange(len(times), dtype=float)
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
        'seconds': _numbers(seconds),
        'startNs': str(times.min()),
        'isTimed': is_timed,
        'stamp': [str(stamp) for stamp in columns['stamp_ns']],
        'problem': list(columns['problem']),
        'metrics': {name: _numbers(columns[name]) for name in METRICS if _has(columns, name)},
    }


def _pictures(folder: Path) -> set[str]:
    home = folder / 'report' / 'frames'
    return {str(path.relative_to(home).with_suffix('')) for path in home.rglob('*.js')}


def _shares(columns: Mapping[str, Any], taxonomy: Taxonomy) -> dict[str, Any]:
    """Return camera -> mean share of each class over time, in bins of equal length."""
    cameras = np.array(columns['camera'], object)
    start_ns = columns['time_ns'].min()
    found = {}
    for camera in dict.fromkeys(columns['camera']):
        chosen = cameras == camera
        seconds = (columns['time_ns'][chosen] - start_ns) / 1e9
        num_bins = max(1, min(_MAX_BINS, int(chosen.sum())))
        span = max(float(np.ptp(seconds)), 1e-9)
        bins = np.minimum((seconds - seconds.min()) / span * num_bins, num_bins - 1).astype(int)
        values = np.stack([columns[SHARE + name][chosen] for name in taxonomy.names])
        known = np.isfinite(values[0])
        totals = np.bincount(bins[known], minlength=num_bins)
        sums = [np.bincount(bins[known], row[known], num_bins) for row in values]
        filled = totals > 0
        centers = seconds.min() + (np.arange(num_bins) + 0.5) * span / num_bins
        found[camera] = {
            'seconds': _numbers(centers[filled]),
            'classes': [_numbers(row[filled] / totals[filled]) for row in sums],
        }
    return found


def _scored(summary: Mapping[str, Any], taxonomy: Taxonomy) -> dict[str, Any]:
    """Return what there is where there was truth."""
    matrix = ConfusionMatrix(taxonomy.num_classes)
    calibration = CalibrationCounts(taxonomy.num_classes)
    for entry in summary['counts'].values():
        matrix.counts += np.array(entry['confusion_matrix'], np.int64)
        calibration.counts += np.array(entry['calibration'], np.int64)
    together = summary['scores']['together']
    scores = asdict(class_scores(matrix))
    costs = np.array(summary['costs'])
    groups, grouped = group_matrix(matrix, taxonomy)
    return {
        'scores': {**together['scores'], 'ece': together['calibration']['ece']},
        'rules': summary['scores']['mean_rules'],
        'environments': {
            name: entry['scores'] for name, entry in summary['scores']['environments'].items()
        },
        'classScores': {
            **{name: _numbers(values) for name, values in scores.items()},
            'false_safe': _numbers(_false_safe(matrix, costs)),
        },
        'groups': [
            {
                'name': name,
                'iou': _number(grouped.iou()[index]),
                'classes': [entry.name for entry in taxonomy.classes if entry.group == name],
                'truth_share': _number(grouped.true_pixels[index] / max(1, grouped.num_pixels)),
            }
            for index, name in enumerate(groups)
        ],
        'confusion': matrix.counts.tolist(),
        'calibration': {
            name: together['calibration'][name]
            for name in ('bin_pixels', 'bin_accuracy', 'bin_confidence')
        },
        'operating': _operating_points(matrix, calibration),
    }


def _false_safe(matrix: ConfusionMatrix, costs: np.ndarray) -> np.ndarray:
    """Return the share of each costly class's pixels that was called free; nan for others."""
    free = costs < DEFAULT_COSTLY_FROM
    called_free = matrix.counts[:, :-1][:, free].sum(axis=1)
    rates = divide(called_free, matrix.true_pixels)
    return np.where((costs >= DEFAULT_COSTLY_FROM) & (costs != UNKNOWN_COST), rates, np.nan)


def _operating_points(
    matrix: ConfusionMatrix, calibration: CalibrationCounts
) -> dict[str, Any] | None:
    """Return precision and recall of each class for every threshold of confidence.

    Of the pixels that are left when what is less sure becomes unlabeled, as the node's
    ``confidence_threshold`` makes it. None if frames came without confidence: how much truth the
    others have is not known.
    """
    if calibration.counts.sum() != matrix.counts[:, :-1].sum():
        return None
    # Counts of the pixels at or above each level.
    above = calibration.counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., ::_LEVEL_STEP]
    wrong, right = above[:, 0], above[:, 1]
    true_pixels = np.broadcast_to(matrix.true_pixels[:, None], right.shape)
    return {
        'threshold': _numbers(np.arange(0, 256, _LEVEL_STEP) / 255),
        'precision': [_numbers(row) for row in divide(right, right + wrong)],
        'recall': [_numbers(row) for row in divide(right, true_pixels)],
    }


def _has(columns: Mapping[str, Any], name: str) -> bool:
    return name in columns and bool(np.isfinite(columns[name]).any())


def _numbers(values: np.ndarray) -> list[float | None]:
    """Return numbers as short as the page needs them, None for nan."""
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), _DIGITS)
