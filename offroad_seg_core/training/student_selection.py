"""Which network is worth its time on a robot: latency first, then training, then the front.

Random weights are as fast as trained ones, so that only networks within the latency budget are
trained. Each training is kept in a folder of its own and is not repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
import json
import logging
from pathlib import Path
import statistics
import tempfile
from typing import Any

import numpy as np

from offroad_seg_core.config import load_config
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.models import create_model
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.bundle_export import export_checkpoint
from offroad_seg_core.training.checkpoint import Checkpoint
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.initial_weights import with_channels_of_start
from offroad_seg_core.training.run import resolve_precision, train

log = logging.getLogger(__name__)

# Name -> model of MODELS, and its options.
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    'ddrnet23_slim': ('ddrnet23_slim', {}),
    'mobilenetv3_large': (
        'convnext_tiny_fpn', {'encoder': 'mobilenetv3_large_100', 'width': 96},
    ),
    'efficientnet_lite0': ('convnext_tiny_fpn', {'encoder': 'efficientnet_lite0', 'width': 96}),
    'segformer_b0': ('segformer_b0', {}),
    'convnext_tiny': ('convnext_tiny_fpn', {'encoder': 'convnext_tiny'}),
}  # fmt: skip
FRAME_SIZE = (1200, 1920)
WARM_UPS, ROUNDS = 3, 15


@dataclass(frozen=True)
class Target:
    """Where the student shall run.

    Attributes:
        engine: See ``create_engine``.
        precision: Likewise.
        num_threads: CPU threads; 0 leaves the choice to the engine.
        input_size: (height, width) that frames are fitted into.
        budget_ms: Of a frame, from the camera's image to its label map.
    """

    engine: str
    precision: str
    num_threads: int
    input_size: tuple[int, int]
    budget_ms: float


@dataclass(frozen=True)
class Student:
    """One candidate.

    Attributes:
        name: A key of ``CANDIDATES``.
        num_parameters: Without what only training needs.
        latency_ms: Median of a frame.
        miou_present: Of its last validation; None if it was not trained.
    """

    name: str
    num_parameters: int
    latency_ms: float
    miou_present: float | None = None


def candidate_config(config: TrainConfig, name: str, output: Path) -> TrainConfig:
    """Return the run of one candidate.

    What was made for another architecture is left out: weights, and losses between layers. One
    that starts from a pruned network is as narrow as that, so that what is measured is trained.

    Raises:
        ValueError: No candidate of that name.
        CheckpointError, BundleError: What it starts from cannot be read.
    """
    if name not in CANDIDATES:
        raise ValueError(f'candidates: got {name!r}, expected some of {", ".join(CANDIDATES)}')
    model, options = CANDIDATES[name]
    run = replace(
        config,
        name=name,
        model=replace(config.model, name=model, options=dict(options)),
        output=output,
    )
    if model == config.model.name and _encoder(options) == _encoder(config.model.options):
        return with_channels_of_start(run, resume=(run.folder / 'last.ckpt').exists())
    distillation = run.distillation
    if distillation is not None and distillation.features:
        distillation = replace(distillation, features=())
    model_config = replace(run.model, weights=None)
    return replace(run, model=model_config, init_checkpoint=None, distillation=distillation)


def _encoder(options: Mapping[str, Any]) -> Any:
    return options.get('encoder', 'convnext_tiny')  # as of convnext_tiny_fpn


def measure(config: TrainConfig, names: Sequence[str], target: Target) -> list[Student]:
    """Time every candidate with random weights on the target, in turn.

    Raises:
        EngineError: The engine is not on this machine or cannot run a candidate.
    """
    segmenters: dict[str, Segmenter] = {}
    parameters: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            log.info('%s: exporting it to measure its latency', name)
            checkpoint = _untrained(candidate_config(config, name, Path(folder)))
            output = Path(folder) / f'{name}_bundle'
            bundle = export_checkpoint(checkpoint, output, input_size=target.input_size)
            architecture = bundle.manifest.architecture
            assert architecture is not None  # export writes it
            model = create_model(architecture.name, **architecture.kwargs)
            parameters[name] = sum(weight.numel() for weight in model.parameters())
            segmenters[name] = Segmenter.open(
                output, target.engine, target.precision, target.num_threads
            )
        latencies = latencies_ms(segmenters)
    for segmenter in segmenters.values():
        segmenter.close()
    return [Student(name, parameters[name], latencies[name]) for name in names]


def train_student(config: TrainConfig, student: Student, output: Path) -> Student:
    """Train a candidate, or go on with its training; return it with its mIoU.

    Errors: see ``train``.
    """
    run = candidate_config(config, student.name, output)
    run = replace(run, precision=resolve_precision(run.precision))
    result = run.folder / 'result.json'
    if result.exists():
        kept = json.loads(result.read_text())
        if kept['finished'] and load_config(TrainConfig, kept['config']) == run:
            return replace(student, miou_present=kept['miou_present'])
    scores = train(run, resume=(run.folder / 'last.ckpt').exists())
    return replace(student, miou_present=scores.miou_present)


def front(students: Collection[Student]) -> list[Student]:
    """Return the trained students that no other one beats in both respects, fastest first."""
    best = -1.0
    chosen = []
    trained = [student for student in students if student.miou_present is not None]
    for student in sorted(trained, key=lambda s: (s.latency_ms, -(s.miou_present or 0.0))):
        if (student.miou_present or 0.0) > best:
            best = student.miou_present or 0.0
            chosen.append(student)
    return chosen


def _untrained(config: TrainConfig) -> Checkpoint:
    taxonomy = load_taxonomy(config.taxonomy)
    model = create_model(config.model.name, taxonomy.num_classes, **config.model.options)
    return Checkpoint(Path('untrained'), config, taxonomy, {'scores': {}}, model.state_dict())


def latencies_ms(segmenters: Mapping[str, Segmenter], part: str = 'total_ms') -> dict[str, float]:
    """Time segmenters in turn on a full camera frame; medians.

    Args:
        segmenters: Open, by name.
        part: Attribute of ``Timings``.
    """
    image = np.random.default_rng(0).integers(0, 256, (*FRAME_SIZE, 3), np.uint8)
    times: dict[str, list[float]] = {name: [] for name in segmenters}
    for turn in range(WARM_UPS + ROUNDS):
        for name, segmenter in segmenters.items():
            timings = segmenter.segment(image).timings
            if turn >= WARM_UPS:
                times[name].append(getattr(timings, part))
    return {name: statistics.median(values) for name, values in times.items()}
