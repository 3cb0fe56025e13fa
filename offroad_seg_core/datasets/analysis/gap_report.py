"""Write the domain-gap report: one HTML file that stands alone, its figures, all its numbers."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import asdict
import io
import json
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.figure import Figure
import numpy as np

from offroad_seg_core.datasets.analysis.domain_gap import (
    DomainGap,
    GroupComparison,
    GroupStatistics,
    compare_groups,
)
from offroad_seg_core.datasets.analysis.gap_examples import draw_examples
from offroad_seg_core.datasets.analysis.gap_figures import (
    draw_class_shares,
    draw_colors,
    draw_distances,
    draw_embedding,
)
from offroad_seg_core.datasets.analysis.gap_findings import Finding, find, number, percent
from offroad_seg_core.datasets.analysis.gap_suggestions import CAUTION, suggest
from offroad_seg_core.files import atomic_path
from offroad_seg_core.taxonomy import Taxonomy

_TEMPLATE = Path(__file__).with_suffix('.html')
_JPEG_QUALITY = 88


def write_gap_report(
    groups: Sequence[GroupStatistics], taxonomy: Taxonomy, output: Path, seed: int = 0
) -> Path:
    """Compare groups of frames and write what was found.

    Args:
        groups: At least two, with different names. Of two the second is described as seen from
            the first (training, then test); of more each is held against all others.
        taxonomy: What the class counts mean.
        output: Folder for ``index.html``, ``gap.json`` and the figures; made if it is not there.
        seed: Of the resampling.

    Returns:
        The path of ``index.html``. It contains its figures and can be sent alone.

    Raises:
        ValueError: See ``compare_groups``.
    """
    comparison = compare_groups(groups, taxonomy.names, seed)
    findings = find(comparison)
    figures = []
    for name, title, caption, figure in _figures(comparison, taxonomy):
        with atomic_path(output / f'{name}.png') as path:
            figure.savefig(path, bbox_inches='tight', pad_inches=0.1)
        uri = _data_uri(figure, 'jpeg' if name == 'examples' else 'png')
        figures.append({'title': title, 'caption': caption, 'uri': uri})
    with atomic_path(output / 'gap.json') as path:
        path.write_text(json.dumps(gap_numbers(comparison, findings), indent=1) + '\n')
    with atomic_path(output / 'index.html') as path:
        path.write_text(_render(comparison, taxonomy, findings, figures), encoding='utf-8')
    return output / 'index.html'


def gap_numbers(comparison: GroupComparison, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return every number of a comparison as JSON holds it; what is undefined is null."""
    names = [group.name for group in comparison.groups]
    numbers = {
        'class_names': list(comparison.gaps[0].class_names),
        'groups': [
            {
                'name': group.name,
                'num_frames': group.num_frames,
                'class_pixels': group.class_pixels,
                'class_frames': group.class_frames,
                'mean_rgb': group.mean_rgb,
                'std_rgb': group.std_rgb,
                'luminance': group.luminance,
            }
            for group in comparison.groups
        ],
        'gaps': [
            {
                'group': gap.a.name,
                'against': gap.b.name,
                'color': asdict(gap.color),
                'classes': gap.classes and asdict(gap.classes),
                'distance': gap.distance and asdict(gap.distance),
            }
            for gap in comparison.gaps
        ],
        'distances': [
            {'groups': [names[i], names[j]], 'distance': distance and asdict(distance)}
            for (i, j), distance in comparison.distances.items()
        ],
        'findings': [asdict(finding) for finding in findings],
    }
    plain: dict[str, Any] = _to_json(numbers)
    return plain


