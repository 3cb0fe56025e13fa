"""What a student keeps of its teachers, on known places and on one that was never seen.

    python benchmarks/distillation.py [--list] [--folds cc ...] [--seeds 1 2] [--runs kl ...]
    python benchmarks/distillation.py --quick      # the table of what has been trained so far

One environment of the Falcon desert (data/falcon_desert) is left out; of each environment the last
30 % of the frames, in the order of their names, are what everything is measured on. Two teachers
and the student learn from the first frames of the other two, from random weights; their ensemble,
mirrored, teaches the student. `unlabelled` also sees the first frames of the place that was left
out, without their labels. `pruned` and `sparse` are made of `kl` by training/prune.py, `int8` by
training/quantize.py. How results are kept: experiments.py.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
from pathlib import Path
import subprocess
import sys

from distillation_table import table
from experiments import RESULTS, Run, keep, load, options_parser, tell, train_missing
from report import ROOT, finish
import yaml

from offroad_seg_core.config import dump_config
from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.distillation.pruning_report import measure_pruning
from offroad_seg_core.evaluation.predictions import PredictionOptions, score_checkpoint
from offroad_seg_core.files import atomic_path
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.quantization.accuracy import measure, validation_frames
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.checkpoint import load_checkpoint

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


def keep_ensemble(fold: str, seed: int) -> None:
    """Keep the scores of the teachers together, which training/distill.py wrote."""
    source = ROOT / run_of('kl', fold, seed).settings.folder / 'teachers.json'
    target = RESULTS / GROUP / f'ensemble_{fold}_{seed}.json'
    if source.exists() and not target.exists():
        keep(target, json.loads(source.read_text()))


def make_smaller(fold: str, seed: int) -> None:
    """Prune and quantise what learned by `kl`."""
    source = ROOT / run_of('kl', fold, seed).settings.folder / 'best.ckpt'
    folder = ROOT / 'runs' / f'{GROUP}_pruned_{fold}_{seed}'
    results = {
        name: RESULTS / GROUP / f'{name}_{fold}_{seed}.json'
        for name in ('pruned', 'sparse', 'int8')
    }
    if not results['pruned'].exists():
        _call('prune', checkpoint=source, output=folder, channels=0.3, weights=0.2)
        finetune = folder / 'finetune.yaml'
        _call('distill', config=finetune)
        name = yaml.safe_load(finetune.read_text())['name']
        keep(results['pruned'], json.loads((ROOT / 'runs' / name / 'result.json').read_text()))
    if not results['sparse'].exists():
        checkpoint = load_checkpoint(folder / 'sparse.ckpt')
        scores = score_checkpoint(checkpoint, PredictionOptions())
        counts = {
            name: {'confusion_matrix': matrix.counts.tolist()}
            for name, matrix in scores.matrices.items()
        }
        config = dump_config(checkpoint.config)
        keep(results['sparse'], {'config': config, 'environments': counts})
    if not results['int8'].exists():
        bundle, record = folder / 'bundle', folder / 'int8.json'
        _call('export', checkpoint=source, output=bundle)
        _call(
            'quantize', bundle=bundle, output=folder / 'int8', max_frames=0, record=record,
            calibration=ROOT / _FRAMES.format(part='train', fold=fold),
            max_miou_drop=1, max_dangerous_drop=1,
        )  # fmt: skip
        content = json.loads(record.read_text())
        content['environments'] = _measure_int8(Bundle.load(folder / 'int8'))
        keep(results['int8'], content)


def _measure_int8(bundle: Bundle) -> dict[str, dict[str, list[list[int]]]]:
    frames = validation_frames(None, bundle, max_frames=0)
    indices: dict[str, list[int]] = {}
    for index, entry in enumerate(frames.files):
        indices.setdefault(entry.environment, []).append(index)
    return {
        name: {
            'confusion_matrix': measure(
                bundle, frames.subset(own), 'openvino', 'int8'
            ).counts.tolist()
        }
        for name, own in indices.items()
    }


def _call(script: str, **options: object) -> None:
    command = [sys.executable, f'training/{script}.py']
    for name, value in options.items():
        command += [f'--{name.replace("_", "-")}', str(value)]
    subprocess.run(command, cwd=ROOT, check=True)


def measure_costs(fold: str, seed: int) -> None:
    """Measure what each network costs on the engines of this machine."""
    names = [run_of(name, fold, seed).settings.folder for name in ('kl', 'fpn', 'segformer_b0')]
    paths = {'student': names[0], 'fpn': names[1], 'segformer_b0': names[2]}
    paths['pruned'] = Path(f'runs/{run_of("kl", fold, seed).settings.name}_pruned')
    networks = {
        name: load_checkpoint(ROOT / path / 'best.ckpt')
        for name, path in paths.items()
        if (ROOT / path / 'best.ckpt').exists()
    }
    costs = [asdict(cost) for cost in measure_pruning(networks, num_threads=2)]
    keep(RESULTS / GROUP / 'costs.json', {'networks': costs})


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
            keep_ensemble(*place)
            if options.smaller and load(run_of('kl', *place)) is not None:
                make_smaller(*place)
        if options.costs:
            measure_costs(*places[0])
    finish('distillation', options, *table(RESULTS / GROUP))


if __name__ == '__main__':
    main()
