"""The summary of a result: what tells an evaluation from any other folder."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from offroad_seg_core.files import atomic_path
from offroad_seg_core.metrics.arithmetic import plain

SUMMARY = 'summary.json'
FORMAT_VERSION = 2
"""With 1, labels and pictures of several drives lay in ``<drive>_<camera>-<hash>/``."""


class ResultError(ValueError):
    """A folder holds no result of an evaluation, or none of this version."""


def read_summary(folder: str | Path) -> dict[str, Any]:
    """Return the summary of a result.

    Raises:
        ResultError: There is none, or it is of something else or of another version.
    """
    path = Path(folder) / SUMMARY
    expected = 'the output folder of an evaluation'
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ResultError(f'{path}: got {error}; expected {expected}') from error
    if not isinstance(content, dict) or not {'format_version', 'counts'} <= content.keys():
        below = sorted(str(found.parent) for found in path.parent.glob(f'*/{SUMMARY}'))
        fix = f'; fix: give {" or ".join(below)}' if below else ''
        raise ResultError(f'{path}: got the summary of something else; expected {expected}{fix}')
    if content['format_version'] != FORMAT_VERSION:
        got, fix = f'version {content["format_version"]}', 'evaluate again with this version'
        raise ResultError(f'{path}: got {got}, expected {FORMAT_VERSION}; {fix}')
    return content


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary of a result."""
    with atomic_path(folder / SUMMARY) as path:
        path.write_text(json.dumps(plain(summary), indent=1, allow_nan=False) + '\n', 'utf-8')
