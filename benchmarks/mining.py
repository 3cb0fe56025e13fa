"""Mined against random frames, equally many: what a person's hour of labels brings.

    python benchmarks/mining.py [--list] [--places cc ... drives] [--seeds 1 2 3] [--budgets 5 10]
    python benchmarks/mining.py --quick      # the table of what has been trained so far

A student labels frames that it never saw; `--export-hard` chooses some, with the student of the
next seed as the second opinion. The student goes on with these frames and their true labels, and
another time with as many random ones; both are measured on frames that could not be chosen. The
places: mining_places.py; how results are kept: experiments.py.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
import csv
from functools import reduce
from itertools import product
import json
from pathlib import Path
import statistics
import tempfile
from typing import Any

from ablation import CONFIG
from experiments import Run, keep, load, options_parser, tell, train_run
from mining_places import PLACES, SETS, Place, train_base, weights_of
import numpy as np
from report import ROOT, finish

from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.predictions import CheckpointPredictor
from offroad_seg_core.evaluation.sources.dataset import DatasetFrames
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.mining.export import FOLDER, TABLE
from offroad_seg_core.mining.signals import FrameSignals
from offroad_seg_core.training.checkpoint import load_checkpoint

KINDS = ('mined', 'random')
FEW = ('optimizer.max_steps=150', 'optimizer.learning_rate=5e-4', 'validate_every=150')


def parse_arguments() -> argparse.Namespace:
    """Parse the options."""
    parser = options_parser(__doc__)
    parser.add_argument('--places', nargs='+', default=tuple(PLACES), choices=PLACES)
    parser.add_argument('--seeds', nargs='+', type=int, default=(1, 2, 3))
    parser.add_argument('--budgets', nargs='+', type=int, default=(5, 10))
    return parser.parse_args()


def tuned_run(kind: str, budget: int, place: Place, seed: int) -> Run:
    """Return the training that goes on with chosen frames of the place."""
    name = set_name(kind, budget, place, seed)
    changes = (
        *FEW,
        f'init_checkpoint={weights_of(place, seed)}',
        f'dataset={place.dataset(name)}',
        f'seed={seed}',
    )
    return Run('mining', name, CONFIG, changes)


def set_name(kind: str, budget: int, place: Place, seed: int) -> str:
    """Return the name of a folder of chosen frames, and of the training on it."""
    return f'{kind}_{budget}_{place.name}_{seed}'


def tuned_runs(place: Place, seed: int, budgets: Sequence[int]) -> Iterator[Run]:
    """Yield the runs of one place and seed."""
    for budget, kind in product(budgets, KINDS):
        yield tuned_run(kind, budget, place, seed)


def mine(place: Place, seed: int, other_seed: int, count: int) -> list[str]:
    """Return the names of the frames that --export-hard chooses, the most wanted first."""
    predictor, other = (
        CheckpointPredictor(load_checkpoint(ROOT / weights_of(place, each)))
        for each in (seed, other_seed)
    )
    with tempfile.TemporaryDirectory() as home:
        evaluation = Evaluation(
            DatasetFrames(place.pool(), place.name),
            predictor,
            Path(home) / 'out',
            other,
            (FrameSignals(),),
            num_hard=count,
        )
        folder = evaluate(evaluation, lambda count: None)
        with open(folder / FOLDER / TABLE, newline='') as stream:
            return [row['name'] for row in csv.DictReader(stream)]


def choose_frames(place: Place, seed: int, other_seed: int, budgets: Sequence[int]) -> None:
    """Make the folders of the frames that a seed trains on."""
    pool = place.pool().files
    wanted = mine(place, seed, other_seed, max(budgets))
    mined = [next(item for item in pool if item.stem == name) for name in wanted]
    order = np.random.default_rng(seed).permutation(len(pool))
    for budget in budgets:
        if len(mined) < budget:
            raise ValueError(
                f'--budgets: got {budget}; {place.name} has only {len(mined)} frames that differ'
            )
        place.write(set_name('mined', budget, place, seed), mined[:budget])
        random = [pool[index] for index in order[:budget]]
        place.write(set_name('random', budget, place, seed), random)


def train(place: Place, seed: int, seeds: Sequence[int], budgets: Sequence[int]) -> None:
    """Train what is missing of a place and seed."""
    missing = [run for run in tuned_runs(place, seed, budgets) if load(run) is None]
    if not missing:
        return
    other = _next(seed, seeds)
    for each in (seed, other):
        train_base(place, each)
    choose_frames(place, seed, other, budgets)
    for run in missing:
        train_run(run)
        names = sorted(path.stem for path in (ROOT / SETS / run.name).glob('[Ci]*mages/**/*.*'))
        keep(run.path, {**json.loads(run.path.read_text()), 'frames': names})


def _next(seed: int, seeds: Sequence[int]) -> int:
    return seeds[(list(seeds).index(seed) + 1) % len(seeds)]


def miou_of(run: Run) -> float | None:
    """Return the kept mIoU of all frames together; None if there is none."""
    result = load(run)
    if result is None:
        return None
    counts = [place['confusion_matrix'] for place in result['environments'].values()]
    matrices = [ConfusionMatrix.from_counts(entry, run.path) for entry in counts]
    return reduce(ConfusionMatrix.merge, matrices).miou_present


def row_of(place: Place, budget: int, seeds: Sequence[int]) -> tuple[dict[str, Any], list[float]]:
    """Return a place's row at a budget, and what mining gained with each seed."""
    trios = []
    for seed in seeds:
        runs = (place.before(seed), *(tuned_run(kind, budget, place, seed) for kind in KINDS))
        scores = [score for run in runs if (score := miou_of(run)) is not None]
        if len(scores) == len(runs):
            trios.append(scores)
    gains = [mined - chance for _, mined, chance in trios]
    means = [statistics.mean(scores) for scores in zip(*trios, strict=True)] or [None] * 3
    row = {
        'place': place.name,
        'frames': budget,
        'seeds': len(trios),
        **dict(zip(('before mIoU', 'mined mIoU', 'random mIoU'), means, strict=True)),
        'gain': statistics.mean(gains) if gains else None,
        'seeds with a gain': sum(gain > 0 for gain in gains),
    }
    return row, gains


def table(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for each place and budget, and what mining gained in each kind of places."""
    rows = []
    gains: defaultdict[str, list[float]] = defaultdict(list)
    for budget, name in product(options.budgets, options.places):
        place = PLACES[name]
        row, found = row_of(place, budget, options.seeds)
        rows.append(row)
        gains[f'{place.kind}_{budget}'] += found
    ratios = {}
    for key, values in gains.items():
        if values:
            ratios[f'mined_gain_{key}'] = statistics.mean(values)
            ratios[f'mined_wins_{key}'] = sum(gain > 0 for gain in values) / len(values)
    return rows, ratios


def main() -> None:
    """Train what is missing, then make the table of what is there."""
    options = parse_arguments()
    if options.list:
        for name, seed in product(options.places, options.seeds):
            place = PLACES[name]
            tell([place.base_run(seed), *tuned_runs(place, seed, options.budgets)])
        return
    if len(set(options.seeds)) < 2:
        raise SystemExit('--seeds: got one; expected two or more, one is the second opinion')
    if not options.quick:
        for name, seed in product(options.places, options.seeds):
            train(PLACES[name], seed, options.seeds, options.budgets)
    finish('mining', options, *table(options))


if __name__ == '__main__':
    main()
