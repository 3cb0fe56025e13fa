"""Everything that exists while the node is configured: segmenter, inputs, worker, outputs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from rclpy.node import Node

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
            self._processor = FrameProcessor(node, self.segmenter, views, self.outputs, params)
            self._worker = Worker(self._processor.process)
            self.streams = {
                name: CameraStream(node, name, params, CameraStatistics(), self._worker.notify)
                for name in params.cameras
            }
            self.is_active = False
            self.labels.publish(self.segmenter)
            self._owned = owned.pop_all()

    def activate(self) -> None:
        """Start the worker, then subscribe."""
        self.reset_statistics()
        self._worker.start(tuple(self.streams.values()))
        for stream in self.streams.values():
            stream.start()
        self.is_active = True

    def deactivate(self) -> None:
        """Unsubscribe and join the worker; afterwards nothing is published. May be repeated."""
        self.is_active = False
        for stream in self.streams.values():
            stream.stop()
        self._worker.stop()

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
        self.segmenter.options = segmenter_options(params, self._costs)
        self._processor.apply(params)
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
