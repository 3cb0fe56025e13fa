"""Whether the recipes of the published systems learn: a few epochs each, and four frames by heart.

    python benchmarks/recipes.py [--list] [--recipes falcon_fpn ...] [--kinds epochs overfit]
    python benchmarks/recipes.py --quick      # the table of what has been trained so far

`epochs` trains a recipe on two environments of the Falcon desert (data/falcon_desert) and is
measured on frames of the third. Only what two cores and missing weights dictate is changed: frames
of a quarter of the sides, batches of 4, few steps, a random encoder that is therefore not frozen.
`overfit` trains on four frames without augmentation and is measured on the same four, with larger
learning rates for a random encoder; their masks are made of blocks of 8 pixels, because those of
the Falcon desert have a finer grain than logits of stride 4 or 8 can follow. Neither says how good
a system is; both say that it trains. How results are kept: experiments.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
import statistics
from typing import Any

import cv2
from experiments import Run, load, options_parser, scores_of, tell, train_missing
import numpy as np
from report import ROOT, finish

from offroad_seg_core.files import atomic_path

# Recipe -> learning rate and steps by heart. Dice alone takes more of them.
RECIPES = {
    'falcon_fpn': (1e-3, 1500),
    'falcon_deeplabv3': (1e-3, 240),
    'falcon_segformer': (3e-4, 240),
    'falcon_domain_gap': (1e-3, 240),
    'falcon_domain_gap_7': (1e-3, 240),
}
FRAMES, SMALL_SIZE = Path('data/falcon_small'), (135, 240)
COARSE_FRAMES, COARSE_SIZE, BLOCK_PX = Path('data/falcon_coarse'), (144, 256), 8
SIZE = (160, 256)
# With Dice alone a class that is never named gets next to no gradient: a long warm-up lets small
# ones be found before the large ones are certain.
FPN_BY_HEART = (
    'model.options={encoder: resnext101_32x4d, decoder_dropout: 0.0}',
    'optimizer.warmup_steps=400',
)
BATCH_SIZE = 4
KINDS = ('overfit', 'epochs')
NUM_TRAINING_FRAMES = 109
NUM_EPOCHS = 3
_EVERYWHERE = (
    f'dataset.root={FRAMES}', 'dataset.validation_root=null', 'dataset.holdout=cc',
    'model.weights=null', 'loader.num_workers=0', 'precision=auto', 'early_stopping=0',
    'optimizer.freeze_encoder_steps=0', 'log_every=1', f'loader.batch_size={BATCH_SIZE}',
    f'model.input_size={list(SIZE)}', f'loader.crop_size={list(SIZE)}',
)  # fmt: skip


def run_of(kind: str, recipe: str) -> Run:
    """Return one training."""
    changes = [*_EVERYWHERE]
    if kind == 'overfit':
        learning_rate, steps = RECIPES[recipe]
        changes += [
            'overfit_frames=4', f'optimizer.max_steps={steps}',
            f'optimizer.learning_rate={learning_rate}', 'optimizer.encoder_factor=1',
            'optimizer.classifier_factor=1', 'optimizer.warmup_steps=10',
            'optimizer.weight_decay=0', f'validate_every={steps // 4}',
            *(FPN_BY_HEART if recipe == 'falcon_fpn' else ()),
            'init_checkpoint=null', f'dataset.root={COARSE_FRAMES}',
        ]  # fmt: skip
    else:
        epoch = NUM_TRAINING_FRAMES // BATCH_SIZE
        changes += [
            f'optimizer.max_steps={NUM_EPOCHS * epoch}',
            f'optimizer.warmup_steps={epoch // 2}', f'validate_every={NUM_EPOCHS * epoch}',
            'max_validation_frames=25',
        ]  # fmt: skip
        if recipe == 'falcon_domain_gap_7':
            changes.append('init_checkpoint=runs/recipes_epochs_falcon_domain_gap/best.ckpt')
    return Run('recipes', f'{kind}_{recipe}', Path(f'config/train/{recipe}.yaml'), tuple(changes))


def make_frames() -> None:
    """Write the small frames, and those with coarse masks."""
    write_frames(FRAMES, SMALL_SIZE, lambda mask: _nearest(mask, SMALL_SIZE))
    write_frames(COARSE_FRAMES, COARSE_SIZE, _majority)


def write_frames(
    target: Path, size: tuple[int, int], reduce: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Write the frames at another size, with reduced masks."""
    source = ROOT / 'data' / 'falcon_desert'
    if (ROOT / target).exists():
        return
    with atomic_path(ROOT / target) as folder:
        for name in ('Color_Images', 'Segmentation'):
            (folder / name).mkdir(parents=True)
        for path in sorted((source / 'Color_Images').iterdir()):
            image = cv2.resize(cv2.imread(str(path)), size[::-1], interpolation=cv2.INTER_AREA)
            mask = cv2.imread(
                str(source / 'Segmentation' / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED
            )
            cv2.imwrite(str(folder / 'Color_Images' / f'{path.stem}.png'), image)
            cv2.imwrite(str(folder / 'Segmentation' / f'{path.stem}.png'), reduce(mask))


def _nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)


def _majority(mask: np.ndarray) -> np.ndarray:
    """Give each block of pixels its most frequent class."""
    rows, columns = (side // BLOCK_PX for side in COARSE_SIZE)
    classes = np.unique(mask)
    shares = [
        cv2.resize((mask == c).astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        for c in classes
    ]
    return _nearest(classes[np.argmax(shares, axis=0)], COARSE_SIZE)


def parse_arguments() -> argparse.Namespace:
    """Parse the options."""
    parser = options_parser(__doc__)
    parser.add_argument('--recipes', nargs='+', default=tuple(RECIPES), choices=RECIPES)
    parser.add_argument('--kinds', nargs='+', default=KINDS, choices=KINDS)
    return parser.parse_args()


def runs_of(options: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs; the second stage of the domain-gap system after its first."""
    for kind in options.kinds:
        for recipe in options.recipes:
            yield run_of(kind, recipe)


def table() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for each recipe; the loss is the mean of its first and last tenth."""
    rows, ratios = [], {}
    for recipe in RECIPES:
        row: dict[str, Any] = {'recipe': recipe}
        if result := load(run_of('epochs', recipe)):
            losses = [loss for _, loss in result['loss_curve']]
            tenth = max(1, len(losses) // 10)
            row['steps'] = result['step']
            row['loss at first'] = statistics.mean(losses[:tenth])
            row['loss at last'] = statistics.mean(losses[-tenth:])
            row['mIoU of cc'] = scores_of(result, 'cc')[0]
            row['minutes'] = result['elapsed_s'] / 60
            ratios[f'{recipe}_loss'] = row['loss at last'] / row['loss at first']
        if result := load(run_of('overfit', recipe)):
            # The four frames may be of several environments; their counts add up.
            row['mIoU of 4 frames by heart'] = result['miou_present']
            ratios[f'{recipe}_by_heart'] = result['miou_present']
        rows.append(row)
    return rows, ratios


def main() -> None:
    """Train what is missing, then make the table of what is there."""
    options = parse_arguments()
    runs = list(runs_of(options))
    if options.list:
        tell(runs)
        return
    if not options.quick:
        make_frames()
        train_missing(runs)
    finish('recipes', options, *table())


if __name__ == '__main__':
    main()
