"""What labels the frames of an evaluation: a segmenter, or a recording of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
import hashlib
import os
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

import numpy as np

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.evaluation.sources.frame import CONFIDENCE, LABEL_MAP, Frame
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import create_engine
from offroad_seg_core.inference.preprocess import CameraView
from offroad_seg_core.inference.result import SegmenterOptions, Timings
from offroad_seg_core.inference.segmenter import UPRIGHT, Head, Segmenter
from offroad_seg_core.taxonomy import Taxonomy

_MOST_STREAMS = 4  # each has a network's activations


class Prediction(NamedTuple):
    """What a network says of one frame.

    Attributes:
        label_map: Class ids or 255, ``(H, W)`` uint8.
        confidence: Probability of that class, ``(H, W)`` float32 0 to 1 or uint8 0 to 255; None
            if it was not told.
        timings: Where the time went; None if it was not measured.
    """

    label_map: np.ndarray
    confidence: np.ndarray | None = None
    timings: Timings | None = None


class Predictor(Protocol):
    """Labels frames.

    Attributes:
        taxonomy: What the ids mean.
        cost_table: ``(256,)`` uint8, class id -> cost.
        num_streams: Threads that may label at the same time.
    """

    taxonomy: Taxonomy
    cost_table: np.ndarray
    num_streams: int

    def predict(
        self, frame: Frame, image: CameraImage, maps: Mapping[str, np.ndarray]
    ) -> Prediction | None:
        """Label one frame; None if there are no labels for it.

        Args:
            frame: Where it is from.
            image: Its pixels.
            maps: What came with it, see Frame.

        Raises:
            ValueError: The frame cannot be labelled.
        """

    def identity(self) -> dict[str, Any]:
        """Return plain data that differ when the labels may differ."""

    def description(self) -> dict[str, Any]:
        """Return plain data for people: model, engine, options."""

    def close(self) -> None:
        """Free the engine."""


def streams_for_throughput(num_threads: int = 0, tta: str = 'off') -> int:
    """Return how many frames an evaluation wants to label at the same time.

    It is in no hurry for any one of them; that all cores are busy counts.

    Args:
        num_threads: What it may use; 0: all cores.
        tta: Of the options; what ``auto`` does depends on how long a frame takes: one.
    """
    if tta == 'auto':
        return 1
    return min(num_threads or len(os.sched_getaffinity(0)), _MOST_STREAMS)


def open_for_throughput(
    bundle: str | Path,
    engine: str = 'auto',
    precision: str = 'auto',
    options: SegmenterOptions | None = None,
) -> Segmenter:
    """Open a bundle where frames per second count. Errors: see Segmenter.open."""
    opened = Bundle.load(bundle)
    num_streams = streams_for_throughput(0, options.tta if options else 'off')
    made = create_engine(opened, engine, precision, num_streams=num_streams, for_throughput=True)
    return Segmenter(opened, made, options)


class SegmenterPredictor:
    """Labels frames as the node does.

    Args:
        segmenter: With the node's options.
        views: Camera -> how it is mounted; others are upright.
    """

    def __init__(
        self, segmenter: Segmenter, views: Mapping[str, CameraView] | None = None
    ) -> None:
        self._segmenter, self._views = segmenter, views or {}
        self.num_streams = segmenter.engine.info.num_streams
        self._idle: SimpleQueue[Segmenter] = SimpleQueue()
        for number in range(self.num_streams):
            one = segmenter.twin() if number else segmenter
            one.open_views()  # else the first frame of each does, and takes longer
            self._idle.put(one)
        self.taxonomy = segmenter.bundle.taxonomy
        self.cost_table = self.taxonomy.cost_table(segmenter.options.cost_overrides)

    def predict(
        self, frame: Frame, image: CameraImage, maps: Mapping[str, np.ndarray]
    ) -> Prediction:
        """Segment one frame, see Predictor; EngineError if the engine fails."""
        del maps
        # Of several drives, the camera has the drive's name before its own.
        view = self._views.get(frame.camera.rpartition('/')[2], UPRIGHT)
        segmenter = self._idle.get()
        try:
            result = segmenter.segment(image.pixels, image.color_order, view, want_confidence=True)
        finally:
            self._idle.put(segmenter)
        return Prediction(result.label_map, result.confidence_u8, result.timings)

    def identity(self) -> dict[str, Any]:
        """Return what the labels depend on."""
        views = {
            name: [view.rotation_deg, None if view.ego_mask is None else _digest(view.ego_mask)]
            for name, view in self._views.items()
        }
        engine = asdict(self._segmenter.engine.info)
        del engine['num_streams']  # the labels are the same
        return {
            'files': self._segmenter.bundle.manifest.files,
            'engine': engine,
            'head': self._segmenter.head,
            'options': asdict(self._segmenter.options),
            'views': views,
        }

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the model."""
        bundle = self._segmenter.bundle
        size = bundle.manifest.input.size
        return {
            'model': bundle.identity,
            'engine': str(self._segmenter.engine.info),
            'options': {**asdict(self._segmenter.options), 'input_size': f'{size[0]}x{size[1]}'},
        }

    def close(self) -> None:
        """Free the engine."""
        self._segmenter.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # An engine stays where it is: another process opens the same one anew.
        segmenter, info = self._segmenter, self._segmenter.engine.info
        chosen = info.name, info.precision, segmenter.head
        options = segmenter.options, self._views, self.num_streams
        return _open_again, (segmenter.bundle.path, *chosen, *options)


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(f'{values.shape}'.encode() + values.tobytes()).hexdigest()


def _open_again(
    path: Path,
    engine: str,
    precision: str,
    head: Head,
    options: SegmenterOptions,
    views: Mapping[str, CameraView],
    most_streams: int,
) -> SegmenterPredictor:
    bundle = Bundle.load(path)
    # A scheduler tells a process by this variable how many cores it has.
    num_threads = int(os.environ.get('OMP_NUM_THREADS', '0'))
    opened = create_engine(
        bundle,
        engine,
        precision,
        num_threads,
        num_streams=min(most_streams, streams_for_throughput(num_threads)),
        for_throughput=True,
    )
    return SegmenterPredictor(Segmenter(bundle, opened, options, head), views)


class RecordedPredictor:
    """Labels that came with the frames, such as those of a live node.

    Args:
        taxonomy: What their ids mean.
        cost_table: See Predictor.
        description: Whose labels they are, plain data.
    """

    num_streams = 1

    def __init__(
        self, taxonomy: Taxonomy, cost_table: np.ndarray, description: Mapping[str, Any]
    ) -> None:
        self.taxonomy, self.cost_table = taxonomy, cost_table
        self._description = dict(description)

    def predict(
        self, frame: Frame, image: CameraImage, maps: Mapping[str, np.ndarray]
    ) -> Prediction | None:
        """Return the recorded labels, see Predictor."""
        del frame, image
        label_map = maps.get(LABEL_MAP)
        return None if label_map is None else Prediction(label_map, maps.get(CONFIDENCE))

    def identity(self) -> dict[str, Any]:
        """Return what the labels, and what is counted of them, depend on."""
        classes, costs = self.taxonomy.sha256(), _digest(self.cost_table)
        return {**self._description, 'taxonomy': classes, 'costs': costs}

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the model."""
        return self._description

    def close(self) -> None:
        """Do nothing: there is no engine."""
