"""What each step of a recipe brings on a place that was never seen: one training a cell.

    python benchmarks/ablation.py [--list] [--folds cc w0 ww] [--seeds 1 2] [--variants ce ...]
    python benchmarks/ablation.py --quick      # the table of what has been trained so far

Each run trains config/train/ablation.yaml with a variant's changes on two environments of the
Falcon desert (data/falcon_desert) and is measured once, at its last step, on the third. `few_N`
goes on from `ce` with N labelled frames of the first half of the third environment, and is
measured on its second half; `few_0` is `ce` measured there. How results are kept: experiments.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from experiments import Run, load, measure, options_parser, scores_of, tell, train_missing
from report import ROOT, finish

CONFIG = Path('config/train/ablation.yaml')
FOLDS = ('cc', 'w0', 'ww')

_DICE = ('loss.terms=[{name: cross_entropy}, {name: dice, weight: 0.5}]',)
_WEIGHTS = (*_DICE, 'loss.class_weights=enet')
_SAMPLER = (*_WEIGHTS, 'sampling={kind: rare_class, min_pixels: 1000}')
_PHOTOMETRIC = (*_SAMPLER, 'augment.photometric.strength=1.0')
# The domain-gap system's views, as often brighter as darker.
_EVENLY_LIT = """augment={kind: pipeline, transforms: [
  {name: RandomResizedCrop, size: crop_size, scale: [0.5, 1.0], p: 1.0},
  {name: HorizontalFlip, p: 0.5},
  {name: ColorJitter, brightness: [0.7, 1.3], contrast: [0.7, 1.3], saturation: [0.7, 1.3],
   hue: [-0.05, 0.05], p: 0.6},
  {name: RandomBrightnessContrast, brightness_limit: [-0.2, 0.2], contrast_limit: [-0.2, 0.2],
   p: 0.4},
  {name: CLAHE, clip_limit: 4.0, p: 0.2},
  {name: GaussianBlur, blur_limit: [3, 5], p: 0.15}]}"""
_BANK = 'data/ablation_bank_{fold}'
_FEW = (
    'init_checkpoint=runs/ablation_ce_{fold}_{seed}/best.ckpt',
    'optimizer.max_steps=150',
    'optimizer.learning_rate=5e-4',
    'validate_every=150',
)
BEFORE = {
    'dice': 'ce', 'weights': 'dice', 'sampler': 'weights', 'photometric': 'sampler',
    'copy_paste': 'photometric', 'evenly_lit': 'sampler', 'brightness': 'evenly_lit',
    'group_norm': 'ce', 'layer_norm': 'ce',
}  # fmt: skip
"""What each variant adds something to."""
# name -> (what it is, what it changes)
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
    'evenly_lit': (
        'sampler, with the views of the domain-gap system',
        (*_SAMPLER, _EVENLY_LIT),
    ),
    'brightness': (
        '+ its darker light',
        (*_SAMPLER, 'augment={kind: pipeline, preset: falcon_domain_gap}'),
    ),
    'group_norm': ('cross entropy, group norm', ('model.options={norm: group}',)),
    'layer_norm': ('cross entropy, layer norm', ('model.options={norm: layer}',)),
    'few_0': ('cross entropy, on half of the place', ('dataset.adaptation_frames=1',)),
    'few_1': ('+ 1 frame of the other half', (*_FEW, 'dataset.adaptation_frames=1')),
    'few_5': ('+ 5 frames', (*_FEW, 'dataset.adaptation_frames=5')),
    'few_10': ('+ 10 frames', (*_FEW, 'dataset.adaptation_frames=10')),
}


def parse_arguments() -> argparse.Namespace:
    """Parse the options."""
    parser = options_parser(__doc__)
    parser.add_argument('--folds', nargs='+', default=FOLDS, choices=FOLDS)
    parser.add_argument('--seeds', nargs='+', type=int, default=(1, 2))
    parser.add_argument('--variants', nargs='+', default=tuple(VARIANTS), choices=VARIANTS)
    return parser.parse_args()


def run_of(variant: str, fold: str, seed: int) -> Run:
    """Return one training."""
    changes = (text.replace('{fold}', fold) for text in VARIANTS[variant][1])
    changes = (text.replace('{seed}', str(seed)) for text in changes)
    everywhere = (f'dataset.holdout={fold}', f'seed={seed}')
    return Run('ablation', f'{variant}_{fold}_{seed}', CONFIG, (*changes, *everywhere))


def runs_of(options: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs in an order in which early results are of use: fold by fold."""
    for fold in options.folds:
        for seed in options.seeds:
            for variant in options.variants:
                if variant != 'few_0':  # trains nothing
                    yield run_of(variant, fold, seed)


def measure_half(fold: str, seed: int) -> None:
    """Measure the baseline where those that saw a few frames are measured."""
    measure(run_of('few_0', fold, seed), run_of('ce', fold, seed))


def make_bank(fold: str) -> None:
    """Cut rare objects out of the two training environments."""
    if (ROOT / _BANK.format(fold=fold)).exists():
        return
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


def table(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for each variant, and what each adds to the one before it on each fold."""
    rows, ratios = [], {}
    means: dict[tuple[str, str], float] = {}
    for variant, (title, _) in VARIANTS.items():
        row: dict[str, Any] = {'variant': title}
        for fold in FOLDS:
            found = [load(run_of(variant, fold, seed)) for seed in options.seeds]
            values = [scores_of(result, fold)[0] for result in found if result is not None]
            row[f'{fold} mIoU'] = statistics.mean(values) if values else None
            row[f'{fold} spread'] = max(values) - min(values) if len(values) > 1 else None
            row[f'{fold} runs'] = len(values)
            if values:
                means[variant, fold] = statistics.mean(values)
        of_folds = [means[variant, fold] for fold in FOLDS if (variant, fold) in means]
        row['mean of the places'] = statistics.mean(of_folds) if of_folds[2:] else None
        rows.append(row)
    for (variant, fold), mean in means.items():
        # The few frames are measured on half of the place: there is no difference to take.
        before = means.get((BEFORE.get(variant, ''), fold))
        if before is not None:
            ratios[f'{variant}_gain_{fold}'] = mean - before
    return rows, ratios


def main() -> None:
    """Train what is missing, then make the table of what is there."""
    options = parse_arguments()
    runs = list(runs_of(options))
    if options.list:
        tell(runs)
        return
    if not options.quick:
        for fold in options.folds:
            if 'copy_paste' in options.variants:
                make_bank(fold)
        train_missing(runs)
        if 'few_0' in options.variants:
            for fold, seed in product(options.folds, options.seeds):
                measure_half(fold, seed)
    finish('ablation', options, *table(options))


if __name__ == '__main__':
    main()
