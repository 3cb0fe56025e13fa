"""Hold what the live node said against the drive's exact labels, and write the report of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import TruthOptions, find_truth, recorded_labels
from offroad_seg_core.evaluation.outputs.report_frames import ReportFrames
from offroad_seg_core.evaluation.predictors import RecordedPredictor
from offroad_seg_core.evaluation.sources.bag import BagFrames
from offroad_seg_core.evaluation.sources.combining import LabelledFrames
from offroad_seg_core.evaluation.sources.frame import TARGET
from offroad_seg_core.evaluation.summary import read_summary
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_ros.demo_inputs import DemoInput
from offroad_seg_ros.demo_replay import Replay

Scores = tuple[dict[str, ConfusionMatrix], str]
"""Camera -> counts, and why there are none."""


def evaluate_replay(
    demo_input: DemoInput,
    replay: Replay,
    bundle: Bundle,
    outputs: Path,
    result: Path,
    duration_s: float | None,
    on_frame: Callable[[int], object],
) -> Scores:
    """Write the evaluation of a replay.

    Args:
        demo_input: What was played.
        replay: When frames were sent and their masks came.
        bundle: What the node ran.
        outputs: Bag of what it said.
        result: Folder to make; its page is ``report/index.html``.
        duration_s: How much was played; None: all.
        on_frame: Called with the number of frames that were completed.
    """
    topics = [camera.input_topic for camera in demo_input.cameras]
    frames = BagFrames(demo_input.bag, topics, duration_s)
    maps, why_not = recorded_labels(outputs), ''
    try:
        truth = find_truth(frames, bundle.taxonomy, TruthOptions())
        if truth is None:
            why_not = 'no ground truth in the bag'
        else:
            maps[TARGET] = truth
    except ValueError as error:  # of other classes
        why_not = str(error)
    predictor = RecordedPredictor(
        bundle.taxonomy, bundle.taxonomy.cost_table(), _description(bundle, replay)
    )
    evaluation = Evaluation(
        LabelledFrames(frames, maps),
        predictor,
        result,
        sinks=(ReportFrames(),),
        latencies_ms=_latencies_ms(replay),
        title=f'demo: {demo_input.bag.name}',
        path=demo_input.bag.name,  # the folder has its name only when all is done
    )
    counts = read_summary(evaluate(evaluation, on_frame))['counts']
    return {name: _matrix(entry['confusion_matrix']) for name, entry in counts.items()}, why_not


def _description(bundle: Bundle, replay: Replay) -> dict[str, Any]:
    engine = replay.engine
    names = ('engine', 'engine_version', 'precision')
    told = ' '.join(engine.get(name, '') for name in names).strip()
    return {
        'model': f'{bundle.identity}, live',
        'engine': f'{told} on {engine.get("device", "")}',
        'options': {},
    }


def _latencies_ms(replay: Replay) -> dict[tuple[str, int], float]:
    """Return (camera, stamp) -> time from sending a frame to receiving its mask."""
    return {
        (name, stamp): (received - times.sent_ns[stamp]) / 1e6
        for name, times in replay.cameras.items()
        for stamp, received in times.received_ns.items()
        if stamp in times.sent_ns
    }


def _matrix(rows: list[list[int]]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(len(rows))
    matrix.counts = np.array(rows, np.int64)
    return matrix
