"""The student: its scores from committed confusion matrices, and its speed.

    python benchmarks/student.py [--quick] [--json PATH]

Scores: benchmarks/results/runs/*.json are the `result.json` files that training/train.py wrote:
config and its hash, seed, command, wall time and one confusion matrix per environment. Nothing is
trained here. `miou` averages over the classes in truth or prediction, `miou_present` over the
classes in the truth.

Ratios of distillation come from benchmarks/results/runs/distillation/: `retention` is the mIoU
(`miou_present`) of the best distilled student (distillation_table.py) divided by that of its
teachers together, on the places that they know, the mean over all runs; `int8_miou_drop` is what
int8 loses on all places, the mean over all runs of its worst engine. `shipped_retention` is the
mIoU of the shipped student (demo_student.json) divided by that of its teacher on the same frames.

Speed: a label map at 512x896, batch 1, two threads, of the shipped bundle as it is meant to run
(its labels from the graph, its checked int8 file), of its float32 logits on the same engine, and
of DeepLabV3+ ResNet-101 in eager PyTorch; needs `make install`.
"""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import statistics
from typing import Any

from distillation_table import BEST, matrix_of, retention, together
from engine import SIZE, EagerEngine, deeplab
import numpy as np
from report import ROOT, arguments, finish, interleaved_ms

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import Engine, EngineError, LabelEngine, create_engine
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.metrics.segmentation import segmentation_scores
from offroad_seg_core.taxonomy import load_taxonomy

RUNS = ROOT / 'benchmarks' / 'results' / 'runs'
BUNDLE = ROOT / 'models' / 'demo_desert'
THREADS = 2


def rows_of(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row for each environment that a run was validated on."""
    taxonomy = load_taxonomy(run['config']['taxonomy'])
    rows = []
    for environment, record in run['environments'].items():
        matrix = matrix_of(record['confusion_matrix'])
        scores = segmentation_scores(matrix, taxonomy)
        rows.append(
            {
                'run': run['config']['name'],
                'validated_on': environment,
                'steps': run['step'],
                'minutes': round(run['elapsed_s'] / 60, 1),
                'miou': scores.miou,
                'miou_present': scores.miou_present,
                'false_safe': scores.false_safe_rate,
                **{
                    name: None if np.isnan(iou) else float(iou)
                    for name, iou in zip(taxonomy.names, matrix.iou(), strict=True)
                },
            }
        )
    return rows


def mean_retention(folder: Path) -> float | None:
    """Return distilled student / ensemble on known places; None without a pair of runs."""
    shares = [scores.known for scores in retention(folder, BEST).values()]
    return statistics.mean(shares) if shares else None


def int8_miou_drop(folder: Path) -> float | None:
    """Return what int8 loses, as a share of 1; None without a record."""
    drops = []
    for file in sorted(folder.glob('int8_*.json')):
        engines = json.loads(file.read_text())['engines'].values()
        scores = [
            [matrix_of(entry[key]['confusion_matrix']).miou_present for key in ('fp32', 'int8')]
            for entry in engines
        ]
        drops.append(max(before - after for before, after in scores))
    return statistics.mean(drops) if drops else None


def shipped_retention() -> float:
    """Return shipped student / teacher."""
    student, teachers = (
        miou_of(json.loads((RUNS / name).read_text()))
        for name in ('demo_student.json', 'demo_student/teachers.json')
    )
    return student / teachers


def miou_of(result: dict[str, Any]) -> float:
    """Return the mIoU over the classes in the truth of all environments of a result."""
    places = result['environments'].values()
    return together([matrix_of(place['confusion_matrix']) for place in places])


def student_engine(bundle: Bundle) -> Engine:
    """Return the engine that the shipped bundle is meant for: checked int8, else the best."""
    is_checked = any(m.precision == 'int8' and m.is_checked for m in bundle.manifest.models)
    return create_engine(bundle, 'openvino', 'int8' if is_checked else 'auto', THREADS)


def label_maps(bundle: Bundle) -> dict[str, Callable[[], object]]:
    """Return the ways from one image to its label map that are timed."""
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    decoder, classes = Decoder(SIZE), range(bundle.taxonomy.num_classes)
    head = HeadInputs.of_classes(len(classes), classes)
    student = student_engine(bundle)
    teacher = EagerEngine(deeplab(), 'fp32')
    ways: dict[str, Callable[[], object]] = {
        'deeplabv3plus torch fp32': lambda: decoder.label_map(teacher.run(image), range(10)),
        f'student {student.info.name} {student.info.precision} logits': lambda: decoder.label_map(
            student.run(image), classes
        ),
    }
    if student.info.gives_labels:
        assert isinstance(student, LabelEngine)  # by EngineInfo
        fused: LabelEngine = student
        ways[f'student {student.info.name} {student.info.precision} labels'] = lambda: (
            decoder.label_map(fused.run_labels(image, head), classes)
        )
    if 'fp32' in bundle.precisions:
        plain = create_engine(bundle, student.info.name, 'fp32', THREADS)
        ways[f'student {student.info.name} fp32 logits'] = lambda: decoder.label_map(
            plain.run(image), classes
        )
    return ways


def speed(quick: bool) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return rows of milliseconds and the ratios of speed."""
    import torch

    torch.set_num_threads(THREADS)
    keep_freed_memory()
    bundle = Bundle.load(BUNDLE)
    try:
        ways = label_maps(bundle)
    except EngineError as error:
        print(f'not measured: speed: {error}')
        return [], {}
    times = interleaved_ms(ways, rounds=3 if quick else 20, warm_ups=1 if quick else 3)
    rows = [{'run': f'speed: {name}', 'ms': value} for name, value in times.items()]
    best = min(value for name, value in times.items() if name.startswith('student'))
    ratios = {
        'student_vs_deeplabv3plus_torch_eager': times['deeplabv3plus torch fp32'] / best,
    }
    fused = [value for name, value in times.items() if name.endswith(' labels')]
    unfused = [value for name, value in times.items() if name.endswith(' fp32 logits')]
    if fused and unfused:
        ratios['fused_vs_unfused_same_engine'] = unfused[0] / fused[0]
    else:
        print('not measured: fused_vs_unfused_same_engine: the shipped bundle is not fused')
    return rows, ratios


def main() -> None:
    """Print and write the tables."""
    options = arguments(__doc__)
    runs = [json.loads(file.read_text()) for file in sorted(RUNS.glob('*.json'))]
    rows = [row for run in runs for row in rows_of(run)]
    ratios = {f'{row["run"]}_miou_present': row['miou_present'] for row in rows}
    for name, compute in (('retention', mean_retention), ('int8_miou_drop', int8_miou_drop)):
        value = compute(RUNS / 'distillation')
        if value is None:
            print(f'not measured: {name}: no runs in {RUNS / "distillation"}')
        else:
            ratios[name] = value
    ratios['shipped_retention'] = shipped_retention()
    speed_rows, speed_ratios = speed(options.quick)
    finish('student', options, [*rows, *speed_rows], {**ratios, **speed_ratios})


if __name__ == '__main__':
    main()
