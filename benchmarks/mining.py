"""Mined against random frames of a new place, equally many: what a person's hour of labels brings.

    python benchmarks/mining.py [--list] [--folds cc w0 ww] [--seeds 1 2 3] [--budgets 5 10]
    python benchmarks/mining.py --quick      # the table of what has been trained so far

The student of ablation.py (`ce`) has seen two environments of the Falcon desert. It labels the
first half of the third; `--export-hard` chooses frames, with the student of the next seed as the
second opinion. The student goes on with these frames and their true labels, and another time with
as many random ones; both are measured on the second half. How results are kept: experiments.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import csv
from itertools import product
import json
from pathlib import Path
import shutil
import statistics
import tempfile
from typing import Any

from ablation import CONFIG, FOLDS, measure_half, run_of
from experiments import Run, keep, load, options_parser, scores_of, tell, train_missing, train_run
import numpy as np
from report import ROOT, finish

from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.predictions import CheckpointPredictor
from offroad_seg_core.evaluation.sources.dataset import DatasetFrames
from offroad_seg_core.mining.export import FOLDER, TABLE
from offroad_seg_core.mining.signals import FrameSignals
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.checkpoint import load_checkpoint

FALCON = Path('data/falcon_desert')
SETS = Path('data/mining')
KINDS = ('mined', 'random')
FEW = ('optimizer.max_steps=150', 'optimizer.learning_rate=5e-4', 'validate_every=150')


def parse_arguments() -> argparse.Namespace:
    """Parse the options."""
    parser = options_parser(__doc__)
    parser.add_argument('--folds', nargs='+', default=FOLDS, choices=FOLDS)
    parser.add_argument('--seeds', nargs='+', type=int, default=(1, 2, 3))
    parser.add_argument('--budgets', nargs='+', type=int, default=(5, 10))
    return parser.parse_args()


def base_run(fold: str, seed: int) -> Run:
    """Return the training that has never seen the place."""
    return run_of('ce', fold, seed)


def tuned_run(kind: str, budget: int, fold: str, seed: int) -> Run:
    """Return the training that goes on with chosen frames of the place."""
    name = f'{kind}_{budget}_{fold}_{seed}'
    places = f'root: {SETS / name}, holdout: null, validation_root: {SETS / f"rest_{fold}"}'
    changes = (
        *FEW,
        f'init_checkpoint={checkpoint_of(fold, seed)}',
        f'dataset={{kind: falcon, {places}}}',
        f'seed={seed}',
    )
    return Run('mining', name, CONFIG, changes)


def checkpoint_of(fold: str, seed: int) -> Path:
    """Return where the weights of a base run are."""
    return base_run(fold, seed).settings.folder / 'best.ckpt'


def tuned_runs(fold: str, seed: int, budgets: Sequence[int]) -> Iterator[Run]:
    """Yield the runs of one place and seed."""
    for budget, kind in product(budgets, KINDS):
        yield tuned_run(kind, budget, fold, seed)


def train_bases(fold: str, seeds: Sequence[int]) -> None:
    """Train the students of a place whose weights are not there, and measure its second half."""
    for seed in seeds:
        if not (ROOT / checkpoint_of(fold, seed)).exists():
            train_run(base_run(fold, seed))
        measure_half(fold, seed)


def first_half(fold: str) -> FrameSet:
    """Return the frames that may be labelled."""
    config = FalconConfig('falcon', ROOT / FALCON, fold, adaptation_frames=10**6)
    return config.frames('train', load_taxonomy('falcon10'))


def write_set(name: str, files: Sequence[FrameFiles]) -> None:
    """Make a folder that holds only some frames, as links."""
    folder = ROOT / SETS / name
    shutil.rmtree(folder, ignore_errors=True)
    for item in files:
        for path in (item.image, item.label):
            assert path is not None
            link = folder / path.relative_to(ROOT / FALCON)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


def mine(fold: str, seed: int, other_seed: int, count: int) -> list[str]:
    """Return the names of the frames that --export-hard chooses, the most wanted first."""
    predictor, other = (
        CheckpointPredictor(load_checkpoint(ROOT / checkpoint_of(fold, each)))
        for each in (seed, other_seed)
    )
    with tempfile.TemporaryDirectory() as home:
        evaluation = Evaluation(
            DatasetFrames(first_half(fold), fold),
            predictor,
            Path(home) / 'out',
            other,
            (FrameSignals(),),
            num_hard=count,
        )
        folder = evaluate(evaluation, lambda count: None)
        with open(folder / FOLDER / TABLE, newline='') as stream:
            return [row['name'] for row in csv.DictReader(stream)]


def choose_frames(fold: str, seed: int, other_seed: int, budgets: Sequence[int]) -> None:
    """Make the folders of the frames that a seed trains on."""
    pool = first_half(fold).files
    wanted = mine(fold, seed, other_seed, max(budgets))
    mined = [next(item for item in pool if item.stem == name) for name in wanted]
    order = np.random.default_rng(seed).permutation(len(pool))
    for budget in budgets:
        if len(mined) < budget:
            raise ValueError(
                f'--budgets: got {budget}; {fold} has only {len(mined)} frames that differ'
            )
        write_set(f'mined_{budget}_{fold}_{seed}', mined[:budget])
        write_set(f'random_{budget}_{fold}_{seed}', [pool[index] for index in order[:budget]])


def note_frames(run: Run) -> None:
    """Keep the names of the frames with the result of the training on them."""
    result = json.loads(run.path.read_text())
    images = (ROOT / run.settings.dataset.root / 'Color_Images').rglob('*.*')
    keep(run.path, {**result, 'frames': sorted(path.stem for path in images)})


def train(options: argparse.Namespace) -> None:
    """Train what is missing, place by place."""
    for fold in options.folds:
        missing = [
            seed
            for seed in options.seeds
            if any(load(run) is None for run in tuned_runs(fold, seed, options.budgets))
        ]
        if not missing:
            continue
        others = {seed: _next(seed, options.seeds) for seed in missing}
        train_bases(fold, sorted({*missing, *others.values()}))
        config = FalconConfig('falcon', ROOT / FALCON, fold, adaptation_frames=1)
        rest = config.frames('validation', load_taxonomy('falcon10'))
        write_set(f'rest_{fold}', rest.files)
        for seed in missing:
            choose_frames(fold, seed, others[seed], options.budgets)
            for run in tuned_runs(fold, seed, options.budgets):
                if load(run) is None:
                    train_missing([run])
                    note_frames(run)


def _next(seed: int, seeds: Sequence[int]) -> int:
    return seeds[(list(seeds).index(seed) + 1) % len(seeds)]


def table(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for each place and budget, and the mean gain of mining at each budget."""
    rows, ratios = [], {}
    for budget in options.budgets:
        gains: list[float] = []
        for fold in options.folds:
            pairs, before = [], []
            for seed in options.seeds:
                found = [load(tuned_run(kind, budget, fold, seed)) for kind in KINDS]
                scores = [scores_of(result, fold)[0] for result in found if result is not None]
                start = load(run_of('few_0', fold, seed))
                if len(scores) == len(KINDS) and start is not None:
                    pairs.append(scores)
                    before.append(scores_of(start, fold)[0])
            differences = [mined - chance for mined, chance in pairs]
            gains += differences
            rows.append({
                'place': fold,
                'frames': budget,
                'seeds': len(pairs),
                'before mIoU': statistics.mean(before) if pairs else None,
                'mined mIoU': statistics.mean(mined for mined, _ in pairs) if pairs else None,
                'random mIoU': statistics.mean(chance for _, chance in pairs) if pairs else None,
                'gain': statistics.mean(differences) if pairs else None,
                'seeds with a gain': sum(value > 0 for value in differences),
            })  # fmt: skip
        if gains:
            ratios[f'mined_gain_{budget}'] = statistics.mean(gains)
            ratios[f'mined_wins_{budget}'] = sum(gain > 0 for gain in gains) / len(gains)
    return rows, ratios


def main() -> None:
    """Train what is missing, then make the table of what is there."""
    options = parse_arguments()
    if options.list:
        for fold, seed in product(options.folds, options.seeds):
            tell([base_run(fold, seed), *tuned_runs(fold, seed, options.budgets)])
        return
    if len(set(options.seeds)) < 2:
        raise SystemExit('--seeds: got one; expected two or more, one is the second opinion')
    if not options.quick:
        train(options)
    finish('mining', options, *table(options))


if __name__ == '__main__':
    main()
