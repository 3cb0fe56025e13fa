"""Write the figures of benchmarks/results/*.json into the marked places of README.md and docs/.

    python benchmarks/tables.py [--check]

A place begins with `<!-- results: NAME -->` and ends with `<!-- end -->`; NAME is a benchmark
or `parameters` (the node's declared parameters). `--check` only tells whether all are up to date
(exit 1 if not).
"""

from __future__ import annotations

import json
from pathlib import Path
import re
import sys
from typing import Any

from offroad_seg_core.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))
RESULTS = ROOT / 'benchmarks' / 'results'
PLACE = re.compile(r'(<!-- results: (\w+) -->\n).*?(<!-- end -->)', re.DOTALL)


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table; the keys of all rows are the columns."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = ['| ' + ' | '.join(key.replace('_', ' ') for key in keys) + ' |']
    lines.append('|' + ' --- |' * len(keys))
    lines += ['| ' + ' | '.join(_cell(row.get(key)) for key in keys) + ' |' for row in rows]
    return '\n'.join(lines)


def tables(rows: list[dict[str, Any]]) -> str:
    """Return Markdown tables: rows with nothing but a name in common stand in different ones."""
    groups: list[list[dict[str, Any]]] = []
    for row in rows:
        if not groups or len({key for other in groups[-1] for key in other} & row.keys()) < 2:
            groups.append([])
        groups[-1].append(row)
    return '\n\n'.join(map(markdown_table, groups))


def _cell(value: Any) -> str:
    if value is None:
        return '–'
    if isinstance(value, float):
        return f'{value:.3g}' if abs(value) < 100 else f'{value:.0f}'
    return str(value).replace('|', '\\|')


def section(name: str) -> str:
    """Return the Markdown of one benchmark: its machines' tables and ratios."""
    files = sorted(RESULTS.glob(f'{name}-*.json'))
    if not files:
        return 'not measured\n'
    parts = []
    for file in files:
        result = json.loads(file.read_text())
        machine = result['machine']
        where = f'{machine["cpu"]}, {machine["cores"]} cores'
        if machine.get('gpu'):
            where += f', {machine["gpu"]}'
        parts.append(f'{where} ({result["date"][:10]}):\n')
        parts.append(tables(result['rows']) + '\n')
        ratios = ', '.join(f'`{key}` {value:.3g}' for key, value in result['ratios'].items())
        if ratios:
            parts.append(f'{ratios}\n')
    return '\n'.join(parts)


def render(text: str) -> str:
    """Fill every marked place of a text."""

    def fill(match: re.Match[str]) -> str:
        name = match.group(2)
        content = _parameters() if name == 'parameters' else section(name)
        return f'{match.group(1)}{content}{match.group(3)}'

    return PLACE.sub(fill, text)


def _parameters() -> str:
    from offroad_seg_ros.params import CameraParams, NodeParams, specs

    every = {
        **specs(NodeParams),
        **{f'<camera>.{name}': spec for name, spec in specs(CameraParams).items()},
    }
    rows = [
        {
            'parameter': f'`{name}`',
            'default': f'`{_default(spec)}`',
            'changes': 'while unconfigured' if spec.structural else 'at run time',
            'meaning': spec.description,
        }
        for name, spec in every.items()
    ]
    return markdown_table(rows) + '\n'


def _default(spec: Any) -> str:
    if spec.type is tuple:
        return str(list(spec.default))
    return str(spec.default) if spec.default != '' else "''"


def main() -> None:
    """Rewrite the documents, or check them."""
    for document in DOCUMENTS:
        text = document.read_text()
        rendered = render(text)
        if rendered == text:
            continue
        if '--check' in sys.argv[1:]:
            sys.exit(f'{document.name} is not up to date: benchmarks/tables.py')
        with atomic_path(document) as temporary:
            temporary.write_text(rendered)


if __name__ == '__main__':
    main()
