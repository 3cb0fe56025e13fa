"""Label the frames of a source, measure, and write everything that people want to have of it.

Reading, decoding, inference and writing overlap; the frames keep their order. Results are kept
part by part, so that an evaluation that was interrupted in any way goes on where it was, and ends
in the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
import hashlib
import os
from pathlib import Path
import time
from typing import Any

import cv2
import numpy as np

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.evaluation.counting import FrameCounter, Row, empty_row
from offroad_seg_core.evaluation.drive_report.build import write_drive_report
from offroad_seg_core.evaluation.outputs.sink import Labelled, Sink
from offroad_seg_core.evaluation.overlap import ahead, background
from offroad_seg_core.evaluation.parts import PartResult, Unfinished
from offroad_seg_core.evaluation.predictors import Prediction, Predictor
from offroad_seg_core.evaluation.result import write_result
from offroad_seg_core.evaluation.sources.frame import TARGET, Frame, Source, UniqueNames
from offroad_seg_core.metrics.meter import MeterConfig, Tally
from offroad_seg_core.mining.export import export_hard_frames

_MAX_WORKERS = 8
_NO_LABELS = 'no labels were recorded for it'


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
        }

    def new_tally(self) -> Tally:
        """Return empty counts."""
        return Tally(self.predictor.taxonomy.num_classes, self.meter)


@dataclass(frozen=True)
class _Decoded:
    part: int
    frame: Frame
    image: CameraImage | None
    maps: Mapping[str, np.ndarray]
    problem: str = ''


@dataclass(frozen=True)
class _Counted:
    part: int
    row: Row
    tally: Tally | None = None
    labelled: Labelled | None = None
    prepared: tuple[Any, ...] = ()


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
    with ThreadPoolExecutor(num_workers) as pool:
        frames = background(evaluation.source.frames(first, names))
        decoded = ahead(pool, _decode, frames)
        predicted = background(_predict(evaluation, decoded))
        counted = ahead(pool, _Counter(evaluation), predicted)
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

    def add(self, item: _Counted) -> None:
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


def _decode(item: tuple[int, Frame]) -> _Decoded:
    """Decode a frame and its maps; a map that is no good is left out, with a word about it."""
    part, frame = item
    try:
        image = frame.load()
    except (ValueError, cv2.error) as error:
        return _Decoded(part, frame, None, {}, str(error))
    maps, problems = {}, []
    for key, load in frame.maps.items():
        try:
            maps[key] = load()
            if maps[key].shape != image.size:
                got, expected = maps[key].shape, image.size
                fix = 'give labels of the size of the camera image'
                raise ValueError(f'got size {got}, expected {expected} of the image; fix: {fix}')
        except (ValueError, cv2.error) as error:
            maps.pop(key, None)
            problems.append(f'{key}: {error}')
    return _Decoded(part, frame, image, maps, '; '.join(problems))


def _predict(
    evaluation: Evaluation, decoded: Iterator[_Decoded]
) -> Iterator[tuple[_Decoded, Prediction | None, int]]:
    """Yield frames with their labels and their place among the frames of their camera."""
    places: dict[tuple[int, str], int] = {}
    with closing(decoded):  # type: ignore[type-var]
        for item in decoded:
            prediction, problem, maps = None, item.problem, dict(item.maps)
            if item.image is not None:
                try:
                    prediction = evaluation.predictor.predict(item.frame, item.image, maps)
                    if evaluation.reference is not None:
                        known = evaluation.reference.predict(item.frame, item.image, maps)
                        maps |= {TARGET: known.label_map} if known else {}
                    problem = problem if prediction else problem or _NO_LABELS
                except ValueError as error:
                    problem = str(error)
            key = item.part, item.frame.camera
            places[key] = places.get(key, -1) + 1
            done = _Decoded(item.part, item.frame, item.image, maps, problem)
            yield done, prediction, places[key]


class _Counter:
    """Counts and draws frames; callable from several threads."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        predictor = evaluation.predictor
        self._count = FrameCounter(predictor.taxonomy, predictor.cost_table, evaluation.meter)

    def __call__(self, item: tuple[_Decoded, Prediction | None, int]) -> _Counted:
        decoded, prediction, place = item
        frame, image = decoded.frame, decoded.image
        if image is None or prediction is None:
            return _Counted(decoded.part, empty_row(frame, decoded.problem))
        target, problem = decoded.maps.get(TARGET), decoded.problem
        try:
            row, tally = self._count(frame, image, prediction, target)
        except ValueError as error:  # truth of other classes or of another size
            target, problem = None, f'{TARGET}: {error}'
            row, tally = self._count(frame, image, prediction, None)
        row['problem'] = problem
        latency_ms = self._evaluation.latencies_ms.get((frame.camera, frame.stamp_ns))
        if latency_ms is not None:
            row['latency_ms'] = round(latency_ms, 3)
        labelled = Labelled(frame, image, prediction, target, row, place)
        prepared = tuple(sink.prepare(labelled) for sink in self._evaluation.sinks)
        return _Counted(decoded.part, row, tally, labelled, prepared)
