"""A running node and a separate node that watches it, over real DDS in a domain of its own."""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
import itertools
import os
from pathlib import Path
import threading
import time
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
# Before anything of ROS is imported: Fast DDS reads its profile when the process joins.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'
for variable in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
    os.environ[variable] = str(ROOT / 'config' / 'fastdds_shm.xml')

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rcl_interfaces.msg import Log  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from offroad_seg_core.taxonomy import load_taxonomy  # noqa: E402
from offroad_seg_ros import segmentation_node  # noqa: E402

TIMEOUT_S = 15.0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ROSOUT = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
OUTPUT_TYPES = {
    'mask': Image,
    'confidence': Image,
    'traversability': Image,
    'overlay': Image,
    'overlay/compressed': CompressedImage,
    'class_colors': Image,
    'camera_info': CameraInfo,
}
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ros)


@pytest.fixture(scope='session', autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture(scope='session')
def remote_context(ros: None) -> Iterator[rclpy.Context]:
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def namespace() -> str:
    """Keeps a test apart from the one before, whose topics vanish with a delay."""
    return f'/test_{next(_numbers)}'


class Probe:
    """Another robot node: publishes frames, collects what comes back."""

    def __init__(self, namespace: str, context: rclpy.Context) -> None:
        self.node = rclpy.create_node('probe', namespace=namespace, context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.got: dict[str, list[Any]] = defaultdict(list)
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.log: list[str] = []
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self.node.create_subscription(Log, '/rosout', self._on_log, ROSOUT)
        self._node_under_test = f'{namespace[1:]}.segmentation_node'

    def _on_log(self, message: Log) -> None:
        if message.name == self._node_under_test:
            self.log.append(message.msg)

    def wait_said(self, text: str) -> str:
        """Wait until the node logs a text; return the whole message.

        Not from capfd: what is written while it is being read gets lost.
        """
        self.wait(lambda: any(text in line for line in self.log), f'{text!r} in the log')
        return next(line for line in self.log if text in line)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            values |= {'level': status.level[0], 'message': status.message}
            self.diagnostics[status.hardware_id] = values

    def listen(
        self, *outputs: str, camera: str = 'windshield', qos: QoSProfile = RELIABLE
    ) -> None:
        for output in outputs:
            key = output if camera == 'windshield' else f'{camera}/{output}'
            self.node.create_subscription(
                OUTPUT_TYPES[output],
                f'{camera}/segmentation/{output}',
                lambda message, key=key: self.got[key].append(message),
                qos,
            )

    def listen_labels(self) -> None:
        topic = 'segmentation/label_names'
        self.node.create_subscription(String, topic, self.got['label_names'].append, LATCHED)

    def driver(
        self, camera: str = 'windshield', message_type: type = Image, qos: QoSProfile = RELIABLE
    ) -> Any:
        """A camera driver's publisher, found by the node."""
        suffix = 'image/compressed' if message_type is CompressedImage else 'image'
        publisher = self.node.create_publisher(message_type, f'{camera}/{suffix}', qos)
        self.wait(lambda: publisher.get_subscription_count() > 0, 'the node to subscribe')
        return publisher

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.01)

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f'timed out waiting for {what}: {self.diagnostics}'
            self.executor.spin_once(timeout_sec=0.01)

    def send(self, publisher: Any, message: Any, output: str = 'mask') -> Any:
        """Publish one frame until its output comes back; return that.

        The output's topic may not be matched at the first attempt.
        """
        got = self.got[output]
        got.clear()
        end = time.monotonic() + TIMEOUT_S
        while not got:
            assert time.monotonic() < end, f'no {output}: {self.diagnostics}'
            publisher.publish(message)
            self.spin(0.03)
        self.spin(0.05)
        return got[-1]

    def wait_value(self, status: str, key: str, wanted: Callable[[Any], bool]) -> dict[str, str]:
        self.diagnostics.pop(status, None)
        self.wait(
            lambda: status in self.diagnostics and wanted(self.diagnostics[status][key]),
            f'{status}.{key}',
        )
        return self.diagnostics[status]

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def probe(namespace: str) -> Iterator[Probe]:
    """Shares the node's participant, which saves up to 3 s of discovery a test."""
    probe = Probe(namespace, rclpy.get_default_context())
    yield probe
    probe.close()


@pytest.fixture
def remote_probe(namespace: str, remote_context: rclpy.Context) -> Iterator[Probe]:
    """A probe that is a participant of its own, as another process is."""
    probe = Probe(namespace, remote_context)
    yield probe
    probe.close()


class RunningNode:
    """A node whose executor runs in a thread."""

    def __init__(self, namespace: str, parameters: dict[str, Any]) -> None:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = segmentation_node.SegmentationNode(
            namespace=namespace, parameter_overrides=overrides
        )
        self.is_active = self.node.autostart()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def set(self, name: str, value: Any) -> Any:
        """Set one parameter on the executor's thread; return the result."""
        return self.run(lambda: self.node.set_parameters([Parameter(name, value=value)])[0])

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function on the executor's thread, as a service call would."""
        task = self._executor.create_task(function)
        end = time.monotonic() + 60.0
        while not task.done():
            assert time.monotonic() < end, 'the executor is stuck'
            time.sleep(0.002)
        return task.result()

    def state(self) -> str:
        return self.node._state_machine.current_state[1]

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(10.0)
        assert not self._thread.is_alive()
        self.node.destroy_node()


@pytest.fixture
def start_node(namespace: str, palette_bundle: Path) -> Iterator[Callable[..., RunningNode]]:
    """Return a function that starts a node; keywords are parameters."""
    running: list[RunningNode] = []

    def start(**parameters: Any) -> RunningNode:
        defaults = {
            'bundle': str(palette_bundle),
            'engine': 'onnxruntime',
            'num_threads': 1,
            'cameras': ['windshield'],
        }
        node = RunningNode(namespace, defaults | parameters)
        running.append(node)
        return node

    yield start
    for node in running:
        node.close()


@pytest.fixture(scope='session')
def taxonomy() -> Any:
    return load_taxonomy('falcon10')


@pytest.fixture(scope='session')
def halves(taxonomy: Any) -> Callable[..., np.ndarray]:
    """Return a function that paints a BGR picture: left half one class, right half another."""

    def paint(left: int, right: int, size: tuple[int, int] = (128, 192)) -> np.ndarray:
        image = np.empty((*size, 3), np.uint8)
        image[:, : size[1] // 2] = taxonomy.palette_bgr[left]
        image[:, size[1] // 2 :] = taxonomy.palette_bgr[right]
        return image

    return paint


@pytest.fixture(scope='session')
def frame() -> Callable[..., Image]:
    """Return a function that makes an image message of a bgr8 picture."""

    def make(pixels: np.ndarray, sec: int = 7, frame_id: str = 'camera_link') -> Image:
        height, width = pixels.shape[:2]
        message = Image(height=height, width=width, encoding='bgr8', step=width * 3)
        message.data = array('B', pixels.tobytes())
        message.header.stamp.sec = sec
        message.header.frame_id = frame_id
        return message

    return make


@pytest.fixture(scope='session')
def pixels_of() -> Callable[[Image], np.ndarray]:
    """Return a function that gives an image message's pixels; its step must be tight."""

    def pixels(message: Image) -> np.ndarray:
        channels = {'mono8': 1, 'bgr8': 3}[message.encoding]
        assert message.step == message.width * channels
        flat = np.frombuffer(message.data, np.uint8)
        shape = (message.height, message.width, channels)[: 3 if channels > 1 else 2]
        return flat.reshape(shape)

    return pixels
