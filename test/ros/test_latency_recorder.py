"""How long labels take, by hand and over real DDS."""

from array import array
import csv
import json
import signal
import subprocess
import sys
import time

import pytest
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from offroad_seg_ros import bag_recorder, latency_recorder
from offroad_seg_ros.latency_recorder import CameraLatencies, LatencyRecorder, write_latencies
from offroad_seg_ros.spinning import spinning

START_S = 1_700_000_000
TIMEOUT_S = 100.0


def test_each_frame_has_the_time_to_its_labels():
    camera = CameraLatencies()
    for number in range(4):
        camera.add_frame(number, arrived_ns=1_000_000 * number)
    camera.add_labels(0, 10_000_000)
    camera.add_labels(3, 23_000_000)
    camera.add_labels(2, 22_000_000)
    camera.add_labels(2, 29_000_000)  # twice
    camera.add_labels(7, 29_000_000)  # its frame never came
    assert camera.latencies_ms == [10.0, None, 20.0, 20.0]
    camera.add_frame(0, 100_000_000)  # the bag starts again
    camera.add_labels(0, 140_000_000)
    assert camera.summary() == {
        'num_frames': 5,
        'num_labelled': 4,
        'num_strangers': 2,
        'p50_ms': 20.0,
        'p95_ms': 37.0,  # of 10, 20, 20, 40 ms: 85 % of the way from the third to the last
        'p99_ms': 39.4,
    }


def test_without_labels_there_is_no_latency(tmp_path):
    camera = CameraLatencies()
    camera.add_frame(5, 0)
    summary = write_latencies(tmp_path / 'new', {'left': camera})
    assert summary['left']['p99_ms'] is None
    said = json.loads((tmp_path / 'new' / 'latencies.json').read_text())
    assert said == {'cameras': summary}
    text = (tmp_path / 'new' / 'frames.csv').read_text()
    assert text == 'camera,stamp_ns,latency_ms\nleft,5,\n'


def wait(condition, what):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Robot:
    """A camera, and a node that labels its frames when it is told to."""

    def __init__(self, camera, kind):
        self.node, self.camera, self.labels = Node('robot'), camera, None
        suffix = '/compressed' if kind is CompressedImage else ''
        self.topic = f'/{camera}/image_raw{suffix}'
        self.kind, self.received = kind, []
        self.frames = self.node.create_publisher(kind, self.topic, 10)

    def configure(self):
        """As the real one: labels are offered when the model is there."""
        mask = f'/{self.camera}/segmentation/mask'
        self.labels = self.node.create_publisher(Image, mask, 10)
        self.node.create_subscription(self.kind, self.topic, self.received.append, 10)

    def send(self, number):
        message = self.kind()
        message.header.stamp.sec = START_S + number
        message.data = array('B', [1, 2, 3])
        self.frames.publish(message)

    def label(self, number):
        message = Image()
        message.header.stamp.sec = START_S + number
        self.labels.publish(message)


@pytest.fixture
def robot(request, namespace):
    made = Robot(f'camera{namespace.strip("/")}', request.param)
    with spinning(made.node):
        yield made
    made.node.destroy_node()


KINDS = pytest.mark.parametrize('robot', [Image, CompressedImage], indirect=True)


@KINDS
def test_frames_and_labels_are_matched_over_dds(robot):
    node = Node('watcher')
    recorder = LatencyRecorder(node, {robot.camera: robot.topic})
    with spinning(node):
        # Nobody labels yet: a player that waits for subscribers must not see one.
        time.sleep(0.3)
        assert robot.frames.get_subscription_count() == 0
        robot.configure()
        wait(lambda: robot.frames.get_subscription_count() == 2, 'both subscribe')
        wait(lambda: robot.labels.get_subscription_count() == 1, 'the labels too')
        entry = recorder.cameras[robot.camera]
        started = time.monotonic()
        for number in range(3):
            robot.send(number)
            wait(lambda n=number: len(entry.stamps_ns) > n, 'the frame')
        time.sleep(0.05)
        robot.label(1)
        wait(lambda: entry.latencies_ms[1] is not None, 'the labels')
        elapsed_ms = 1e3 * (time.monotonic() - started)
        assert not recorder.is_over
    assert entry.stamps_ns == [(START_S + number) * 10**9 for number in range(3)]
    assert (entry.latencies_ms[0], entry.latencies_ms[2]) == (None, None)
    assert 50.0 < entry.latencies_ms[1] < elapsed_ms
    assert entry.num_strangers == 0
    node.destroy_node()


def command(folder, *cameras):
    return subprocess.Popen(
        [
            *(sys.executable, '-m', 'offroad_seg_ros.latency_recorder'),
            *(str(folder), '--cameras', *cameras),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize('robot', [Image], indirect=True)
@pytest.mark.parametrize('end', ['interrupted', 'the frames end'])
def test_the_command_writes_its_files_in_the_end(robot, end, tmp_path):
    robot.configure()
    process = command(tmp_path / 'latencies', f'{robot.camera}={robot.topic}')
    wait(lambda: robot.frames.get_subscription_count() == 2, 'the recorder')
    wait(lambda: robot.labels.get_subscription_count() == 1, 'the recorder of labels')
    for number in range(4):
        robot.send(number)
        wait(lambda n=number: len(robot.received) > n, 'the frame')
        time.sleep(0.1)  # two topics have no order between them
        if number:
            robot.label(number)
    time.sleep(0.5)
    if end == 'interrupted':
        process.send_signal(signal.SIGINT)
    else:
        robot.node.destroy_publisher(robot.frames)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    assert 'Traceback' not in output
    with open(tmp_path / 'latencies' / 'frames.csv', newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert [row['stamp_ns'] for row in rows] == [str((START_S + n) * 10**9) for n in range(4)]
    assert rows[0]['latency_ms'] == ''
    said = json.loads((tmp_path / 'latencies' / 'latencies.json').read_text())
    figures = said['cameras'][robot.camera]
    assert (figures['num_frames'], figures['num_labelled']) == (4, 3)
    known = sorted(float(row['latency_ms']) for row in rows[1:])
    assert figures['p50_ms'] == pytest.approx(known[1], abs=0.002)
    assert f'{robot.camera}: 3 of 4 frames labelled, p50 {figures["p50_ms"]} ms' in output


def test_bad_input_is_said(tmp_path):
    process = command(tmp_path, 'left')
    assert process.wait(TIMEOUT_S) == 2
    assert "got 'left', expected NAME=TOPIC" in process.stdout.read()
    (tmp_path / 'file').touch()
    process = command(tmp_path / 'file', 'left=/left/image_raw')
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert 'fix: give a folder that can be written' in output


@pytest.mark.parametrize('main', [bag_recorder.main, latency_recorder.main])
def test_recordings_are_written_to_this_machine(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['recorder', 's3://bucket/x', '--cameras', 'left=/left/image_raw'])
    assert ended.value.code == 2
    assert 'got a URL, s3://, expected a path; fix: write to a folder' in capsys.readouterr().err
