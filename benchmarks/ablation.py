"""What each step of a recipe brings on a place that was never seen: one training a cell.

    python benchmarks/ablation.py [--list] [--folds cc w0 ww] [--seeds 1 2] [--variants ce ...]
    python benchmarks/ablation.py --quick      # the table of what has been trained so far

Each run trains config/train/ablation.yaml with a variant's changes on two environments of the
Falcon desert (data/falcon_desert) and is measured once, at its last step, on the third. Its
result, with configuration, hash, seed, command, wall time and confusion matrix, is kept in
benchmarks/results/runs/ablation/; what is there is not trained again, so the same command goes on
after an interruption. A result of another configuration is refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import json
from pathlib import Path
import shutil
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from report import ROOT, finish

from offroad_seg_core.config import load_config
from offroad_seg_core.files import atomic_path
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.provenance import config_sha256
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.run import resolve_precision

CONFIG = Path('config/train/ablation.yaml')
RESULTS = ROOT / 'benchmarks' / 'results' / 'runs' / 'ablation'
FOLDS = ('cc', 'w0', 'ww')

_DICE = ('loss.terms=[{name: cross_entropy}, {name: dice, weight: 0.5}]',)
_WEIGHTS = (*_DICE, 'loss.class_weights=enet')
_SAMPLER = (*_WEIGHTS, 'sampling={kind: rare_class, min_pixels: 1000}')
_PHOTOMETRIC = (*_SAMPLER, 'augment.photometric.strength=1.0')
_BANK = 'data/ablation_bank_{fold}'
# name -> (what it is, what it changes); each of the first six adds to the one before it.
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    'ce': ('cross entropy', ()),
    'dice': ('+ Dice', _DICE),
    'weights': ('+ class weights (ENet)', _WEIGHTS),
    'sampler': ('+ rare-class sampler', _SAMPLER),
    'photometric': ('+ strong photometric', _PHOTOMETRIC),
    'copy_paste': (
        '+ copy-paste',
        (*_PHOTOMETRIC, f'copy_paste={{bank: {_BANK}/bank, probability: 0.5}}'),
    ),
    'brightness': (
        'sampler, with the crops and the darker light of the domain-gap system',
        (*_SAMPLER, 'augment={kind: pipeline, preset: falcon_domain_gap}'),
    ),
    'extreme': (
        'sampler, with its five stacked colour transforms',
        (*_SAMPLER, 'augment={kind: pipeline, preset: falcon_extreme}'),
    ),
    'field': (
        'sampler, with field conditions',
        (*_SAMPLER, 'augment={kind: pipeline, preset: field_conditions}'),
    ),
}


def parse_arguments() -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--quick', action='store_true', help='train nothing')
    parser.add_argument('--json', type=Path, help='where to write the result')
    parser.add_argument('--list', action='store_true', help='only tell which runs are there')
    parser.add_argument('--folds', nargs='+', default=FOLDS, choices=FOLDS)
    parser.add_argument('--seeds', nargs='+', type=int, default=(1, 2))
    parser.add_argument('--variants', nargs='+', default=tuple(VARIANTS), choices=VARIANTS)
    return parser.parse_args()


def overrides_of(variant: str, fold: str, seed: int) -> list[str]:
    """Return what a run changes in the baseline."""
    changes = [text.replace('{fold}', fold) for text in VARIANTS[variant][1]]
    name = f'ablation_{variant}_{fold}_{seed}'
    return [*changes, f'dataset.holdout={fold}', f'seed={seed}', f'name={name}']


def cells(options: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Yield the runs in an order in which early results are of use: fold by fold."""
    for fold in options.folds:
        for seed in options.seeds:
            for variant in options.variants:
                yield variant, fold, seed


def result_path(variant: str, fold: str, seed: int) -> Path:
    """Return where a run's result is kept."""
    return RESULTS / f'{variant}_{fold}_{seed}.json'


