"""The kept results of benchmarks/distillation.py as a table and ratios.

Each file is named VARIANT_FOLD_SEED.json. mIoU is over the classes in the truth, of all known
environments together and of the one that was left out (FOLD).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
import json
from pathlib import Path
import statistics
from typing import Any, NamedTuple

import numpy as np

from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix

VARIANTS = {
    'fpn': 'teacher: FPN, ResNet-18',
    'segformer_b0': 'teacher: SegFormer-B0',
    'ensemble': 'both teachers, mirrored',
    'alone': 'student alone',
    'kl': 'student, KL',
    'kl_features': 'student, KL and features',
    'dist': 'student, DIST',
    'cwd': 'student, CWD',
    'unlabelled': 'student, KL, with unlabelled frames of the new place',
    'pruned': 'KL, then 30 % of the channels pruned and tuned',
    'sparse': 'KL, then 20 % of the decoder weights zero',
    'int8': 'KL, then int8',
}


class Scores(NamedTuple):
    """mIoU of one run on the places that it knows, and on the one that it does not."""

    known: float
    new: float


def matrix_of(rows: list[list[int]]) -> ConfusionMatrix:
    """Return a confusion matrix of committed counts."""
    matrix = ConfusionMatrix(len(rows))
    matrix.counts[:] = np.array(rows)
    return matrix


def together(matrices: list[ConfusionMatrix]) -> float:
    """Return the mIoU over the classes in the truth, of all matrices as one."""
    return reduce(ConfusionMatrix.merge, matrices).miou_present


def kept_scores(folder: Path, variant: str) -> Iterator[tuple[str, Scores]]:
    """Yield ``FOLD_SEED`` and the scores of each kept run of a variant."""
    for path in sorted(folder.glob(f'{variant}_??_*.json')):
        place = path.stem.removeprefix(f'{variant}_')
        fold = place.partition('_')[0]
        environments = json.loads(path.read_text())['environments']
        matrices = {
            name: matrix_of(entry['confusion_matrix']) for name, entry in environments.items()
        }
        new = matrices.pop(fold)
        yield place, Scores(together([*matrices.values()]), new.miou_present)


def retention(folder: Path, variant: str = 'kl') -> dict[str, Scores]:
    """Return what a student keeps of its ensemble at each place and seed: 1 is all."""
    teachers = dict(kept_scores(folder, 'ensemble'))
    return {
        place: Scores(own.known / teachers[place].known, own.new / teachers[place].new)
        for place, own in kept_scores(folder, variant)
        if place in teachers
    }


def table(folder: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for each variant, and what students keep."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for variant, title in VARIANTS.items():
        scores = [entry for _, entry in kept_scores(folder, variant)]
        if not scores:
            continue
        row: dict[str, Any] = {'variant': title, 'runs': len(scores)}
        shares = [*retention(folder, variant).values()]
        for part in Scores._fields:
            values = [getattr(entry, part) for entry in scores]
            row[f'{part} mIoU'] = statistics.mean(values)
            row[f'{part} spread'] = max(values) - min(values) if len(values) > 1 else None
            if shares and variant != 'ensemble':
                kept = statistics.mean(getattr(entry, part) for entry in shares)
                row[f'{part} kept'] = kept
                ratios[f'{variant}_kept_{part}'] = kept
        rows.append(row)
    return rows, ratios
