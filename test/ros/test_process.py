"""The node as its own process: outputs over shared memory, and a clean end."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from offroad_seg_core.visualization import overlay
from offroad_seg_ros.camera_stream import Frame
from offroad_seg_ros.frame_processing import FrameProcessor
from offroad_seg_ros.params import NodeParams


def _production_environment():
    # Checked messages keep the array that is assigned to `data`, unchecked ones copy it: what
    # robots run is unchecked.
    environment = os.environ | {'PYTHONUNBUFFERED': '1'}
    environment.pop('ROS_PYTHON_CHECK_FIELDS', None)
    return environment


class _Process:
    def __init__(self, namespace, *parameters):
        arguments = [part for parameter in parameters for part in ('-p', parameter)]
        self.process = subprocess.Popen(
            [
                *(sys.executable, '-m', 'offroad_seg_ros.segmentation_node', '--ros-args'),
                *('-r', f'__ns:={namespace}', *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_production_environment(),
        )
        self.output = ''
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.output += line

    def wait_for(self, text, timeout_s=20.0):
        end = time.monotonic() + timeout_s
        while text not in self.output:
            assert time.monotonic() < end, f'{text!r} is not in:\n{self.output}'
            assert self.process.poll() is None, self.output
            time.sleep(0.01)

    def end(self, *signals):
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.02)
        code = self.process.wait(15.0)
        self._reader.join(5.0)
        assert 'Traceback' not in self.output, self.output
        return code


@pytest.fixture
def run_node(namespace, palette_bundle):
    running = []

    def run(*parameters):
        defaults = f'bundle:={palette_bundle}', 'engine:=onnxruntime', 'cameras:=["windshield"]'
        running.append(_Process(namespace, *defaults, *parameters))
        return running[-1]

    yield run
    for process in running:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


@pytest.mark.parametrize(
    'signals',
    [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)],
    ids=['int', 'term', 'int_twice'],
)
def test_a_working_process_ends_well(run_node, remote_probe, halves, frame, pixels_of, signals):
    process = run_node()
    remote_probe.listen('mask', 'overlay')
    reply = remote_probe.send(remote_probe.driver(), frame(halves(2, 7), sec=12))
    assert (pixels_of(reply)[:, :96] == 2).all()
    assert reply.header.stamp.sec == 12
    assert process.end(*signals) == 0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['int', 'term'])
def test_ended_under_a_flood_of_frames(run_node, remote_probe, halves, frame, number):
    # The context ends while the worker asks it who subscribes; small frames make it ask often.
    process = run_node()
    remote_probe.listen('camera_info')
    driver = remote_probe.driver()
    message = frame(halves(2, 7, (8, 8)))
    flooding = threading.Event()
    flooding.set()

    def flood():
        while flooding.is_set():
            driver.publish(message)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        time.sleep(0.5)
        assert process.end(number) == 0
    finally:
        flooding.clear()
        thread.join()


def test_the_worker_says_nothing_when_the_context_ends_under_it():
    class Ended:
        @property
        def wants_images(self):
            raise RuntimeError('publisher is invalid')

    node = SimpleNamespace(context=SimpleNamespace(ok=lambda: False))  # and no logger
    bundle = SimpleNamespace(taxonomy=SimpleNamespace(palette_bgr=None))
    segmenter = SimpleNamespace(bundle=bundle, options=SimpleNamespace(cost_overrides={}))
    processor = FrameProcessor(node, segmenter, {}, {'windshield': Ended()}, NodeParams())
    processor.process(SimpleNamespace(name='windshield'), Frame(None, 0.0))


def test_every_output_of_a_process_is_seen_by_another(
    run_node, remote_probe, halves, frame, pixels_of, taxonomy
):
    run_node()
    images = {'mask': 'mono8', 'confidence': 'mono8', 'traversability': 'mono8'}
    images |= {'overlay': 'bgr8', 'class_colors': 'bgr8'}
    remote_probe.listen(*images, 'overlay/compressed', 'camera_info')
    remote_probe.listen_labels()
    info = CameraInfo(width=192, height=128, k=[100.0, 0.0, 96.0, 0.0, 100.0, 64.0, 0.0, 0.0, 1.0])
    calibration = remote_probe.node.create_publisher(CameraInfo, 'windshield/camera_info', 1)
    driver = remote_probe.driver()
    remote_probe.wait(calibration.get_subscription_count, 'the node to want the calibration')
    calibration.publish(info)
    picture = halves(2, 9)
    for output in (*images, 'overlay/compressed', 'camera_info'):
        remote_probe.send(driver, frame(picture, sec=33, frame_id='front'), output)
        calibration.publish(info)
    remote_probe.wait(lambda: remote_probe.got['label_names'], 'the latched label names')
    for name, encoding in images.items():
        message = remote_probe.got[name][-1]
        assert message.encoding == encoding
        assert (message.height, message.width) == (128, 192)
        assert (message.header.stamp.sec, message.header.frame_id) == (33, 'front')
    mask = pixels_of(remote_probe.got['mask'][-1])
    assert (mask[:, :96] == 2).all()
    assert (mask[:, 96:] == 9).all()
    cost = pixels_of(remote_probe.got['traversability'][-1])
    np.testing.assert_array_equal(cost, taxonomy.cost_table()[mask])
    drawn = pixels_of(remote_probe.got['overlay'][-1])
    np.testing.assert_array_equal(drawn, overlay(picture, cost))
    colors = pixels_of(remote_probe.got['class_colors'][-1])
    np.testing.assert_array_equal(colors, taxonomy.palette_bgr[mask])
    assert list(remote_probe.got['camera_info'][-1].k) == list(info.k)
    names = json.loads(remote_probe.got['label_names'][-1].data)
    assert taxonomy.names[0] in json.dumps(names)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['int', 'term'])
def test_ended_while_it_configures(run_node, number, tmp_path):
    # A named pipe as the cost file holds configure until somebody writes.
    pipe = tmp_path / 'costs.yaml'
    os.mkfifo(pipe)
    process = run_node(f'cost_overrides_file:={pipe}')
    writer = os.open(pipe, os.O_WRONLY)  # returns when configure reads
    process.process.send_signal(number)
    time.sleep(0.2)
    os.close(writer)
    assert process.end() == 0


def test_a_failed_configure_leaves_the_process_alive(run_node):
    process = run_node('bundle:=/nowhere')
    process.wait_for('configure failed')
    time.sleep(0.2)
    assert process.process.poll() is None
    assert process.end(signal.SIGINT) == 0


@pytest.mark.parametrize(('is_told', 'code'), [(True, 0), (False, 1)])
def test_a_signal_that_looks_like_an_error_ends_well(is_told, code):
    """While a message is taken, rclpy turns Ctrl-C into a RuntimeError."""
    script = f"""
import os, signal, sys
from rclpy.executors import SingleThreadedExecutor
from offroad_seg_ros import segmentation_node

def spin(self):
    if {is_told}:
        os.kill(os.getpid(), signal.SIGTERM)
    raise RuntimeError('Unable to convert call argument')

SingleThreadedExecutor.spin = spin
sys.exit(segmentation_node.main(['--ros-args', '-p', 'autostart:=false']))
"""
    ended = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
    assert ('Unable to convert' in ended.stderr) is not is_told


def test_the_script_is_declared():
    setup = (Path(__file__).parents[2] / 'setup.py').read_text()
    assert 'segmentation_node = offroad_seg_ros.segmentation_node:main' in setup
