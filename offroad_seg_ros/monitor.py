"""Once a second: statuses to /diagnostics, and what changed for the worse to the log."""

from __future__ import annotations

from importlib import import_module

from rclpy.lifecycle import LifecycleNode

from offroad_seg_ros.camera_statistics import Counters
from offroad_seg_ros.camera_stream import CameraStream
from offroad_seg_ros.diagnostics import (
    CameraState,
    Level,
    Status,
    camera_status,
    engine_status,
)
from offroad_seg_ros.pipeline import Pipeline
from offroad_seg_ros.transport import missing_profile

MIN_STALE_FRAMES = 5
"""So many frames in a row say that the clocks differ, and not that one frame was late."""


class Monitor:
    """Reports on a pipeline; keeps what the last report said to tell what is new."""

    def __init__(self, node: LifecycleNode) -> None:
        self.failure = ''
        """Which transition failed, and why, since the node was configured."""
        self.activity = ''
        """What the node is busy with while it has no pipeline."""
        self._node = node
        self._counters: dict[str, Counters] = {}
        self._stale_runs: dict[str, int] = {}
        self._levels: dict[str, Level] = {}
        self._told: set[str] = set()
        self._messages = None
        self._publisher = None
        try:
            self._messages = import_module('diagnostic_msgs.msg')
        except ImportError as error:
            node.get_logger().warning(
                f'/diagnostics is off ({error}); fix: install ros-<distro>-diagnostic-msgs'
            )
        else:
            self._publisher = node.create_publisher(
                self._messages.DiagnosticArray, '/diagnostics', 10
            )

    def describe(self, pipeline: Pipeline) -> None:
        """Say once, when configured, what runs where."""
        segmenter, params = pipeline.segmenter, pipeline.params
        self._counters.clear()
        self._stale_runs.clear()
        self._levels.clear()
        self._told.clear()
        self._node.get_logger().info(
            f'bundle {segmenter.bundle.identity} on {segmenter.engine.info}, cameras '
            f'{", ".join(params.cameras)}'
        )

    def report(self, pipeline: Pipeline | None) -> None:
        """Publish all statuses; log levels that changed."""
        state = self._node._state_machine.current_state[1]
        if pipeline is None:
            level, text = (Level.ERROR, self.failure) if self.failure else (Level.OK, state)
            if self.activity:
                level, text = Level.WARN, self.activity
            self._publish([Status('engine', level, text, {'state': state})])
            return
        off = '' if pipeline.labels.has_info else 'segmentation/label_info (no vision_msgs)'
        statuses = [engine_status(pipeline.segmenter, pipeline.params, state, off)]
        for name, stream in pipeline.streams.items():
            camera_state = self._camera_state(pipeline, name, stream)
            status = camera_status(camera_state, pipeline.params)
            statuses.append(status)
            self._log_change(status, stream.topic_problem)
            self._advise(camera_state, pipeline)
            self._counters[name] = camera_state.snapshot.counters
        self._publish(statuses)

    def _camera_state(self, pipeline: Pipeline, name: str, stream: CameraStream) -> CameraState:
        outputs = pipeline.outputs[name]
        return CameraState(
            name=name,
            snapshot=stream.statistics.snapshot(),
            previous=self._counters.get(name, Counters()),
            is_active=pipeline.is_active,
            wants_images=outputs.wants_images,
            wants_info=outputs.wants_info,
            topic=stream.topic,
            topic_problem=stream.topic_problem,
            num_publishers=stream.num_publishers,
            reliability=stream.reliability,
        )

    def _log_change(self, status: Status, told: str) -> None:
        before = self._levels.get(status.name, Level.OK)
        self._levels[status.name] = status.level
        text = f'camera {status.name}: {status.message}'
        if status.level == before or status.message == told:  # the stream has just said it
            return
        if status.level == Level.ERROR:
            self._node.get_logger().error(text)
        elif status.level == Level.WARN:
            self._node.get_logger().warning(text)
        else:
            self._node.get_logger().info(f'camera {status.name}: recovered: {status.message}')

    def _advise(self, state: CameraState, pipeline: Pipeline) -> None:
        """Give each piece of advice once."""
        counters, params = state.snapshot.counters, pipeline.params
        new, name = counters.since(state.previous), state.name
        run = 0 if new.processed else self._stale_runs.get(name, 0) + new.dropped_stale
        self._stale_runs[name] = run
        is_late = params.age_source == 'stamp' and run >= MIN_STALE_FRAMES
        if is_late and self._is_new(f'{name} stamp'):
            self._node.get_logger().warning(
                f'camera {state.name}: all frames are older than max_age_ms='
                f'{params.max_age_ms:g} by their stamps; fix: synchronise the clocks, set '
                'use_sim_time for a replayed bag, or set age_source to receipt'
            )
        if counters.lost_in_transport and missing_profile() and self._is_new('profile'):
            self._node.get_logger().warning(
                f'camera {state.name}: frames get lost before they arrive, and no Fast DDS '
                'profile is set; fix: set FASTRTPS_DEFAULT_PROFILES_FILE (Kilted and later: '
                'FASTDDS_DEFAULT_PROFILES_FILE) to config/fastdds_shm.xml of offroad_seg_ros in '
                'the environment of the camera driver and of this node'
            )

    def _is_new(self, advice: str) -> bool:
        is_new = advice not in self._told
        self._told.add(advice)
        return is_new

    def _publish(self, statuses: list[Status]) -> None:
        if self._publisher is None:
            return
        array = self._messages.DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        for status in statuses:
            entry = self._messages.DiagnosticStatus(
                level=bytes([status.level]),
                name=f'{self._node.get_name()}: {status.name}',
                message=status.message,
                hardware_id=status.name,
            )
            entry.values = [
                self._messages.KeyValue(key=key, value=value)
                for key, value in status.values.items()
            ]
            array.status.append(entry)
        self._publisher.publish(array)
