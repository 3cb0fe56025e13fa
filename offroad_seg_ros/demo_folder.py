"""The demo's result folder: complete or not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
import json
import os
from pathlib import Path
import shutil
from typing import Any
import uuid

from offroad_seg_core.files import atomic_path, replace_folder
from offroad_seg_core.places import OutputError, check_writable, output_place

_SUMMARY = 'summary.json'
_MAKER = {'made_by': 'offroad_seg_ros.demo'}
"""Tells the demo's summary from that of an evaluation, and of anything else."""


@contextmanager
def result_folder(given: Path, inputs: Iterable[str | Path | None] = ()) -> Iterator[Path]:
    """Yield a hidden folder beside a place that becomes it when the block ends well.

    An older result of the demo is replaced in that moment and not before; anything else is never
    touched. When the block raises, nothing is left but the older result.

    Args:
        given: The place.
        inputs: What is read.

    Raises:
        OutputError: The place holds something else, or is none that a result can take.
    """
    path = output_place(given, inputs)
    check_writable(path)
    _check_free(path)
    temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex[:8]}')
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _check_free(path)
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_summary(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write the figures of a result as JSON, which makes the folder one of the demo's."""
    with atomic_path(folder / _SUMMARY) as path:
        text = json.dumps({**_MAKER, **figures}, indent=2, ensure_ascii=False)
        path.write_text(text + '\n', encoding='utf-8')


def _check_free(path: Path) -> None:
    is_new = not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir()))
    if not is_new and not _is_result(path):
        made_by = json.dumps(_MAKER).strip('{}')
        got = f'something that is no older demo result: it has no {_SUMMARY} with {made_by}'
        fix = (
            'give another one, --output DIR, or remove this if it is a demo result, as older '
            'versions made them without'
        )
        raise OutputError(f'{path}: got {got}; expected a new folder; fix: {fix}')


def _is_result(folder: Path) -> bool:
    try:
        content = json.loads((folder / _SUMMARY).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and _MAKER.items() <= content.items()
