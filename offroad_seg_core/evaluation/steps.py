"""The steps of one frame in an evaluation: decode, label, count and draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.evaluation.counting import FrameCounter, Row, empty_row
from offroad_seg_core.evaluation.outputs.sink import Labelled, Sink
from offroad_seg_core.evaluation.predictors import Prediction, Predictor
from offroad_seg_core.evaluation.sources.frame import TARGET, Frame
from offroad_seg_core.metrics.meter import MeterConfig, Tally

_NO_LABELS = 'no labels were recorded for it'


@dataclass(frozen=True)
class FrameInWork:
    """A frame on its way through the steps.

    Attributes:
        part: Of the source.
        frame: Where it is from.
        image: Its pixels; None where they could not be decoded.
        maps: What came with it, decoded.
        problem: What went wrong so far.
        prediction: Its labels; None before it was labelled, and where there are none.
        place: Its place among the frames of its camera in the part.
    """

    part: int
    frame: Frame
    image: CameraImage | None
    maps: Mapping[str, np.ndarray]
    problem: str = ''
    prediction: Prediction | None = None
    place: int = 0


@dataclass(frozen=True)
class Counted:
    """What is left of a frame after all steps.

    Attributes:
        part: Of the source.
        row: Of the table.
        tally: Its counts, where there is truth.
        labelled: For the sinks; None where there are no labels.
        prepared: What each sink made of it.
    """

    part: int
    row: Row
    tally: Tally | None = None
    labelled: Labelled | None = None
    prepared: tuple[Any, ...] = ()


def decode(item: tuple[int, Frame]) -> FrameInWork:
    """Decode a frame and its maps; a map that is no good is left out, with a word about it."""
    part, frame = item
    try:
        image = frame.load()
    except (ValueError, cv2.error) as error:
        return FrameInWork(part, frame, None, {}, str(error))
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
    return FrameInWork(part, frame, image, maps, '; '.join(problems))


class Labeller:
    """Labels frames; callable from as many threads as it has streams.

    Args:
        predictor: Of the labels.
        reference: Its labels take the place of truth.

    Attributes:
        num_streams: See Predictor.
    """

    def __init__(self, predictor: Predictor, reference: Predictor | None) -> None:
        self._predictor, self._reference = predictor, reference
        both = [predictor, reference] if reference else [predictor]
        self.num_streams = min(entry.num_streams for entry in both)

    def __call__(self, item: FrameInWork) -> FrameInWork:
        """Return the frame with its labels; EngineError if an engine fails."""
        if item.image is None:
            return item
        prediction, problem, maps = None, item.problem, dict(item.maps)
        try:
            prediction = self._predictor.predict(item.frame, item.image, maps)
            if self._reference is not None:
                known = self._reference.predict(item.frame, item.image, maps)
                maps |= {TARGET: known.label_map} if known else {}
            problem = problem if prediction else problem or _NO_LABELS
        except ValueError as error:
            problem = str(error)
        return replace(item, maps=maps, problem=problem, prediction=prediction)


def placed(frames: Iterator[FrameInWork]) -> Iterator[FrameInWork]:
    """Yield frames, in their order, with their place among those of their camera."""
    places: dict[tuple[int, str], int] = {}
    with closing(frames):  # type: ignore[type-var]
        for item in frames:
            key = item.part, item.frame.camera
            places[key] = places.get(key, -1) + 1
            yield replace(item, place=places[key])


class Counter:
    """Counts and draws frames; callable from several threads.

    Args:
        predictor: Of the labels.
        meter: What is measured where there is truth.
        sinks: What is written of a frame.
        latencies_ms: See Evaluation.
    """

    def __init__(
        self,
        predictor: Predictor,
        meter: MeterConfig,
        sinks: Sequence[Sink],
        latencies_ms: Mapping[tuple[str, int], float],
    ) -> None:
        self._count = FrameCounter(predictor.taxonomy, predictor.cost_table, meter)
        self._sinks, self._latencies_ms = sinks, latencies_ms

    def __call__(self, item: FrameInWork) -> Counted:
        """Return the frame's row and counts, and what the sinks make of it."""
        frame, image, prediction = item.frame, item.image, item.prediction
        if image is None or prediction is None:
            return Counted(item.part, empty_row(frame, item.problem))
        target, problem = item.maps.get(TARGET), item.problem
        try:
            row, tally = self._count(frame, image, prediction, target)
        except ValueError as error:  # truth of other classes or of another size
            target, problem = None, f'{TARGET}: {error}'
            row, tally = self._count(frame, image, prediction, None)
        row['problem'] = problem
        latency_ms = self._latencies_ms.get((frame.camera, frame.stamp_ns))
        if latency_ms is not None:
            row['latency_ms'] = round(latency_ms, 3)
        labelled = Labelled(frame, image, prediction, target, row, item.place)
        prepared = tuple(sink.prepare(labelled) for sink in self._sinks)
        return Counted(item.part, row, tally, labelled, prepared)
