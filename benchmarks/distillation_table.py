"""The kept results of benchmarks/distillation.py as a table and ratios.

Each file is named VARIANT_FOLD_SEED.json. mIoU is over the classes in the truth, of all known
environments together and of the one that was left out (FOLD). What a student keeps of the
ensemble means something only where the ensemble is better than the student alone: by MIN_GAIN on
the known places.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
import json
from pathlib import Path
import statistics
from typing import Any, NamedTuple

from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix

VARIANTS = {
    'fpn': 'teacher: FPN, ResNet-18',
    'segformer_b0': 'teacher: SegFormer-B0',
    'ensemble': 'both teachers, mirrored',
    'alone': 'student alone',
    'kl': 'student, KL',
    'kl_features': 'student, KL and features',
    'dist': 'student, DIST',
    'dist_strong': 'student, DIST times 3',
    'dist_cwd': 'student, DIST and CWD',
    'cwd': 'student, CWD',
    'unlabelled': 'student, KL, with unlabelled frames of the new place',
    'dist_unlabelled': 'student, DIST times 3, with unlabelled frames of the new place',
    'pruned': 'DIST, then 30 % of the channels pruned and tuned',
    'int8': 'the pruned one in int8',
    'sparse': 'DIST, then 20 % of the decoder weights zero',
}
BEST = 'dist'
"""The student whose retention is told, and that is made smaller."""
MADE_OF = {'ensemble': 'kl', 'pruned': BEST, 'int8': BEST, 'sparse': BEST}
"""Variant -> the training that it was made of; an ensemble is that of every distillation."""
COSTS_OF = {'fpn': 'fpn', 'segformer_b0': 'segformer_b0', 'pruned': 'pruned', 'int8': 'int8'}
"""Variant -> network of costs.json; all others cost what the student does."""
MIN_GAIN = 0.03


class Scores(NamedTuple):
    """mIoU of one run on the places that it knows, and on the one that it does not."""

    known: float
    new: float


def matrix_of(rows: list[list[int]]) -> ConfusionMatrix:
    """Return a confusion matrix of committed counts."""
    return ConfusionMatrix.from_counts(rows, 'benchmarks/results')


def together(matrices: list[ConfusionMatrix]) -> float:
    """Return the mIoU over the classes in the truth, of all matrices as one."""
    return reduce(ConfusionMatrix.merge, matrices).miou_present


def kept_scores(folder: Path, variant: str) -> Iterator[tuple[str, Scores]]:
    """Yield ``FOLD_SEED`` and the scores of each kept run of a variant.

    Raises:
        ValueError: A file was made of another training than the one that is kept.
    """
    for path in sorted(folder.glob(f'{variant}_??_*.json')):
        place = path.stem.removeprefix(f'{variant}_')
        result = json.loads(path.read_text())
        if variant in MADE_OF:
            source = folder / f'{MADE_OF[variant]}_{place}.json'
            if result['source_config_sha256'] != json.loads(source.read_text())['config_sha256']:
                raise ValueError(f'{path}: was made of another training than {source}; delete it')
        matrices = {
            name: matrix_of(entry['confusion_matrix'])
            for name, entry in result['environments'].items()
        }
        new = matrices.pop(place.partition('_')[0])
        yield place, Scores(together([*matrices.values()]), new.miou_present)


def gains(folder: Path) -> dict[str, Scores]:
    """Return by how much the ensemble is better than the student alone, at each place and seed."""
    alone = dict(kept_scores(folder, 'alone'))
    return {
        place: Scores(own.known - alone[place].known, own.new - alone[place].new)
        for place, own in kept_scores(folder, 'ensemble')
        if place in alone
    }


def retention(folder: Path, variant: str) -> dict[str, Scores]:
    """Return what a student keeps of its ensemble at each place and seed: 1 is all.

    Only where the ensemble is good enough for that to mean something.
    """
    teachers = dict(kept_scores(folder, 'ensemble'))
    strong = {place for place, gain in gains(folder).items() if gain.known >= MIN_GAIN}
    return {
        place: Scores(own.known / teachers[place].known, own.new / teachers[place].new)
        for place, own in kept_scores(folder, variant)
        if place in strong
    }


def recovered(folder: Path, variant: str) -> dict[str, Scores]:
    """Return the share of the ensemble's gain that a student has, where that is large enough."""
    alone, own = (dict(kept_scores(folder, name)) for name in ('alone', variant))
    return {
        place: Scores(
            (own[place].known - alone[place].known) / gain.known,
            (own[place].new - alone[place].new) / gain.new if gain.new > 0 else float('nan'),
        )
        for place, gain in gains(folder).items()
        if place in own and gain.known >= MIN_GAIN
    }


def table(folder: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for each variant, and what students keep."""
    costs = _costs(folder / 'costs.json')
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    found = gains(folder)
    for part in Scores._fields if found else ():
        ratios[f'ensemble_gain_{part}'] = _mean(found, part)
    for variant, title in VARIANTS.items():
        scores = [entry for _, entry in kept_scores(folder, variant)]
        if not scores:
            continue
        row: dict[str, Any] = {'variant': title, 'runs': len(scores)}
        shares, gained = retention(folder, variant), recovered(folder, variant)
        is_student = variant not in ('fpn', 'segformer_b0', 'ensemble')
        for part in Scores._fields:
            values = [getattr(entry, part) for entry in scores]
            row[f'{part} mIoU'] = statistics.mean(values)
            row[f'{part} spread'] = max(values) - min(values) if len(values) > 1 else None
            if shares and is_student:
                row[f'{part} kept'] = ratios[f'{variant}_kept_{part}'] = _mean(shares, part)
                if variant != 'alone':
                    ratios[f'{variant}_gain_recovered_{part}'] = _mean(gained, part)
        rows.append({**row, **costs.get(COSTS_OF.get(variant, 'student'), {})})
        if variant == 'ensemble' and costs:
            rows[-1] |= dict.fromkeys(costs['student'])
    return rows, {**ratios, **_size_ratios(folder / 'costs.json')}


def _mean(scores: dict[str, Scores], part: str) -> float:
    return statistics.mean(getattr(entry, part) for entry in scores.values())


def _costs(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    return {
        entry['name']: {
            'parameters (10^6)': entry['num_parameters'] / 1e6,
            **{f'{engine} ms': ms for engine, ms in entry['engine_ms'].items()},
        }
        for entry in json.loads(path.read_text())['networks']
    }


def _size_ratios(path: Path) -> dict[str, float]:
    """Return the parameters of the smallest student against those of the published teachers."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    smallest = min(entry['num_parameters'] for entry in content['networks'])
    return {
        'parameters_vs_published_teachers': smallest / sum(content['published_teachers'].values())
    }
