"""What a student keeps of its teachers, on known places and on one that was never seen.

    python benchmarks/distillation.py [--list] [--folds cc ...] [--seeds 1 2] [--runs kl ...]
    python benchmarks/distillation.py --quick      # the table of what has been trained so far

One environment of the Falcon desert (data/falcon_desert) is left out; of each environment the last
30 % of the frames, in the order of their names, are what everything is measured on. Two teachers
and the student learn from the first frames of the other two, from random weights; their ensemble,
mirrored, teaches the student. `unlabelled` and `dist_unlabelled` also see the first frames of the
place that was left out, without their labels. `--smaller`: `pruned` is made of the best student by
training/prune.py and tuned, `int8` of `pruned` by training/quantize.py, `sparse` of the best
student. `--costs`: parameters and milliseconds. What is trained: RUNS; what is made of it:
distillation_smaller.py; how results are kept: experiments.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from distillation_smaller import keep_costs, keep_ensemble, make_smaller
from distillation_table import BEST, MADE_OF, table
from experiments import RESULTS, Run, options_parser, tell, train_missing
from report import ROOT, finish

from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.files import atomic_path
from offroad_seg_core.taxonomy import load_taxonomy

GROUP = 'distillation'
CONFIG = Path('config/distill/falcon_loeo.yaml')
FOLDS = ('cc', 'w0', 'ww')
BLOCK = 0.3
TEACHER_STEPS, STUDENT_STEPS = 800, 600
_FRAMES = 'data/distillation_{part}_{fold}'
_EVERYWHERE = (
    'dataset.holdout={fold}', f'dataset.validation_block={BLOCK}', 'seed={seed}',
    'init_checkpoint=null', 'model.input_size=[384, 672]', 'loader.crop_size=[224, 384]',
    'augment.scale_range=[0.6, 1.67]', 'augment.photometric.strength=0.5',
)  # fmt: skip
_TEACHER = (
    'distillation=null', f'optimizer.max_steps={TEACHER_STEPS}',
    f'validate_every={TEACHER_STEPS}',
)  # fmt: skip
_STUDENT = (
    f'optimizer.max_steps={STUDENT_STEPS}', f'validate_every={STUDENT_STEPS}',
    'optimizer.learning_rate=2e-3',
)  # fmt: skip
_TAUGHT = (
    *_STUDENT,
    'distillation.teachers=[{path: runs/distillation_fpn_{fold}_{seed}/best.ckpt, tta: flip}, '
    '{path: runs/distillation_segformer_b0_{fold}_{seed}/best.ckpt, tta: flip}]',
    'distillation.soft_labels.folder=runs/soft_labels_{fold}_{seed}',
)
_KL = (*_TAUGHT, 'distillation.terms=[{name: kl, options: {temperature: 2}}]')
_STRONG = (*_TAUGHT, 'distillation.terms=[{name: dist, weight: 3}]')
# name -> the script that trains it, and its changes
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    'fpn': ('train', (*_TEACHER, 'model={name: fpn, options: {encoder: resnet18}}')),
    'segformer_b0': (
        'train', (*_TEACHER, 'model={name: segformer_b0}', 'optimizer.learning_rate=5e-4'),
    ),
    'alone': ('train', (*_STUDENT, 'distillation=null')),
    'kl': ('distill', _KL),
    'unlabelled': (
        'distill',
        (
            *_KL,
            'distillation.unlabelled={path: data/distillation_unlabelled_{fold}, '
            'confidence: 0.8, share: 0.4, strength: 2.0}',
        ),
    ),
    'dist': ('distill', (*_TAUGHT, 'distillation.terms=[{name: dist}]')),
    'dist_strong': ('distill', _STRONG),
    'dist_cwd': ('distill', (*_TAUGHT, 'distillation.terms=[{name: dist}, {name: cwd}]')),
    'dist_unlabelled': (
        'distill',
        (
            *_STRONG,
            'distillation.unlabelled={path: data/distillation_unlabelled_{fold}, '
            'confidence: 0.8, share: 0.25, strength: 1.0}',
        ),
    ),
    'cwd': ('distill', (*_TAUGHT, 'distillation.terms=[{name: cwd}]')),
    'kl_features': (
        'distill',
        (
            *_KL,
            'distillation.features=[{student_layer: detail5, teacher: 0, '
            'teacher_layer: network.decoder, weight: 0.5}]',
        ),
    ),
}  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    """Parse the options."""
    parser = options_parser(__doc__)
    parser.add_argument('--folds', nargs='+', default=('cc',), choices=FOLDS)
    parser.add_argument('--seeds', nargs='+', type=int, default=(1, 2))
    parser.add_argument('--runs', nargs='+', default=tuple(RUNS), choices=RUNS)
    parser.add_argument('--smaller', action='store_true', help='also pruned, sparse and int8')
    parser.add_argument('--costs', action='store_true', help='also the speed; on an idle machine')
    return parser.parse_args()


def run_of(name: str, fold: str, seed: int) -> Run:
    """Return one training."""
    script, changes = RUNS[name]
    every = (text.replace('{fold}', fold) for text in (*changes, *_EVERYWHERE))
    filled = tuple(text.replace('{seed}', str(seed)) for text in every)
    return Run(GROUP, f'{name}_{fold}_{seed}', CONFIG, filled, script)


def link_frames(fold: str) -> None:
    """Make folders of the pictures without labels, and of those to train on."""
    config = FalconConfig('falcon', ROOT / 'data/falcon_desert', fold, validation_block=BLOCK)
    taxonomy = load_taxonomy('falcon10')
    train, measured = (
        {entry.image for entry in config.frames(split, taxonomy).files}
        for split in ('train', 'validation')
    )
    pictures = sorted((config.root / 'Color_Images').iterdir())
    new = {path for path in pictures if path.name.startswith(fold)} - measured
    for part, chosen in (('unlabelled', new), ('train', train)):
        folder = ROOT / _FRAMES.format(part=part, fold=fold)
        if not folder.exists():
            with atomic_path(folder) as temporary:
                temporary.mkdir()
                for path in chosen:
                    (temporary / path.name).symlink_to(path.resolve())


def make_all(fold: str, seed: int) -> None:
    """Prune and quantise the best student."""
    targets = {name: result_of(name, fold, seed) for name in ('pruned', 'sparse', 'int8')}
    calibration = ROOT / _FRAMES.format(part='train', fold=fold)
    make_smaller(run_of(BEST, fold, seed), targets, calibration)


def measure_costs(fold: str, seed: int) -> None:
    """Measure what each network costs on the engines of this machine."""
    folders = {
        name: run_of(name, fold, seed).settings.folder for name in (BEST, 'fpn', 'segformer_b0')
    }
    student = folders[BEST]
    paths = {'student': student, 'fpn': folders['fpn'], 'segformer_b0': folders['segformer_b0']}
    paths['pruned'] = student.with_name(f'{student.name}_pruned')
    int8 = student.with_name(f'{student.name}_smaller') / 'int8'
    best = {name: path / 'best.ckpt' for name, path in paths.items()}
    keep_costs(best, int8, RESULTS / GROUP / 'costs.json')


def result_of(name: str, fold: str, seed: int) -> Path:
    """Return where the result of a variant is kept."""
    return RESULTS / GROUP / f'{name}_{fold}_{seed}.json'


def main() -> None:
    """Train what is missing, then make the table of what is there."""
    options = parse_arguments()
    places = [(fold, seed) for seed in options.seeds for fold in options.folds]
    runs = [run_of(name, *place) for place in places for name in options.runs]
    if options.list:
        tell(runs)
        return
    if not options.quick:
        for fold in options.folds:
            link_frames(fold)
        train_missing(runs)
        for place in places:
            keep_ensemble(run_of(MADE_OF['ensemble'], *place), result_of('ensemble', *place))
            if options.smaller:
                make_all(*place)
        if options.costs:
            measure_costs(*places[0])
    finish('distillation', options, *table(RESULTS / GROUP))


if __name__ == '__main__':
    main()
