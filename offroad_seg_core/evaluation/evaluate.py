"""Label the frames of a source, measure, and write everything that people want to have of it.

Reading, decoding, inference and writing overlap; the frames keep their order. Results are kept
part by part, so that an evaluation that was interrupted in any way goes on where it was, and ends
in the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
import hashlib
import os
from pathlib import Path
import time
from typing import Any

from offroad_seg_core.evaluation.drive_report.build import write_drive_report
from offroad_seg_core.evaluation.outputs.sink import Sink
from offroad_seg_core.evaluation.overlap import ahead, background
from offroad_seg_core.evaluation.parts import PartResult, Unfinished
from offroad_seg_core.evaluation.predictors import Predictor
from offroad_seg_core.evaluation.result import write_result
from offroad_seg_core.evaluation.sources.frame import Source, UniqueNames
from offroad_seg_core.evaluation.steps import Counted, Counter, Labeller, decode, placed
from offroad_seg_core.metrics.meter import MeterConfig, Tally
from offroad_seg_core.mining.export import export_hard_frames
from offroad_seg_core.provenance import label_versions

_MAX_WORKERS = 8


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and what comes of it.

    Attributes:
        source: The frames.
        predictor: Labels them.
        output: Folder of the result.
        reference: Its labels take the place of truth; of the same classes as the predictor.
        sinks: What is written beside the table.
        meter: What is measured where there is truth.
        latencies_ms: (camera, stamp) -> age of the labels when they arrived, of a live node.
        truth: Where truth was asked for by name, for people: a drive without any is told.
        title: For people.
        path: For people, where the source's own path says nothing to them.
        num_hard: Frames worth labelling to export, see mining; then one sink is FrameSignals.
    """

    source: Source
    predictor: Predictor
    output: Path
    reference: Predictor | None = None
    sinks: tuple[Sink, ...] = ()
    meter: MeterConfig = field(default_factory=lambda: MeterConfig(boundary=None))
    latencies_ms: Mapping[tuple[str, int], float] = field(default_factory=dict)
    truth: str = ''
    title: str = ''
    path: str = ''
    num_hard: int = 0

    def __post_init__(self) -> None:
        if self.reference is None:
            return
        ours, theirs = self.predictor.taxonomy, self.reference.taxonomy
        if ours.names != theirs.names:
            fix = 'give a bundle of the same classes'
            got = f'classes of {theirs.name} for a model of {ours.name}'
            raise ValueError(f'reference: got {got}, expected equal ones; {fix}')

    def identity(self) -> dict[str, Any]:
        """Return what the result depends on, plain data."""
        return {
            'source': self.source.identity(),
            'model': self.predictor.identity(),
            'reference': self.reference.identity() if self.reference else None,
            'outputs': [sink.identity() for sink in self.sinks],
            'measures': repr(self.meter),
            'latencies': hashlib.sha256(
                repr(sorted(self.latencies_ms.items())).encode()
            ).hexdigest(),
            **label_versions(),
        }

    def new_tally(self) -> Tally:
        """Return empty counts."""
        return Tally(self.predictor.taxonomy.num_classes, self.meter)


def evaluate(
    evaluation: Evaluation, on_frame: Callable[[int], object], restart: bool = False
) -> Path:
    """Evaluate, or go on with what was interrupted, and return the folder of the result.

    While it is incomplete it is called ``<output>.unfinished``.

    Args:
        evaluation: What to do.
        on_frame: Called with the number of frames that were completed.
        restart: Forget an unfinished result.

    Raises:
        ValueError: There are no frames; the place holds something else; none has labels.
        EngineError: The engine failed.
        OSError: A file cannot be written.
    """
    unfinished = Unfinished(evaluation.output, evaluation.identity(), restart)
    speed = do_parts(evaluation, unfinished, on_frame)
    return conclude(evaluation, unfinished, speed)


def do_parts(
    evaluation: Evaluation, unfinished: Unfinished, on_frame: Callable[[int], object]
) -> float:
    """Do the parts that are left; return the frames per second. Errors: see evaluate."""
    names = UniqueNames()
    for part in range(unfinished.num_done):
        rows = unfinished.load(part, evaluation.meter).rows
        for row in rows:
            names.name(row['camera'], row['stamp_ns'], row['time_ns'])
        on_frame(len(rows))
    started, speed = time.monotonic(), 0.0
    try:
        num_frames = _run(evaluation, unfinished, names, on_frame)
        speed = num_frames / (time.monotonic() - started)
    finally:
        for sink in evaluation.sinks:
            sink.close()
    return speed


def conclude(evaluation: Evaluation, unfinished: Unfinished, speed: float) -> Path:
    """Make a result of parts that are all done; return its folder. Errors: see evaluate."""
    for sink in evaluation.sinks:
        sink.finish(unfinished.folder, unfinished.part_folders())
    parts = [unfinished.load(part, evaluation.meter) for part in range(unfinished.num_done)]
    write_result(unfinished.folder, evaluation, parts, speed)
    if evaluation.num_hard:
        export_hard_frames(evaluation, unfinished.folder, parts)
    write_drive_report([unfinished.folder], unfinished.folder / 'report')
    return unfinished.finish()


def _run(
    evaluation: Evaluation,
    unfinished: Unfinished,
    names: UniqueNames,
    on_frame: Callable[[int], object],
) -> int:
    """Do the parts that are left; return how many frames that were."""
    first, last = unfinished.num_done, evaluation.source.num_parts
    if first == last:
        return 0
    num_frames = 0
    current = _Part(evaluation, unfinished, first)
    num_workers = max(2, min(len(os.sched_getaffinity(0)), _MAX_WORKERS))
    predictor, sinks = evaluation.predictor, evaluation.sinks
    label = Labeller(predictor, evaluation.reference)
    count = Counter(predictor, evaluation.meter, sinks, evaluation.latencies_ms)
    with ThreadPoolExecutor(num_workers) as pool, ThreadPoolExecutor(label.num_streams) as streams:
        frames = background(evaluation.source.frames(first, names))
        decoded = ahead(pool, decode, frames)
        labelled = background(placed(ahead(streams, label, decoded, label.num_streams)))
        counted = ahead(pool, count, labelled)
        with closing(counted):  # type: ignore[type-var]
            for item in counted:
                while current.number < item.part:
                    current = current.next()
                current.add(item)
                num_frames += 1
                on_frame(1)
    while current.number < last - 1:
        current = current.next()
    current.commit()
    return num_frames


class _Part:
    """One part while it is being done."""

    def __init__(self, evaluation: Evaluation, unfinished: Unfinished, number: int) -> None:
        self.number = number
        self._evaluation, self._unfinished = evaluation, unfinished
        self._result = PartResult()
        folder = unfinished.part_folder(number)
        for sink in evaluation.sinks:
            sink.begin(unfinished.folder, folder)

    def add(self, item: Counted) -> None:
        """Add a frame."""
        self._result.add(item.row, item.tally, self._evaluation.new_tally)
        if item.labelled is not None:
            for sink, prepared in zip(self._evaluation.sinks, item.prepared, strict=True):
                sink.add(item.labelled, prepared)

    def commit(self) -> None:
        """Complete the part."""
        for sink in self._evaluation.sinks:
            sink.commit()
        self._result.notes = list(self._evaluation.source.notes)
        self._unfinished.save(self.number, self._result)

    def next(self) -> _Part:
        """Complete the part and return the next one."""
        self.commit()
        return _Part(self._evaluation, self._unfinished, self.number + 1)