def train(variant: str, fold: str, seed: int) -> None:
    """Train one run and keep its result; resume it if it was interrupted."""
    overrides = overrides_of(variant, fold, seed)
    config = load_config(TrainConfig, CONFIG, overrides)
    if variant == 'copy_paste' and not Path(_BANK.format(fold=fold)).exists():
        make_bank(fold)
    command = [sys.executable, 'training/train.py', '--config', str(CONFIG), *overrides]
    if (config.folder / 'last.ckpt').exists():
        command.append('--resume')
    subprocess.run(command, cwd=ROOT, check=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with atomic_path(result_path(variant, fold, seed)) as temporary:
        shutil.copy(config.folder / 'result.json', temporary)


def make_bank(fold: str) -> None:
    """Cut rare objects out of the two training environments."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / 'falcon.yaml'
        data.write_text(f'{{kind: falcon, root: {ROOT}/data/falcon_desert, holdout: {fold}}}\n')
        subprocess.run(
            [
                sys.executable, 'training/make_copy_paste.py', '--data', str(data),
                '--taxonomy', 'falcon10', '--output', _BANK.format(fold=fold),
                'bank.classes=[Logs, Flowers, Rocks]', 'max_per_class=1',
            ],
            cwd=ROOT, check=True,
        )  # fmt: skip


def load(variant: str, fold: str, seed: int) -> dict[str, Any] | None:
    """Return a kept result; None if there is none.

    Raises:
        ValueError: It is of another configuration.
    """
    path = result_path(variant, fold, seed)
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    config = load_config(TrainConfig, ROOT / CONFIG, overrides_of(variant, fold, seed))
    precision = result['config']['precision'] if config.precision == 'auto' else config.precision
    expected = config_sha256(type(config)(**{**vars(config), 'precision': precision}))
    if result['config_sha256'] != expected:
        raise ValueError(f'{path}: is of another configuration; delete it to train it again')
    return result


def scores_of(result: dict[str, Any], fold: str) -> tuple[float, np.ndarray]:
    """Return mIoU over the classes in the truth, and the IoU of each class."""
    matrix = ConfusionMatrix(load_taxonomy('falcon10').num_classes)
    matrix.counts[:] = np.array(result['environments'][fold]['confusion_matrix'])
    return matrix.miou_present, matrix.iou()


def table(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for each variant, and the differences to the baseline on each fold."""
    rows, ratios = [], {}
    means: dict[tuple[str, str], float] = {}
    for variant, (title, _) in VARIANTS.items():
        row: dict[str, Any] = {'variant': title}
        for fold in FOLDS:
            found = {seed: load(variant, fold, seed) for seed in options.seeds}
            values = [scores_of(r, fold)[0] for r in found.values() if r is not None]
            row[f'{fold} mIoU'] = statistics.mean(values) if values else None
            row[f'{fold} spread'] = max(values) - min(values) if len(values) > 1 else None
            row[f'{fold} runs'] = len(values)
            if values:
                means[variant, fold] = statistics.mean(values)
        rows.append(row)
    for (variant, fold), mean in means.items():
        if variant != 'ce' and ('ce', fold) in means:
            ratios[f'{variant}_gain_{fold}'] = mean - means['ce', fold]
    return rows, ratios


def main() -> None:
    """Train what is missing, then make the table of what is there."""
    options = parse_arguments()
    todo = [cell for cell in cells(options) if load(*cell) is None]
    if options.list:
        for cell in cells(options):
            print(*cell, 'missing' if cell in todo else 'there')
        return
    if not options.quick:
        print(f'{len(todo)} runs to do; precision {resolve_precision("auto")}', flush=True)
        for number, cell in enumerate(todo, 1):
            print(f'== run {number} of {len(todo)}:', *cell, flush=True)
            train(*cell)
    finish('ablation', options, *table(options))


if __name__ == '__main__':
    main()
