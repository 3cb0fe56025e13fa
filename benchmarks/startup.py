"""From the start of the node's process to its first label, with a cold and with a warm cache.

    python benchmarks/startup.py [--quick] [--json PATH]

Two cameras that are already there send 1920x1200 bgr8 at 20 Hz from this process, which also waits
for the first mask of any; bundle, engine and cameras are those of a stock start. Cold: an empty
cache folder, so that `engine: auto` measures and remembers its choice, also of streams. Warm: the
next start with the same folder. `cpu_s` is the processor time that the node had used by then, of
all its threads: it does not depend on what else the machine does.
"""

from __future__ import annotations

import os
from pathlib import Path
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from node_latency import SIZE, environment
import numpy as np
import psutil
from report import ROOT, arguments, finish

CAMERAS = 'windshield', 'left'
PERIOD_S = 0.05
TIMEOUT_S = 120.0


class Robot:
    """The cameras, and who listens to their labels."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image

        self._rclpy = rclpy
        rclpy.init()
        self._node = rclpy.create_node('benchmark_robot')
        qos = QoSProfile(depth=1)
        self._publishers = []
        for camera in CAMERAS:
            self._publishers.append(self._node.create_publisher(Image, f'{camera}/image', qos))
            mask = f'{camera}/segmentation/mask'
            self._node.create_subscription(Image, mask, self._on_mask, qos)
        pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
        self._message = Image(height=SIZE[0], width=SIZE[1], encoding='bgr8', step=3 * SIZE[1])
        self._message.data.frombytes(memoryview(pixels).cast('B'))
        self._node.create_timer(PERIOD_S, self._publish)
        self._first_s: float | None = None

    def _publish(self) -> None:
        self._message.header.stamp = self._node.get_clock().now().to_msg()
        for publisher in self._publishers:
            publisher.publish(self._message)

    def _on_mask(self, _: Any) -> None:
        if self._first_s is None:
            self._first_s = time.monotonic()

    def wait(self, node: subprocess.Popen) -> float:
        """Drive until the first mask comes; return when that was (steady clock, s)."""
        self._first_s = None
        end_s = time.monotonic() + TIMEOUT_S
        while self._first_s is None:
            if node.poll() is not None or time.monotonic() > end_s:
                raise SystemExit(f'got no mask within {TIMEOUT_S:.0f} s, expected one')
            self._rclpy.spin_once(self._node, timeout_sec=PERIOD_S)
        return self._first_s

    def rest(self, duration_s: float) -> None:
        """Drive on, so that the topics of a node that ended vanish."""
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self._rclpy.spin_once(self._node, timeout_sec=PERIOD_S)

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        self._rclpy.shutdown()


def first_label(robot: Robot, cache: Path) -> tuple[float, float]:
    """Start the node once; return seconds and processor seconds until its first label came."""
    given = {'bundle': ROOT / 'models' / 'demo_desert', 'cameras': f'[{", ".join(CAMERAS)}]'}
    given['engine_cache'] = cache
    parameters = [word for key, value in given.items() for word in ('-p', f'{key}:={value}')]
    module = [sys.executable, '-m', 'offroad_seg_ros.segmentation_node']
    command = [*module, '--ros-args', '--log-level', 'error', *parameters]
    started_s = time.monotonic()
    node = subprocess.Popen(command, env=environment(True), cwd=ROOT)
    try:
        duration_s = robot.wait(node) - started_s
        used = psutil.Process(node.pid).cpu_times()
        return duration_s, used.user + used.system
    finally:
        node.send_signal(signal.SIGINT)
        node.wait(60)
        robot.rest(0.5)


def main() -> None:
    """Start the node again and again, with an empty cache folder every other time."""
    options = arguments(__doc__)
    os.environ.update(environment(True))
    robot = Robot()
    measured: dict[str, list[tuple[float, float]]] = {'cold': [], 'warm': []}
    for _ in range(1 if options.quick else 7):
        with tempfile.TemporaryDirectory() as folder:
            for values in measured.values():
                values.append(first_label(robot, Path(folder)))
    robot.close()
    rows = []
    for cache, values in measured.items():
        seconds, cpu = (statistics.median(column) for column in zip(*values, strict=True))
        rows.append(
            {'cache': cache, 'starts': len(values), 'first_label_s': seconds, 'cpu_s': cpu}
        )
    ratios = {f'{row["cache"]}_first_label_s': row['first_label_s'] for row in rows}
    finish('startup', options, rows, ratios)


if __name__ == '__main__':
    main()
