"""Everything that exists while the node is configured: segmenter, inputs, workers, outputs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle

from rclpy.node import Node

from offroad_seg_core.inference.engines.stopping import builds_stopped
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_ros.camera_statistics import CameraStatistics
from offroad_seg_ros.camera_stream import CameraStream
from offroad_seg_ros.frame_processing import FrameProcessor
from offroad_seg_ros.labels import LabelTopics
from offroad_seg_ros.model_loading import (
    camera_views,
    cost_overrides,
    segmenter_options,
)
from offroad_seg_ros.outputs import CameraOutputs
from offroad_seg_ros.params import NodeParams
from offroad_seg_ros.worker import Worker


class Pipeline:
    """Built by configure, freed by cleanup; in between it runs and rests."""

    def __init__(
        self, node: Node, params: NodeParams, open_segmenter: Callable[[NodeParams], Segmenter]
    ) -> None:
        """Load the model and make the topics.

        Args:
            node: whose topics they are.
            params: checked parameters.
            open_segmenter: gives the segmenter, which then belongs to the pipeline.

        Raises:
            ValueError: a parameter, the bundle, an ego mask or the cost file is wrong.
            EngineError: no engine can run the bundle.
        """
        self.params = params
        views = camera_views(params)
        self._costs = cost_overrides(params)
        with ExitStack() as owned:  # freed if a later step fails
            self.segmenter = open_segmenter(params)
            owned.callback(self.segmenter.close)
            self.labels = LabelTopics(node)
            owned.callback(self.labels.destroy)
            self.outputs: dict[str, CameraOutputs] = {}
            for name in params.cameras:
                self.outputs[name] = CameraOutputs(node, name)
                owned.callback(self.outputs[name].destroy)
            # One for each thread that may run the engine.
            twins = [
                self.segmenter.twin() for _ in range(self.segmenter.engine.info.num_streams - 1)
            ]
            self._segmenters = [self.segmenter, *twins]
            self._processors = [
                FrameProcessor(node, segmenter, views, self.outputs, params)
                for segmenter in self._segmenters
            ]
            self._workers = [Worker(processor.process) for processor in self._processors]
            # A camera stays with its worker: its frames never overtake each other.
            self.streams = {
                name: CameraStream(node, name, params, CameraStatistics(), worker.notify)
                for name, worker in zip(params.cameras, cycle(self._workers), strict=False)
            }
            self.is_active = False
            self.labels.publish(self.segmenter)
            self._owned = owned.pop_all()

    def activate(self) -> None:
        """Start the workers, then subscribe."""
        self.reset_statistics()
        streams = tuple(self.streams.values())
        for index, worker in enumerate(self._workers):
            worker.start(streams[index :: len(self._workers)])
        for stream in self.streams.values():
            stream.start()
        self.is_active = True

    def deactivate(self) -> None:
        """Unsubscribe and join the workers; afterwards nothing is published. May be repeated."""
        self.is_active = False
        for stream in self.streams.values():
            stream.stop()
        with builds_stopped():  # a frame may wait for one
            for worker in self._workers:
                worker.stop()

    def close(self) -> None:
        """Free the topics and the engine."""
        self.deactivate()
        self._owned.close()

    def check(self, params: NodeParams) -> None:
        """Raise ValueError unless `apply` can take these run-time parameters."""
        # One that never runs refuses what the running one would, and disturbs no frame.
        options = segmenter_options(params, self._costs)
        Segmenter(self.segmenter.bundle, self.segmenter.engine, options, head='logits')

    def apply(self, params: NodeParams) -> None:
        """Take run-time parameters that were checked, from the next frame on."""
        is_new_threshold = params.confidence_threshold != self.params.confidence_threshold
        self.params = params
        options = segmenter_options(params, self._costs)
        for segmenter, processor in zip(self._segmenters, self._processors, strict=True):
            segmenter.options = options
            processor.apply(params)
        if is_new_threshold:  # it is part of LabelInfo
            self.labels.publish(self.segmenter)

    def watch_topics(self) -> None:
        """Look at the inputs' publishers."""
        if self.is_active:
            for stream in self.streams.values():
                stream.watch()

    def reset_statistics(self) -> None:
        """Forget what was counted and timed."""
        for stream in self.streams.values():
            stream.statistics.reset()
