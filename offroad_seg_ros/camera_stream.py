"""One camera's input: the newest frame, the calibration, and a watch on the topic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import threading
import time

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from offroad_seg_ros.camera_statistics import CameraStatistics
from offroad_seg_ros.params import NodeParams
from offroad_seg_ros.throttle import Throttle
from offroad_seg_ros.transport import TopicState, input_events, input_qos, inspect_topic

# Discovery takes a moment; nobody is blamed before it is over.
DISCOVERY_S = 3.0
REPEAT_S = 30.0
_POLICIES = {
    'reliable': ReliabilityPolicy.RELIABLE,
    'best_effort': ReliabilityPolicy.BEST_EFFORT,
}


@dataclass(frozen=True)
class Frame:
    """A message and when it came, on the steady clock."""

    message: Image | CompressedImage
    received_s: float


class CameraStream:
    """Subscribes to one camera and keeps only the newest frame.

    Callbacks run on the executor's thread and do nothing but put the frame in its place; `take`
    is called from the worker's.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        params: NodeParams,
        statistics: CameraStatistics,
        on_frame: Callable[[], None],
    ) -> None:
        """Prepare the stream; `start` subscribes.

        Args:
            node: the node that subscribes.
            name: the camera's name.
            params: transport and input_reliability are read.
            statistics: gets every event.
            on_frame: called after a frame was put in its place.
        """
        self.name = name
        self.statistics = statistics
        self._node = node
        self._reliability = params.input_reliability
        self._type = CompressedImage if params.transport == 'compressed' else Image
        suffix = 'image/compressed' if params.transport == 'compressed' else 'image'
        self._relative_topic = f'{name}/{suffix}'
        self.topic = node.resolve_topic_name(self._relative_topic)
        self._on_frame = on_frame
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._waiting_since_s = 0.0
        self._info: CameraInfo | None = None
        self._image_subscription: Subscription | None = None
        self._info_subscription: Subscription | None = None
        self._policy = _POLICIES.get(self._reliability, ReliabilityPolicy.BEST_EFFORT)
        self._started_s = time.monotonic()
        self._throttle = Throttle(REPEAT_S)
        self.topic_problem = ''
        self.num_publishers = 0

    @property
    def reliability(self) -> str:
        """What the subscription asks for now."""
        return 'reliable' if self._policy == ReliabilityPolicy.RELIABLE else 'best_effort'

    @property
    def camera_info(self) -> CameraInfo | None:
        """The newest calibration, if any came."""
        return self._info

    def start(self) -> None:
        """Subscribe."""
        self._started_s = time.monotonic()
        self.watch()
        self._subscribe()
        # Best effort fits every publisher, and calibrations are small and repeat.
        policy = _POLICIES.get(self._reliability, ReliabilityPolicy.BEST_EFFORT)
        self._info_subscription = self._node.create_subscription(
            CameraInfo, f'{self.name}/camera_info', self._keep_info, input_qos(policy)
        )

    def stop(self) -> None:
        """Unsubscribe, forget frame and calibration; no callback runs afterwards."""
        self._unsubscribe()
        if self._info_subscription is not None:
            self._node.destroy_subscription(self._info_subscription)
            self._info_subscription = None
        self._info = None  # the camera may be another when the node works again
        with self._lock:
            dropped, self._frame = self._frame, None
        if dropped is not None:
            self.statistics.finish('dropped_busy')

    def watch(self) -> TopicState:
        """Look at the topic's publishers: ask for what they offer, and tell what is wrong."""
        message_type = f'sensor_msgs/msg/{self._type.__name__}'
        state = inspect_topic(self._node, self.topic, message_type)
        self.num_publishers = state.num_publishers
        wanted = _POLICIES.get(self._reliability, state.reliability)
        if state.num_publishers and wanted != self._policy:
            self._policy = wanted
            if self._image_subscription is not None:
                self._unsubscribe()
                self._subscribe()
        is_settled = time.monotonic() - self._started_s > DISCOVERY_S
        self.topic_problem = state.problem if is_settled else ''
        if self.topic_problem and self._throttle.allows(self.topic_problem):
            self._node.get_logger().warning(f'camera {self.name}: {self.topic_problem}')
        return state

    def waiting_since_s(self) -> float | None:
        """Return since when a frame of this camera waits for its turn; None: none does."""
        with self._lock:
            return None if self._frame is None else self._waiting_since_s

    def take(self) -> Frame | None:
        """Return the newest frame and forget it."""
        with self._lock:
            frame, self._frame = self._frame, None
            return frame

    def _subscribe(self) -> None:
        qos = input_qos(self._policy)
        self._image_subscription = self._node.create_subscription(
            self._type,
            self._relative_topic,
            self._keep_newest,
            qos,
            event_callbacks=input_events(self._node, self.topic, self.statistics.lose),
        )

    def _unsubscribe(self) -> None:
        if self._image_subscription is not None:
            self._node.destroy_subscription(self._image_subscription)
            self._image_subscription = None

    def _keep_newest(self, message: Image | CompressedImage) -> None:
        frame = Frame(message, time.monotonic())
        self.statistics.receive()
        with self._lock:
            replaced, self._frame = self._frame, frame
            if replaced is None:
                # A camera that often replaces its frame must not lose its place in the line.
                self._waiting_since_s = frame.received_s
        if replaced is not None:
            self.statistics.finish('dropped_busy')
        self._on_frame()

    def _keep_info(self, message: CameraInfo) -> None:
        self._info = message
