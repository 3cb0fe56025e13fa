"""Write what was found in a data set: ``index.html``, ``statistics.json``, ``problems.txt``."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path

from jinja2 import Environment

from offroad_seg_core.datasets.analysis.analyze import (
    Analysis,
    dataset_groups,
    environment_groups,
)
from offroad_seg_core.datasets.analysis.gap_report import write_gap_report
from offroad_seg_core.datasets.analysis.report_page import page_content
from offroad_seg_core.datasets.analysis.summary import summarize
from offroad_seg_core.files import atomic_path

_TEMPLATE = Path(__file__).with_suffix('.html')


def write_reports(analysis: Analysis, output: Path, notes: Sequence[str] = ()) -> Path:
    """Write the report, and domain-gap reports wherever there are two groups to compare.

    Args:
        analysis: What was found.
        output: Folder; ``environments`` and ``against`` in it get the domain-gap reports.
        notes: To be read before the figures.

    Returns:
        The path of the report's ``index.html``.
    """
    reports = {
        'environments': environment_groups(analysis.statistics),
        'against': dataset_groups(analysis),
    }
    links = []
    for folder, groups in reports.items():
        # Labels without pictures have nothing that the report could compare.
        groups = [group for group in groups if len(group.features)]
        if len(groups) > 1:
            write_gap_report(groups, analysis.statistics.taxonomy, output / folder)
            names = ', '.join(group.name for group in groups)
            links.append((f'Domain gap between {names}', f'{folder}/index.html'))
    return write_report(analysis, output, links, notes)


def write_report(
    analysis: Analysis,
    output: Path,
    links: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the three files and return the path of ``index.html``.

    Args:
        analysis: What was found.
        output: Folder; created if need be.
        links: Title and address of further reports.
        notes: To be read before the figures.
    """
    templates = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = templates.from_string(_TEMPLATE.read_text(encoding='utf-8'))
    lines = [f'{problem.kind}: {problem.text}\n' for problem in analysis.problems]
    content = {
        'problems.txt': ''.join(lines),
        'statistics.json': json.dumps(summarize(analysis), indent=1, allow_nan=False) + '\n',
        'index.html': page.render(**page_content(analysis), links=links, notes=notes),
    }
    for name, text in content.items():
        with atomic_path(output / name) as temporary:
            temporary.write_text(text, encoding='utf-8')
    return output / 'index.html'
