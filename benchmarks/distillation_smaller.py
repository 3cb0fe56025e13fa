"""What benchmarks/distillation.py makes of its trained networks: ensembles, and smaller students.

Every file says which training it was made from (`source_config_sha256`), so that one of another
training is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
import json
from pathlib import Path
import shlex
import subprocess
import sys
import time
from typing import Any

from experiments import Run, keep, load
from report import ROOT
import torch

from offroad_seg_core import provenance
from offroad_seg_core.datasets.loading import ValidationViews
from offroad_seg_core.distillation.pruning_report import measure_pruning
from offroad_seg_core.distillation.retention import measure_teachers
from offroad_seg_core.evaluation.predictions import PredictionOptions, score_checkpoint
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import EngineError, create_engine
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.models import create_model
from offroad_seg_core.quantization.accuracy import validation_frames
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.student_selection import latencies_ms
from offroad_seg_core.training.validation import confusion_matrices

CHANNELS, WEIGHTS = 0.3, 0.2
DECODER = ('pyramid', 'head')
"""Of a DDRNet."""
NO_LIMIT = 0.5
"""What int8 loses is to be shown here, not refused."""
NUM_THREADS = 2


def keep_ensemble(run: Run, target: Path) -> None:
    """Measure the teachers of a distillation together."""
    trained = load(run)
    if trained is None or target.exists():
        return
    started_s = time.monotonic()
    measure_teachers(run.settings)
    content = json.loads((ROOT / run.settings.folder / 'teachers.json').read_text())
    keep(target, {**_origin(trained, started_s), **content})


def make_smaller(run: Run, targets: Mapping[str, Path], calibration: Path) -> None:
    """Prune and tune a student, quantise that, and set decoder weights of the student to zero.

    Args:
        run: The student's distillation.
        targets: Where `pruned`, `sparse` and `int8` are kept.
        calibration: Folder of pictures to train on.
    """
    trained = load(run)
    if trained is None:
        return
    folder = run.settings.folder.with_name(f'{run.settings.name}_smaller')
    tuned = run.settings.folder.with_name(f'{run.settings.name}_pruned')
    if not targets['pruned'].exists():
        if not (ROOT / folder / 'finetune.yaml').exists():
            _call(
                'prune', checkpoint=run.settings.folder / 'best.ckpt', output=folder,
                channels=CHANNELS, weights=WEIGHTS, parts=DECODER, threads=NUM_THREADS,
            )  # fmt: skip
        resume = ['--resume'] if (ROOT / tuned / 'last.ckpt').exists() else []
        _call('distill', *resume, config=folder / 'finetune.yaml')
        result = json.loads((ROOT / tuned / 'result.json').read_text())
        keep(targets['pruned'], {**result, 'source_config_sha256': trained['config_sha256']})
    if not targets['sparse'].exists():
        _keep_sparse(trained, ROOT / folder / 'sparse.ckpt', targets['sparse'])
    if not targets['int8'].exists():
        _keep_int8(trained, tuned, folder, targets['int8'], calibration)


def _keep_sparse(trained: Mapping[str, Any], checkpoint: Path, target: Path) -> None:
    started_s = time.monotonic()
    scores = score_checkpoint(load_checkpoint(checkpoint), PredictionOptions())
    counts = {
        name: {'confusion_matrix': matrix.counts.tolist()}
        for name, matrix in scores.matrices.items()
    }
    keep(target, {**_origin(trained, started_s), 'environments': counts})


def _keep_int8(
    trained: Mapping[str, Any], tuned: Path, folder: Path, target: Path, calibration: Path
) -> None:
    started_s = time.monotonic()
    bundle, output, record = folder / 'bundle', folder / 'int8', ROOT / folder / 'int8.json'
    _call('export', checkpoint=tuned / 'best.ckpt', output=bundle)
    _call(
        'quantize', bundle=bundle, output=output, max_frames=0, record=record,
        calibration=calibration, max_miou_drop=NO_LIMIT, max_dangerous_drop=NO_LIMIT,
    )  # fmt: skip
    content = json.loads(record.read_text())
    content['environments'] = _by_environment(Bundle.load(ROOT / output))
    keep(target, {**content, **_origin(trained, started_s), 'command': content['command']})


def _by_environment(bundle: Bundle) -> dict[str, dict[str, list[list[int]]]]:
    """Measure as training validates, so that the row can be held against the others."""
    frames = validation_frames(None, bundle, max_frames=0)
    engine = create_engine(bundle, 'openvino', 'int8', NUM_THREADS)
    matrices = confusion_matrices(
        lambda images: torch.from_numpy(engine.run(images.numpy()).logits),
        ValidationViews(frames, bundle.manifest.input),
        bundle.taxonomy.num_classes,
    )
    engine.close()
    return {
        name: {'confusion_matrix': matrix.counts.tolist()} for name, matrix in matrices.items()
    }


def keep_costs(networks: Mapping[str, Path], int8: Path, target: Path) -> None:
    """Measure parameters and milliseconds of networks on the engines of this machine.

    Args:
        networks: Name -> checkpoint; the student first.
        int8: Folder of the quantised bundle.
        target: Where the result is kept.
    """
    checkpoints = {name: load_checkpoint(ROOT / path) for name, path in networks.items()}
    costs = [asdict(cost) for cost in measure_pruning(checkpoints, num_threads=NUM_THREADS)]
    costs.append({**costs[-1], 'name': 'int8', 'engine_ms': _int8_ms(int8)})
    references = {
        'segformer_b2': create_model('segformer_b2', 10),
        'deeplabv3': create_model('deeplabv3', 10),
    }
    keep(
        target,
        {
            'input_size': list(next(iter(checkpoints.values())).config.model.input_size),
            'num_threads': NUM_THREADS,
            'cpu': provenance.cpu_name(),
            'versions': provenance.versions(),
            'git_commit': provenance.git_commit(),
            'networks': costs,
            'published_teachers': {
                name: sum(weight.numel() for weight in model.parameters())
                for name, model in references.items()
            },
        },
    )


def _int8_ms(folder: Path) -> dict[str, float]:
    times = {}
    for engine in ('openvino', 'onnxruntime'):
        try:
            segmenter = Segmenter.open(ROOT / folder, engine, 'int8', NUM_THREADS)
        except EngineError as error:
            print(f'not measured: {engine} int8: {error}')
            continue
        times[f'{engine} int8'] = latencies_ms({'int8': segmenter}, 'engine_ms')['int8']
        segmenter.close()
    return times


def _origin(trained: Mapping[str, Any], started_s: float) -> dict[str, Any]:
    return {
        'source_config_sha256': trained['config_sha256'],
        'config': trained['config'],
        'config_sha256': trained['config_sha256'],
        'seed': trained['seed'],
        'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        'elapsed_s': round(time.monotonic() - started_s, 1),
        'git_commit': provenance.git_commit(),
        'versions': provenance.versions(),
        'cpu': provenance.cpu_name(),
    }


def _call(script: str, *flags: str, **options: Any) -> None:
    command = [sys.executable, f'training/{script}.py', *flags]
    for name, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        command += [f'--{name.replace("_", "-")}', *map(str, values)]
    subprocess.run(command, cwd=ROOT, check=True)
