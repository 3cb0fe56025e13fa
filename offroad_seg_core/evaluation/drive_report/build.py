"""Write the report of evaluations: one page that needs no network, with frames to look at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
import json
import os
from pathlib import Path
import shutil
from typing import Any

from offroad_seg_core.evaluation.drive_report.data import DriveResult, page_data, read_results
from offroad_seg_core.evaluation.outputs.report_frames import FOLDER
from offroad_seg_core.files import atomic_path

try:
    from jinja2 import Environment
    from plotly.offline import get_plotlyjs
except ImportError as error:
    raise ImportError(f'reports need it ({error}); fix: pip install plotly Jinja2') from error

_HERE = Path(__file__).parent
_SCRIPTS = ('base', 'frames', 'viewer', 'timeline', 'charts', 'tables', 'main')
_EMBEDDED_BYTES = 16 << 20
"""Up to so much, frames stand in the page itself; above, they lie in files beside it."""


def write_drive_report(folders: Sequence[str | Path], output: str | Path) -> Path:
    """Write ``index.html`` and, where they are too large for the page, the frames beside it.

    Args:
        folders: Results of ``evaluate``. Of several the page compares them with the first one.
        output: Folder; made if need be. That of a result's own report is ``<result>/report``.

    Returns:
        The path of ``index.html``.

    Raises:
        ResultError: A folder holds no result.
        ValueError: There are none, or they are of different classes.
    """
    if not folders:
        raise ValueError('folders: got none; expected at least one result of an evaluation')
    results = read_results(folders)
    output = Path(output)
    data = page_data(results)
    homes = [result.folder / FOLDER for result in results]
    files = [sorted(home.rglob('*.js')) for home in homes]
    size = sum(file.stat().st_size for group in files for file in group)
    is_embedded = size <= _EMBEDDED_BYTES
    for number, (run, home) in enumerate(zip(data['runs'], homes, strict=True)):
        target = output / 'frames' / (str(number) if len(results) > 1 else '')
        run['base'] = target.relative_to(output).as_posix()
        if not is_embedded and target.resolve() != home.resolve():
            _bring(home, files[number], target)
    embedded = [
        (number, ''.join(file.read_text(encoding='utf-8') for file in group))
        for number, group in enumerate(files)
        if is_embedded and group
    ]
    with atomic_path(output / 'index.html') as path:
        path.write_text(_render(results, data, embedded), encoding='utf-8')
    return output / 'index.html'


def _render(
    results: Sequence[DriveResult], data: dict[str, Any], embedded: list[tuple[int, str]]
) -> str:
    titles = [result.name for result in results]
    title = results[0].summary['title'] if len(results) == 1 else ' against '.join(titles)
    templates = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = templates.from_string(_text('page.html'))
    return template.render(
        title=title,
        style=_text('style.css'),
        # A text such as a file name must not end the element that it stands in.
        data=json.dumps(data, allow_nan=False, separators=(',', ':')).replace('<', '\\u003c'),
        plotly=get_plotlyjs(),
        scripts=[_text(f'{name}.js') for name in _SCRIPTS],
        embedded=embedded,
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding='utf-8')


def _bring(home: Path, files: Sequence[Path], target: Path) -> None:
    """Put the frames of a result beside a page; as links where the disk is the same."""
    for file in files:
        place = target / file.relative_to(home)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        with suppress(OSError):
            os.link(file, place)
            continue
        shutil.copyfile(file, place)
