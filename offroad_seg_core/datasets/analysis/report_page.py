"""What the data report shows, as texts and pictures for its template."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np

from offroad_seg_core.datasets.analysis.analyze import Analysis
from offroad_seg_core.datasets.analysis.class_weights import SCHEMES, class_weights
from offroad_seg_core.datasets.analysis.figures import (
    class_share_figure,
    environment_figure,
    percent_text,
)
from offroad_seg_core.datasets.analysis.rare_classes import (
    LEAST_PART_PX,
    RareClass,
    rarest_classes,
)
from offroad_seg_core.datasets.analysis.statistics import DatasetStatistics, Group
from offroad_seg_core.datasets.analysis.summary import by_kind, weighted_tally
from offroad_seg_core.datasets.analysis.tally import Tally

_MAX_LISTED = 20
_MAX_BARS = 40
_MEANINGS = {
    'unreadable': 'files that cannot be read',
    'size': 'labels of another size than their picture',
    'unknown values': 'labels with values that mean nothing; training would stop there',
    'no labels': 'labels that ignore every pixel',
    'duplicate': 'files with the same content',
    'leak': 'pictures that look the same in two splits: validation would measure memory',
    'alike': 'pictures that look the same in two environments',
}


def page_content(analysis: Analysis) -> dict[str, Any]:
    """Return the variables of ``templates/dataset_report.html.j2``."""
    statistics = analysis.statistics
    total = statistics.total
    content = {
        'name': analysis.name,
        'taxonomy': statistics.taxonomy.name,
        'splits': statistics.splits,
        'tiles': list(_tiles(analysis, total)),
        'problems': [
            {
                'kind': kind,
                'number': len(texts),
                'meaning': _MEANINGS[kind],
                'texts': texts[:_MAX_LISTED],
            }
            for kind, texts in by_kind(analysis.problems).items()
        ],
        'num_unchecked': analysis.num_unchecked,
        'unknown': [
            {'value': name, **vars(entry), 'pixels': f'{entry.pixels:,}'}
            for name, entry in statistics.unknown.items()
        ],
        'sizes': [
            {'size': f'{width} × {height}', 'number': f'{number:,}'}
            for (height, width), number in statistics.image_sizes.most_common(_MAX_LISTED)
        ],
        'environments': [_environment(group, statistics, total) for group in _groups(statistics)],
    }
    return content | _classes(statistics, total) | _weights(statistics)


def _tiles(analysis: Analysis, total: Tally) -> Iterator[tuple[str, str]]:
    yield 'frames', f'{total.num_frames:,}'
    yield 'labelled', f'{total.num_labelled:,}'
    present = int((total.class_pixels > 0).sum())
    yield 'classes present', f'{present} of {len(total.class_pixels)}'
    yield 'environments', str(len(analysis.statistics.environments))
    if total.num_pixels:
        yield 'mean RGB', _rgb(total.mean_rgb)
        yield 'standard deviation', _rgb(total.std_rgb)
    yield 'problems', f'{len(analysis.problems):,}'


def _rgb(values: np.ndarray) -> str:
    return ' '.join(f'{value:.0f}' for value in values)


def _groups(statistics: DatasetStatistics) -> list[Group]:
    return [statistics.groups[key] for key in sorted(statistics.groups)]


def _environment(group: Group, statistics: DatasetStatistics, total: Tally) -> dict[str, Any]:
    tally = group.tally
    has_images, has_labels = tally.num_pixels > 0, tally.num_labelled > 0
    absent = (tally.class_pixels == 0) & (total.class_pixels > 0)
    names = [statistics.taxonomy.names[index] for index in np.flatnonzero(absent)]
    return {
        'split': group.split,
        'environment': group.environment,
        'frames': f'{tally.num_frames:,}',
        'labelled': f'{tally.num_labelled:,}',
        'mean': _rgb(tally.mean_rgb) if has_images else 'none',
        'std': _rgb(tally.std_rgb) if has_images else 'none',
        'color': _hex(tally.mean_rgb.round().astype(int)) if has_images else 'none',
        'absent': ', '.join(names) if has_labels else 'nothing is labelled',
    }


def _hex(color: np.ndarray) -> str:
    return '#' + bytes(color.tolist()).hex()


def _classes(statistics: DatasetStatistics, total: Tally) -> dict[str, Any]:
    taxonomy = statistics.taxonomy
    num_pixels = int(total.class_pixels.sum()) + total.ignored_pixels + total.unknown_pixels
    order = np.argsort(-total.class_pixels, kind='stable')
    bars = sorted(_groups(statistics), key=lambda group: -group.tally.num_frames)[:_MAX_BARS]
    bars = [group for group in _groups(statistics) if group in bars and group.tally.num_labelled]
    several = len(statistics.splits) > 1
    content: dict[str, Any] = {
        'has_instances': total.num_with_instances > 0,
        'ignored_share': percent_text(total.ignored_pixels / max(1, num_pixels)),
        'ignored_pixels': f'{total.ignored_pixels:,}',
        'classes': [
            {
                'name': taxonomy.names[index],
                'color': _hex(taxonomy.palette_rgb[index]),
                'share': percent_text(total.shares[index]),
                'pixels': f'{total.class_pixels[index]:,}',
                'frames': f'{total.class_frames[index]:,}',
                'instances': f'{total.class_instances[index]:,}',
            }
            for index in order
        ],
        'rare': [_rare(item, statistics, total) for item in rarest_classes(statistics)],
    }
    if bars:
        frame_shares = total.class_frames / max(1, total.num_labelled)
        content['shares_png'] = _base64(class_share_figure(total.shares, frame_shares, taxonomy))
    if len(bars) > 1:
        names = [f'{g.environment} ({g.split})' if several else g.environment for g in bars]
        shares = np.array([group.tally.shares for group in bars])
        content['environments_png'] = _base64(environment_figure(names, shares, taxonomy))
    return content


def _rare(item: RareClass, statistics: DatasetStatistics, total: Tally) -> dict[str, Any]:
    taxonomy = statistics.taxonomy
    share = percent_text(total.shares[item.id])
    return {
        'name': taxonomy.names[item.id],
        'color': _hex(taxonomy.palette_rgb[item.id]),
        'facts': f'{share} of the pixels, in {total.class_frames[item.id]:,} frames; in '
        f'{item.num_frames} of them {item.parts_per_frame:.3g} connected parts a frame of '
        f'{LEAST_PART_PX} px or more, half of them up to {item.median_part_px:,.0f} px',
        'sheet': None if item.sheet is None else _base64(item.sheet),
    }


def _weights(statistics: DatasetStatistics) -> dict[str, Any]:
    tally, weights_from = weighted_tally(statistics)
    weights = {scheme: class_weights(tally.counts, scheme) for scheme in SCHEMES}
    names = statistics.taxonomy.names
    lines = [
        f'# {scheme}\nclass_weights: [{", ".join(f"{value:.4g}" for value in values)}]'
        for scheme, values in weights.items()
    ]
    if tally.num_pixels:
        for name, values in (('mean', tally.mean_rgb), ('std', tally.std_rgb)):
            lines.append(f'{name}: [{", ".join(f"{value:.3f}" for value in values)}]')
    return {
        'weights_from': weights_from,
        'schemes': list(SCHEMES),
        'weights': [
            {'name': name, 'weights': [f'{values[index]:.3g}' for values in weights.values()]}
            for index, name in enumerate(names)
        ],
        'paste': '\n'.join(lines),
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')
