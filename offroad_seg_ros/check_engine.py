"""Check the engines of this machine.

    ros2 run offroad_seg_ros check_engine --bundle DIR

Prints versions, the GPU, what `engine: auto` chooses, and for every engine whether its labels are
those of ONNX Runtime in float32, its latency and its memory. The first run of a TensorRT engine
builds it, which takes minutes. Ends with status 1 if an engine disagrees or fails, with 2 if
nothing could be checked. Needs no running ROS.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
import json
import logging
from pathlib import Path
import sys
from typing import Any

from offroad_seg_core.evaluation.engine_check import (
    EngineResult,
    check_engines,
    check_frames,
    is_good,
)
from offroad_seg_core.files import atomic_path
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import ENGINES, EngineError, create_engine
from offroad_seg_core.inference.engines.cuda import Cuda
from offroad_seg_core.provenance import cpu_name, git_commit, versions
from offroad_seg_ros.installation import share_folder

_COLUMNS = ('engine', 'precision', 'status', 'label_agreement', 'max_error', 'worst_class')
_COLUMNS += ('p50_ms', 'p95_ms', 'p99_ms', 'memory_mib')


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print, and return the exit status."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.WARNING, format='%(message)s')
    logging.getLogger('offroad_seg_core').setLevel(logging.INFO)
    try:
        bundle = Bundle.load(options.bundle or share_folder() / 'models' / 'demo_desert')
        frames = check_frames(bundle, options.images)
        chosen = create_engine(bundle, cache_folder=options.engine_cache)
        chosen.close()
        results = check_engines(
            bundle,
            frames.images,
            options.engine or tuple(ENGINES),
            options.runs,
            options.engine_cache,
        )
    except (EngineError, ValueError, OSError) as error:
        print(f'nothing could be checked: {error}', file=sys.stderr)
        return 2
    report = {
        'machine': _machine(),
        'versions': versions(),
        'commit': git_commit(),
        'bundle': bundle.identity,
        'num_frames': len(frames.images),
        'frames_from': frames.origin,
        'auto': str(chosen.info),
        'engines': [asdict(result) for result in results],
        'good': is_good(results),
    }
    _print(report, results)
    if options.json:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1), encoding='utf-8')
    return 0 if report['good'] else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--bundle', type=Path, help='folder; default: the shipped demo model')
    parser.add_argument(
        '--images',
        type=Path,
        help="folder of pictures to compare on; default: the bundle's own, or rendered ones",
    )
    parser.add_argument(
        '--engine',
        action='append',
        choices=sorted(ENGINES),
        help='check this one; may be repeated',
    )
    parser.add_argument('--runs', type=int, default=50, help='timed runs of each engine')
    parser.add_argument('--engine-cache', type=Path, help='folder of built engines')
    parser.add_argument('--json', type=Path, help='also write everything to this file')
    return parser.parse_args(arguments)


def _machine() -> dict[str, str]:
    try:
        gpu = asdict(Cuda().gpu())
    except EngineError as error:
        gpu = {'name': 'none', 'reason': str(error)}
    return {'cpu': cpu_name(), **{f'gpu_{key}': str(value) for key, value in gpu.items()}}


def _print(report: dict[str, Any], results: Sequence[EngineResult]) -> None:
    for part in ('machine', 'versions'):
        for name, value in report[part].items():
            print(f'{name:28} {value}')
    for part in ('bundle', 'num_frames', 'frames_from', 'auto'):
        print(f'{part:28} {report[part]}')
    rows = [_COLUMNS, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    print()
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print('  '.join(cells).rstrip())
    print()
    for result in results:
        if result.reason:
            print(f'{result.engine} {result.precision}: {result.status}: {result.reason}')


def _row(result: EngineResult) -> tuple[str, ...]:
    drops = result.iou_drop or {}
    worst = max(drops, key=drops.__getitem__, default='')
    values = {
        **asdict(result),
        'worst_class': f'{worst} -{drops[worst]:.3f} IoU' if worst and drops[worst] > 0 else '',
    }
    return tuple(_text(values[column]) for column in _COLUMNS)


def _text(value: float | str | None) -> str:
    return '' if value is None else value if isinstance(value, str) else f'{value:.4g}'


if __name__ == '__main__':
    sys.exit(main())
