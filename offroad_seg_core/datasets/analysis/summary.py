"""All figures of an analysis as plain lists, dicts, texts and numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from offroad_seg_core.datasets.analysis.analyze import Analysis
from offroad_seg_core.datasets.analysis.class_weights import SCHEMES, class_weights
from offroad_seg_core.datasets.analysis.scan import Problem
from offroad_seg_core.datasets.analysis.statistics import DatasetStatistics
from offroad_seg_core.datasets.analysis.tally import Tally


def summarize(analysis: Analysis) -> dict[str, Any]:
    """Return all figures as plain lists, dicts, texts and numbers, for JSON."""
    statistics = analysis.statistics
    weighted, weights_from = weighted_tally(statistics)
    return {
        'name': analysis.name,
        'taxonomy': statistics.taxonomy.name,
        'taxonomy_sha256': statistics.taxonomy.sha256(),
        **_figures(statistics.total, statistics),
        'class_weights_of': weights_from,
        'class_weights': {
            scheme: class_weights(weighted.counts, scheme).round(6).tolist() for scheme in SCHEMES
        },
        'image_sizes': [
            {'height': height, 'width': width, 'images': number}
            for (height, width), number in statistics.image_sizes.most_common()
        ],
        'environments': [
            {
                'split': group.split,
                'environment': group.environment,
                **_figures(group.tally, statistics),
            }
            for group in statistics.groups.values()
        ],
        'unknown_values': {name: vars(entry) for name, entry in statistics.unknown.items()},
        'problems': {kind: len(texts) for kind, texts in by_kind(analysis.problems).items()},
    }


def weighted_tally(statistics: DatasetStatistics) -> tuple[Tally, str]:
    """Return the frames that class weights are computed of, and what they are."""
    training = [group for group in statistics.groups.values() if group.split == 'train']
    if training:
        return statistics.sum_of(training), 'training split'
    return statistics.total, 'frames of all splits'


def by_kind(problems: Iterable[Problem]) -> dict[str, list[str]]:
    """Return the texts of each kind of problem."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        found.setdefault(problem.kind, []).append(problem.text)
    return found


def _figures(tally: Tally, statistics: DatasetStatistics) -> dict[str, Any]:
    rows = zip(
        statistics.taxonomy.names,
        tally.class_pixels,
        tally.shares,
        tally.class_frames,
        tally.class_instances,
        strict=True,
    )
    return {
        'frames': tally.num_frames,
        'labelled_frames': tally.num_labelled,
        'mean_rgb': _numbers(tally.mean_rgb),
        'std_rgb': _numbers(tally.std_rgb),
        'ignored_pixels': tally.ignored_pixels,
        'unknown_pixels': tally.unknown_pixels,
        'classes': {
            name: {
                'pixels': int(pixels),
                'share': float(share),
                'frames': int(frames),
                'instances': int(instances) if tally.num_with_instances else None,
            }
            for name, pixels, share, frames, instances in rows
        },
    }


def _numbers(values: np.ndarray) -> list[float] | None:
    return None if np.isnan(values).any() else values.round(4).tolist()


def describe(analysis: Analysis) -> str:
    """Return the most important figures as a few lines of text."""
    statistics = analysis.statistics
    total = statistics.total
    lines = [
        f'{analysis.name}: {total.num_frames} frames, {total.num_labelled} labelled, '
        f'{len(statistics.environments)} environments'
    ]
    for index in np.argsort(-total.class_pixels, kind='stable'):
        share = total.shares[index]
        text = (
            f'{100 * share:8.3f} %  in {total.class_frames[index]} frames' if share else 'absent'
        )
        lines.append(f'  {statistics.taxonomy.names[index]:24} {text}')
    kinds = by_kind(analysis.problems)
    lines += [f'{len(texts)} x {kind}: {texts[0]}' for kind, texts in kinds.items()]
    return '\n'.join(lines) + ('' if kinds else '\nno problems')