def _to_json(value: Any) -> Any:
    """Replace arrays by lists, and numbers that JSON does not know by null."""
    if isinstance(value, dict):
        return {key: _to_json(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_to_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _figures(
    comparison: GroupComparison, taxonomy: Taxonomy
) -> Iterator[tuple[str, str, str, Figure]]:
    """Yield the name, title, caption and drawing of each figure that the groups allow."""
    groups = comparison.groups
    examples = draw_examples(groups, taxonomy)
    if examples is not None:
        yield 'examples', 'Examples', 'Frames of each group, above their labels.', examples
    if any(group.is_labelled for group in groups):
        caption = 'Share of each class in the labelled pixels; red where a group has none.'
        yield 'classes', 'Classes', caption, draw_class_shares(groups, taxonomy)
    if any(group.has_pictures for group in groups):
        caption = 'Means with one standard deviation either way, and how light the pictures are.'
        yield 'colors', 'Light and colours', caption, draw_colors(groups)
    described = [group for group in groups if len(group.features)]
    if sum(len(group.features) for group in described) > 2:
        caption = 'Each point is a frame. Near ones have similar colours and edges.'
        yield 'embedding', 'Frames by their look', caption, draw_embedding(described)
    caption = 'Between every two groups, with a 95 % interval; on the diagonal between the first '
    caption += 'and the second half of one group.'
    yield 'distances', 'Distances of looks', caption, draw_distances(comparison)


def _data_uri(figure: Figure, format: str) -> str:
    buffer = io.BytesIO()
    # Photographs as JPEG: the same as PNG would make the page ten times as large.
    options: dict[str, Any] = (
        {'pil_kwargs': {'quality': _JPEG_QUALITY}} if format == 'jpeg' else {}
    )
    figure.savefig(buffer, format=format, bbox_inches='tight', pad_inches=0.1, **options)
    return f'data:image/{format};base64,' + base64.b64encode(buffer.getvalue()).decode()


def _render(
    comparison: GroupComparison,
    taxonomy: Taxonomy,
    findings: Sequence[Finding],
    figures: Sequence[dict[str, str]],
) -> str:
    environment = Environment(autoescape=True, trim_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding='utf-8'))
    groups = comparison.groups
    labelled = [group for group in groups if group.is_labelled]
    return template.render(
        title=', '.join(group.name for group in groups[:6]) + ', …' * (len(groups) > 6),
        groups=groups,
        labelled=labelled,
        taxonomy=taxonomy,
        findings=findings,
        suggestions=suggest(findings),
        caution=CAUTION,
        figures=figures,
        shares=_share_rows(labelled, taxonomy),
        shifts=len(groups) == len(labelled) == 2,
        colors=[_color_row(gap) for gap in comparison.gaps],
        distances=list(_distance_rows(comparison)),
        percent=percent,
    )


def _share_rows(groups: Sequence[GroupStatistics], taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Return a row for each class that any group has."""
    rows = []
    for entry in taxonomy.classes:
        shares = [float(group.shares[entry.id]) for group in groups]
        if any(shares):
            first, last = shares[0], shares[-1]
            ratio = f'{last / first:.2g} ×' if first and last else 'absent'
            color = '#' + bytes(entry.color_rgb).hex()
            row = {'name': entry.name, 'color': color, 'shares': shares}
            rows.append({**row, 'shift': last - first, 'ratio': ratio})
    return rows


def _color_row(gap: DomainGap) -> dict[str, str]:
    color = gap.color
    return {
        'a': gap.a.name,
        'b': gap.b.name,
        'mean': ', '.join(f'{value:.0f}' for value in gap.a.mean_rgb),
        'shift': ', '.join(f'{value:+.0f}' for value in color.shift_rgb),
        'in_std': ', '.join(f'{value:+.2f}' for value in color.shift_in_std),
        'luminance': f'{color.luminance_a:.0f} against {color.luminance_b:.0f}',
        'contrast': f'{color.contrast_ratio:.2f} ×',
    }


def _distance_rows(comparison: GroupComparison) -> Iterator[dict[str, Any]]:
    names = [group.name for group in comparison.groups]
    for (i, j), distance in comparison.distances.items():
        cells = ['too few frames', *[''] * 5]
        if distance is not None:
            cells = [
                number(distance.value),
                f'{number(distance.low)} to {number(distance.high)}',
                number(distance.chance),
                f'{distance.p_value:.3f}',
                f'{number(distance.within_a)}, {number(distance.within_b)}',
                f'{distance.num_blocks[0]}, {distance.num_blocks[1]} of {distance.block_length}',
            ]
        yield {'names': f'{names[i]}, {names[j]}', 'cells': cells}
