"""The per-frame table of an evaluation: ``frames.csv`` and, for large data tools, parquet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np

from offroad_seg_core.evaluation.counting import IOU, SHARE, Row
from offroad_seg_core.files import atomic_path

log = logging.getLogger(__name__)

CSV, PARQUET = 'frames.csv', 'frames.parquet'
TEXTS = ('camera', 'environment', 'name', 'problem', 'image_hash', 'image_features')
WHOLE_NUMBERS = ('stamp_ns', 'time_ns', 'height', 'width')
_FIRST = (*TEXTS[:3], 'stamp_ns', 'time_ns', 'problem')


def write_table(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Write the table and return the names of its files.

    Parquet needs pyarrow; without it there is the CSV file alone, and a line in the log.
    """
    columns = column_names(rows)
    with (
        atomic_path(folder / CSV) as path,
        open(path, 'w', newline='', encoding='utf-8') as stream,
    ):
        writer = csv.DictWriter(stream, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)  # None becomes an empty cell
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        log.info('no %s (%s); fix: pip install pyarrow', PARQUET, error)
        return [CSV]
    table = pyarrow.table(
        {
            name: pyarrow.array([row.get(name) for row in rows], _parquet_type(pyarrow, name))
            for name in columns
        }
    )
    with atomic_path(folder / PARQUET) as path:
        parquet.write_table(table, path)
    return [CSV, PARQUET]


def read_table(folder: Path) -> dict[str, Any]:
    """Return column -> values: a list of texts, or float64 with nan for what is empty.

    Raises:
        OSError: There is no table.
        ValueError: A number is none.
    """
    with open(folder / CSV, newline='', encoding='utf-8') as stream:
        header, *rows = csv.reader(stream)
    columns: dict[str, Any] = {}
    for name, *cells in zip(header, *rows, strict=True):
        if name in TEXTS:
            columns[name] = list(cells)
        elif name in ('stamp_ns', 'time_ns'):  # float64 would round them
            columns[name] = np.array([int(cell) for cell in cells], np.int64)
        else:
            numbers = [float(cell) if cell else np.nan for cell in cells]
            columns[name] = np.array(numbers, np.float64)
    return columns


def column_names(rows: Iterable[Row]) -> list[str]:
    """Return every column that a row has; those of the classes come last."""
    names = dict.fromkeys(name for row in rows for name in row)
    of_classes = [name for name in names if name.startswith((SHARE, IOU))]
    others = [name for name in names if name not in _FIRST and name not in of_classes]
    return [*_FIRST, *others, *sorted(of_classes, key=lambda name: name.startswith(IOU))]


def _parquet_type(pyarrow: Any, name: str) -> Any:
    if name in TEXTS:
        return pyarrow.string()
    return pyarrow.int64() if name in WHOLE_NUMBERS else pyarrow.float64()
