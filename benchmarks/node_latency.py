"""The whole node over real DDS: 1920x1200 bgr8 frames from another process.

    python benchmarks/node_latency.py [--quick] [--json PATH]

Rows: publisher with the shipped Fast DDS profile, and a stock reliable publisher (not with
--quick), at 15 and 30 Hz; mask and overlay are subscribed by this process. `node_ms` is receipt to
last publish and `engine_ms` the engine alone, both medians that the node itself reports on
/diagnostics; `wait_ms` is the part of it before the worker takes the frame, which grows when
frames come faster than they can be served; `transport_ms` is camera to node plus node to here.
`received` is the share of the sent frames, `delivered` of the processed ones. The ratios are
those of our profile; `node_minus_engine_ms` is measured at 15 Hz, where every frame finds the
node idle.

Flood: 30 Hz into an engine that takes 100 ms (the real engine, padded by sleep). The age of a
label is the time from the frame's stamp to the mask's reception here.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import psutil
from report import ROOT, arguments, finish

from offroad_seg_core.memory import malloc_variables

SIZE = (1200, 1920)
FLOOD_ENGINE_MS = 100.0
PARTS = ('convert', 'preprocess', 'engine', 'decode', 'publish')
PROFILE = ROOT / 'config' / 'fastdds_shm.xml'
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def environment(with_profile: bool) -> dict[str, str]:
    """Return a process environment in the benchmark's own domain."""
    variables = {key: value for key, value in os.environ.items() if key not in PROFILE_VARIABLES}
    variables['ROS_DOMAIN_ID'] = os.environ.get('ROS_DOMAIN_ID', str(20 + os.getpid() % 70))
    variables['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    variables['PYTHONPATH'] = str(ROOT)
    if with_profile:
        variables.update(malloc_variables({}), **dict.fromkeys(PROFILE_VARIABLES, str(PROFILE)))
    return variables


def publish(rate_hz: float, duration_s: float) -> None:
    """Be the camera driver: publish frames with the time of their making as stamp."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node('benchmark_camera')
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    publisher = node.create_publisher(Image, 'windshield/image', qos)
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    message = Image(height=SIZE[0], width=SIZE[1], encoding='bgr8', step=3 * SIZE[1])
    message.header.frame_id = 'windshield_camera'
    message.data.frombytes(memoryview(pixels).cast('B'))
    deadline = time.monotonic() + 30
    while publisher.get_subscription_count() < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # the node may still change the reliability of its subscription
    next_s = time.monotonic()
    end_s = next_s + duration_s
    sent = 0
    while next_s < end_s:
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        sent += 1
        next_s += 1.0 / rate_hz
        time.sleep(max(0.0, next_s - time.monotonic()))
    print(sent, flush=True)
    rclpy.shutdown()


def slow_node() -> None:
    """Run the node with an engine padded to FLOOD_ENGINE_MS."""
    from offroad_seg_core.inference import engines
    from offroad_seg_ros.segmentation_node import main

    original = engines.ENGINES['onnxruntime']

    def padded(*wanted: Any) -> Any:
        engine = original(*wanted)

        def slowed(run: Any) -> Any:
            def slow_run(*inputs: Any) -> Any:
                started = time.perf_counter()
                output = run(*inputs)
                time.sleep(max(0.0, FLOOD_ENGINE_MS / 1e3 - (time.perf_counter() - started)))
                return output

            return slow_run

        engine.run, engine.run_labels = slowed(engine.run), slowed(engine.run_labels)
        return engine

    engines.ENGINES['onnxruntime'] = padded
    main()


class Listener:
    """Subscribes to mask, overlay and diagnostics and keeps what arrives."""

    def __init__(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        import rclpy
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image

        self._rclpy = rclpy
        rclpy.init()
        self.node = rclpy.create_node('benchmark_listener')
        qos = QoSProfile(depth=10)  # what this process is late to read shall still count
        outputs = 'windshield/segmentation'
        self.ages_ms: dict[str, list[float]] = {'mask': [], 'overlay': []}
        for name, ages_ms in self.ages_ms.items():
            self.node.create_subscription(
                Image, f'{outputs}/{name}', lambda m, a=ages_ms: a.append(self._age_ms(m)), qos
            )
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_status, 10)
        self.values: dict[str, str] = {}

    def _age_ms(self, message: Any) -> float:
        now = self.node.get_clock().now().nanoseconds
        stamp = message.header.stamp
        return (now - stamp.sec * 10**9 - stamp.nanosec) / 1e6

    def _on_status(self, message: Any) -> None:
        for status in message.status:
            if 'windshield' in status.name:
                self.values = {pair.key: pair.value for pair in status.values}

    def spin(self, until: Any) -> None:
        """Serve callbacks until a condition holds."""
        while not until():
            self._rclpy.spin_once(self.node, timeout_sec=0.05)

    def close(self) -> None:
        """Leave the graph."""
        self.node.destroy_node()
        self._rclpy.shutdown()


def start_node(slow: bool) -> subprocess.Popen:
    """Start the node, with the padded engine if `slow`."""
    script = [__file__, 'slow-node'] if slow else ['-m', 'offroad_seg_ros.segmentation_node']
    parameters = {
        'bundle': ROOT / 'models' / 'demo_desert',
        'cameras': '[windshield]',
        'engine': 'onnxruntime' if slow else 'auto',
    }
    given = [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]
    command = [sys.executable, *script, '--ros-args', '--log-level', 'error', *given]
    return subprocess.Popen(command, env=environment(True))


def start_camera(rate_hz: float, duration_s: float, with_profile: bool) -> subprocess.Popen:
    """Start the publishing process."""
    return subprocess.Popen(
        [sys.executable, __file__, 'publish', str(rate_hz), str(duration_s)],
        env=environment(with_profile), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def usage(process: psutil.Process) -> tuple[float, float, float]:
    """Return resident memory (bytes), CPU time (s) and the steady clock (s)."""
    times = process.cpu_times()
    return process.memory_info().rss, times.user + times.system, time.monotonic()


def drive(
    rate_hz: float, duration_s: float, publisher_profile: bool, slow: bool
) -> dict[str, Any]:
    """Run one configuration and return what was measured."""
    os.environ.update(environment(True))
    node = start_node(slow)
    listener = Listener()
    try:
        deadline = time.monotonic() + 60
        listener.spin(lambda: listener.values or time.monotonic() > deadline)
        camera = start_camera(rate_hz, duration_s, publisher_profile)
        settled = time.monotonic() + min(5.0, duration_s / 2) + 2
        listener.spin(lambda: time.monotonic() > settled)
        process = psutil.Process(node.pid)
        before = usage(process)
        listener.spin(lambda: camera.poll() is not None)
        after = usage(process)
        sent = int(camera.stdout.read() or 0)
        done = time.monotonic() + 1.5  # one more diagnostics message, with the last frames in it
        listener.spin(lambda: time.monotonic() > done)
    finally:
        node.send_signal(signal.SIGINT)
        node.wait(20)
        listener.close()
    name = 'our profile' if publisher_profile else 'stock, reliable'
    return {
        'publisher': f'{name}, {FLOOD_ENGINE_MS:.0f} ms engine' if slow else name,
        'rate_hz': rate_hz,
        **summary(listener, sent),
        'cpu': (after[1] - before[1]) / (after[2] - before[2]),
        'rss_mib': after[0] / 2**20,
        'rss_growth': after[0] / before[0] - 1,
    }


def summary(listener: Listener, sent: int) -> dict[str, Any]:
    """Return the figures of the frames."""
    values, ages_ms = listener.values, listener.ages_ms
    node_ms, processed = float(values['latency_p50_ms']), int(values['processed'])
    return {
        'engine_ms': float(values['engine_p50_ms']),
        'node_ms': node_ms,
        'wait_ms': node_ms - sum(float(values[f'{part}_p50_ms']) for part in PARTS),
        # The overlay is published last: what its age has beyond the node's time is both ways.
        'transport_ms': statistics.median(ages_ms['overlay']) - node_ms,
        'mask_age_p50_ms': statistics.median(ages_ms['mask']),
        'mask_age_p95_ms': float(np.percentile(ages_ms['mask'], 95)),
        'received': int(values['received']) / sent,
        'processed': processed,
        'delivered': len(ages_ms['mask']) / max(1, processed),
    }


def main() -> None:
    """Run every configuration in turn."""
    options = arguments(__doc__)
    duration_s = 5.0 if options.quick else 20.0
    cases = [(15.0, True), (30.0, True)]
    if not options.quick:
        cases += [(15.0, False), (30.0, False)]
    rows = [drive(rate_hz, duration_s, profile, False) for rate_hz, profile in cases]
    flood = drive(30.0, 8.0 if options.quick else 60.0, True, True)
    ours = rows[:2]
    rows.append(flood)
    ratios = {
        'node_minus_engine_ms': ours[0]['node_ms'] - ours[0]['engine_ms'],
        'delivered': min(row['delivered'] for row in [*ours, flood]),
        'flood_age_p95_over_engine': flood['mask_age_p95_ms'] / flood['engine_ms'],
        'rss_growth': flood['rss_growth'],
    }
    finish('node_latency', options, rows, ratios)


if __name__ == '__main__':
    if sys.argv[1:2] == ['publish']:
        publish(float(sys.argv[2]), float(sys.argv[3]))
    elif sys.argv[1:2] == ['slow-node']:
        sys.argv.pop(1)
        slow_node()
    else:
        main()
