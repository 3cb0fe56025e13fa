"""The node as its own process: outputs over shared memory, and a clean end."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import pytest


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
            env=os.environ | {'PYTHONUNBUFFERED': '1'},
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


def test_the_script_is_declared():
    setup = (Path(__file__).parents[2] / 'setup.py').read_text()
    assert 'segmentation_node = offroad_seg_ros.segmentation_node:main' in setup
