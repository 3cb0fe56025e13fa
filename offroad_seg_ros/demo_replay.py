"""Play a bag through the running node, record what it says, and measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions

from offroad_seg_core.bags.definitions import header_stamp_ns
from offroad_seg_core.bags.reading import open_bag
from offroad_seg_ros.bag_recorder import BagRecorder
from offroad_seg_ros.demo_inputs import DemoInput
from offroad_seg_ros.demo_process import DemoError, NodeProcess
from offroad_seg_ros.playback import BagPlayer, PlayerOptions
from offroad_seg_ros.spinning import spinning

RECORDED_OUTPUTS = ('mask', 'confidence', 'overlay', 'traversability')
LABEL_NAMES = '/segmentation/label_names'
DIAGNOSTICS = '/diagnostics'
_SUBSCRIBE_TIMEOUT_S = 15.0
_LAST_FRAMES_TIMEOUT_S = 10.0
_DELIVERY_S = 0.2
"""What was sent has arrived after so long, on one host."""


def output_topic(camera: str, output: str) -> str:
    """Return the topic of one of the node's outputs."""
    return f'/{camera}/segmentation/{output}'


@dataclass
class CameraTimes:
    """When frames of one camera were sent, and when their masks arrived; steady clock, ns."""

    num_sent: int = 0
    num_received: int = 0
    sent_ns: dict[int, int] = field(default_factory=dict)
    """Stamp → time before the frame was handed to the middleware."""
    received_ns: dict[int, int] = field(default_factory=dict)
    """Stamp → time when the mask had arrived."""

    def latencies_ms(self) -> np.ndarray:
        """Return the times from sending a frame to receiving its mask, (N,) float64."""
        pairs = [(self.sent_ns.get(stamp), at) for stamp, at in self.received_ns.items()]
        return np.array([(at - sent) / 1e6 for sent, at in pairs if sent is not None])

    @property
    def fps(self) -> float:
        """Masks per second between the first and the last."""
        times = sorted(self.received_ns.values())
        return (len(times) - 1) / (times[-1] - times[0]) * 1e9 if len(times) > 1 else 0.0


class Replay:
    """One replay: the player, the recorder and what they saw. Make one with open_replay."""

    def __init__(
        self, player_node: Node, recorder_node: Node, demo_input: DemoInput, outputs: Path
    ) -> None:
        self.cameras = {camera.name: CameraTimes() for camera in demo_input.cameras}
        self.diagnostics: dict[str, dict[str, str]] = {}
        """What the node last said about `engine` and each camera."""
        self._input, self._player_node = demo_input, player_node
        self._camera_of = {camera.input_topic: camera.name for camera in demo_input.cameras}
        self._camera_of |= {output_topic(name, 'mask'): name for name in self.cameras}
        self._lock, self._reported_s = threading.Lock(), 0.0
        images = [output_topic(name, kind) for name in self.cameras for kind in RECORDED_OUTPUTS]
        topics = (*images, LABEL_NAMES, DIAGNOSTICS)
        self.recorder = BagRecorder(recorder_node, outputs, topics, self._on_message)
        self._expected_topics = {*images, LABEL_NAMES}

    def wait_for_node(self, process: NodeProcess) -> None:
        """Wait until the node has its model and all its outputs are being recorded.

        Raises:
            DemoError: the process ended, or could not configure.
        """
        while not self._expected_topics <= self.recorder.topics:
            process.check()
            message = self.engine.get('message', '')
            if 'configure failed' in message:
                raise DemoError(message)
            time.sleep(0.02)

    def play(
        self, process: NodeProcess, options: PlayerOptions, on_frame: Callable[[], object]
    ) -> None:
        """Play the cameras of the bag to the end.

        Args:
            process: checked to be alive.
            options: how to play; its topics are chosen here.
            on_frame: called after each frame that was sent.
        """

        def on_publish(topic: str, data: bytes, time_ns: int) -> None:
            if topic in self._camera_of:
                times = self.cameras[self._camera_of[topic]]
                times.num_sent += 1
                times.sent_ns[header_stamp_ns(data)] = time_ns
                process.check()
                on_frame()

        with open_bag(self._input.bag) as reader:
            held = {connection.topic for connection in reader.connections}
            images = [camera.input_topic for camera in self._input.cameras]
            infos = [camera.info_topic for camera in self._input.cameras]
            topics = tuple(topic for topic in (*images, *infos) if topic in held)
            chosen = replace(options, topics=topics)
            player = BagPlayer(self._player_node, reader, chosen, on_publish)
            for topic in player.wait_for_subscribers(images, _SUBSCRIBE_TIMEOUT_S):
                raise DemoError(f'the node does not subscribe to {topic}\n{process.tail()}')
            player.play()

    def wait_for_last_frames(self) -> None:
        """Wait until the node reports that no frame waits or is in work any more."""
        ended_s = time.monotonic()
        while time.monotonic() < ended_s + _LAST_FRAMES_TIMEOUT_S:
            with self._lock:
                is_fresh = self._reported_s > ended_s + _DELIVERY_S
                waiting = [self.diagnostics.get(name, {}).get('waiting') for name in self.cameras]
            if is_fresh and set(waiting) == {'0'}:
                break
            time.sleep(0.02)
        time.sleep(_DELIVERY_S)

    @property
    def engine(self) -> dict[str, str]:
        """What the node last said about its engine."""
        with self._lock:
            return dict(self.diagnostics.get('engine', {}))

    def _on_message(self, topic: str, data: bytes, time_ns: int) -> None:
        if topic in self._camera_of:
            times = self.cameras[self._camera_of[topic]]
            times.num_received += 1
            times.received_ns[header_stamp_ns(data)] = time_ns
        elif topic == DIAGNOSTICS:
            statuses = deserialize_message(data, DiagnosticArray).status
            with self._lock:
                self._reported_s = time_ns / 1e9
                for status in statuses:
                    values = {pair.key: pair.value for pair in status.values}
                    self.diagnostics[status.hardware_id] = {**values, 'message': status.message}


@contextmanager
def open_replay(demo_input: DemoInput, outputs: Path) -> Iterator[Replay]:
    """Join the ROS graph and record into ``outputs``; the bag is complete when the block ends.

    Where the block raises, no bag is left.
    """
    # rclpy's own signal handlers would take the context away on Ctrl-C before the bag is closed.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        sim_time = Parameter('use_sim_time', value=True)
        player_node = Node('demo_player')
        recorder_node = Node('demo_recorder', parameter_overrides=[sim_time])
        replay = Replay(player_node, recorder_node, demo_input, outputs)
        try:
            with spinning(recorder_node):
                yield replay
        except BaseException:
            replay.recorder.discard()
            raise
        replay.recorder.close()
        recorder_node.destroy_node()
        player_node.destroy_node()
    finally:
        rclpy.try_shutdown()
