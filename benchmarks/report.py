"""What all benchmarks share: the command line, steady timing side by side, the JSON file."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
import json
import os
from pathlib import Path
import platform
import statistics
import subprocess
import time
from typing import Any

from offroad_seg_core.files import atomic_path
from offroad_seg_core.provenance import cpu_flags, cpu_name, git_commit, versions

ROOT = Path(__file__).resolve().parents[1]
CPU_FEATURES = ('avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8')


def arguments(description: str) -> argparse.Namespace:
    """Parse the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--quick', action='store_true', help='end within 50 s')
    parser.add_argument('--json', type=Path, help='where to write the result')
    return parser.parse_args()


def interleaved_ms(
    candidates: Mapping[str, Callable[[], object]], rounds: int, warm_ups: int = 2
) -> dict[str, float]:
    """Time candidates in turn, so that a busy moment hits all of them; medians in ms."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + warm_ups):
        for name, call in candidates.items():
            started = time.perf_counter()
            call()
            if turn >= warm_ups:
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> dict[str, Any]:
    """Describe this machine."""
    gpus = subprocess.run(
        'nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || true',
        shell=True, capture_output=True, text=True,
    )  # fmt: skip
    return {
        'cpu': cpu_name(),
        'cores': len(os.sched_getaffinity(0)),
        'memory_gib': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30),
        'features': [name for name in CPU_FEATURES if name in cpu_flags()],
        'gpu': gpus.stdout.strip() or None,
        'system': f'{platform.system()} {platform.machine()}',
    }


def finish(
    name: str, options: argparse.Namespace, rows: list[dict[str, Any]], ratios: dict[str, float]
) -> None:
    """Print the table and the ratios, and write the JSON file.

    A full run without --json goes to benchmarks/results/NAME-<machine>.json.
    """
    print_table(rows)
    for key, value in ratios.items():
        print(f'{key}: {value:.3g}')
    here = machine()
    result = {
        'benchmark': name,
        'quick': options.quick,
        'machine': here,
        'versions': versions(),
        'commit': git_commit(),
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'rows': rows,
        'ratios': {key: round(value, 4) for key, value in ratios.items()},
    }
    path = options.json
    if path is None and not options.quick:
        kind = f'{here["cpu"]} {here["cores"]} cores'.lower().replace(' ', '-')
        path = ROOT / 'benchmarks' / 'results' / f'{name}-{kind}.json'
    if path is not None:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + '\n')
        print(f'written: {path}')


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows of equal keys as an aligned table."""
    if not rows:
        return
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [keys] + [[_cell(row.get(key, '')) for key in keys] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(keys))]
    for line in cells:
        print('  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def _cell(value: Any) -> str:
    return f'{value:.2f}' if isinstance(value, float) else str(value)
