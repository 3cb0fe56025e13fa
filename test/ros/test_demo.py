"""The demo as a user starts it: its own processes, real DDS, a tiny model with known answers."""

import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import av
import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_ros import compare_labels, evaluate_bag
from offroad_seg_ros.demo_folder import write_summary
from offroad_seg_ros.demo_images import read_images
from offroad_seg_ros.demo_inputs import CameraBag, describe

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)
START_NS = 1_700_000_000_000_000_000
ROCKS, LANDSCAPE, SKY, IGNORE = 7, 8, 9, 255


@pytest.fixture(scope='module')
def taxonomy():
    return load_taxonomy('falcon10')


@pytest.fixture
def without_torch(tmp_path):
    """An environment in which importing torch or onnx fails, for all processes."""
    folder = tmp_path / 'blocked'
    folder.mkdir()
    for name in ('torch', 'onnx'):
        (folder / f'{name}.py').write_text(f'raise ImportError("{name} is blocked")')
    return {**os.environ, 'PYTHONPATH': str(folder)}


def _start(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, '-m', 'offroad_seg_ros.demo', *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run(environment, *arguments):
    process = _start(environment, *arguments)
    output, _ = process.communicate(timeout=100.0)
    return process.returncode, output


def _write_labelled_bag(path, taxonomy, num_frames=8):
    """Two cameras: landscape left, sky right; the truth has rocks bottom right.

    Where the two meet the truth is void: a block of the model covers both colours.
    """
    labels = np.full(SIZE, LANDSCAPE, np.uint8)
    labels[:, 48:] = SKY
    truth = labels.copy()
    truth[32:, 48:] = ROCKS
    truth[:, 40:56] = IGNORE
    with CameraBag(path) as bag:
        for index in range(num_frames):
            for camera in ('front', 'rear'):
                time_ns = START_NS + index * 100_000_000
                pixels = taxonomy.palette_bgr[labels]
                bag.write_picture(camera, f'/{camera}/image_raw', time_ns, pixels, 'bgr8')
                topic = f'/{camera}/ground_truth/label_map'
                bag.write_picture(camera, topic, time_ns, truth, 'mono8')
    return labels


def test_a_bag_becomes_labels_pictures_and_figures(
    tmp_path, taxonomy, palette_bundle, without_torch
):
    labels = _write_labelled_bag(tmp_path / 'mine', taxonomy)
    output = tmp_path / 'result'
    arguments = ('--bag', tmp_path / 'mine', '--bundle', palette_bundle, '--output', output)
    code, told = _run(without_torch, *arguments, '--engine', 'onnxruntime')
    assert code == 0, told
    assert 'Traceback' not in told

    summary = json.loads((output / 'summary.json').read_text())
    assert summary['engine']['engine'] == 'onnxruntime'
    for camera in ('front', 'rear'):
        figures = summary['cameras'][camera]
        assert figures['frames_in'] == 8
        assert figures['frames_out'] + figures['dropped'] == 8
        assert figures['frames_out'] >= 6
        assert 0 < figures['latency_p50_ms'] <= figures['latency_p95_ms']
        # Landscape is right; of what is called sky half is; rocks are missed: (1 + 0.5 + 0) / 3.
        assert figures['miou'] == figures['miou_present'] == 0.5
    assert summary['class_iou']['Sky'] == 0.5
    assert summary['class_iou']['Trees'] is None
    assert summary['total']['frames_in'] == 16

    masks = {f'/{camera}/segmentation/mask': camera for camera in ('front', 'rear')}
    recorded = list(read_images(output / 'outputs', masks))
    assert len(recorded) == summary['total']['frames_out']
    for _, stamp_ns, _, mask in recorded:
        assert stamp_ns in range(START_NS, START_NS + 10**9, 10**8)
        np.testing.assert_array_equal(mask[:, :40], labels[:, :40])
        np.testing.assert_array_equal(mask[:, 56:], labels[:, 56:])
    with open_bag(output / 'outputs') as reader:
        topics = {connection.topic for connection in reader.connections}
    wanted = [
        f'/{c}/segmentation/{o}' for c in ('front', 'rear') for o in ('overlay', 'traversability')
    ]
    assert {*wanted, '/segmentation/label_names', '/diagnostics'} <= topics

    with av.open(str(output / 'overlay.mp4')) as video:
        stream = video.streams.video[0]
        assert (stream.height, stream.width) == (64, 192)  # side by side
        assert sum(1 for _ in video.decode(stream)) >= 6
    sheet = cv2.imread(str(output / 'contact_sheet.png'))
    assert sheet.shape[1] == 4 * 486 + 6  # camera, traversability, classes, exact classes
    assert 'segmentation_node' in (output / 'node.log').read_text()
    assert str(output / 'overlay.mp4') in told
    _check_report(output, summary, told)
    _check_offline(tmp_path, palette_bundle, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['blocked', 'mine', 'result']


def _check_report(output, summary, told):
    """The demo ends with the path of a report that says what its table says."""
    page = output / 'evaluation' / 'report' / 'index.html'
    assert told.rstrip().endswith(str(page))
    assert '<title>demo: mine</title>' in page.read_text(encoding='utf-8')
    said = json.loads((output / 'evaluation' / 'summary.json').read_text())
    assert said['num_frames'] == 16
    assert said['source']['path'] == 'mine'
    assert said['num_labelled'] == summary['total']['frames_out']
    assert said['scores']['together']['scores']['miou_present'] == 0.5
    assert said['timings_ms']['latency_ms']['p50'] > 0
    assert 0 < said['means']['mean_confidence'] <= 1
    assert said['model']['engine'].startswith('onnxruntime')


def _check_offline(tmp_path, bundle, output):
    """The same frames without ROS get the same labels, pixel by pixel."""
    offline = tmp_path / 'offline'
    given = ['--bundle', str(bundle), '--engine', 'onnxruntime', '--output', str(offline)]
    assert evaluate_bag.main([str(tmp_path / 'mine'), *given]) == 0
    assert compare_labels.main([str(offline), str(output / 'outputs')]) == 0
    mask = next((offline / 'labels' / 'front').glob('*.png'))
    changed = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    changed[0, 0] = 3
    cv2.imwrite(str(mask), changed)
    assert compare_labels.main([str(offline), str(output / 'outputs')]) in (0, 1)
    assert compare_labels.main([str(offline), str(tmp_path / 'mine')]) == 2
    shutil.rmtree(offline)


def test_without_arguments_it_renders_a_drive_and_replaces_the_older_result(
    tmp_path, palette_bundle, without_torch
):
    output = tmp_path / 'result'
    output.mkdir()
    write_summary(output, {})
    (output / 'older').touch()
    sizes = ('--frames', '3', '--size', '64x96', '--engine', 'onnxruntime')
    code, told = _run(without_torch, '--bundle', palette_bundle, '--output', output, *sizes)
    assert code == 0, told
    assert not (output / 'older').exists()
    summary = json.loads((output / 'summary.json').read_text())
    assert set(summary['cameras']) == {'windshield', 'left'}
    assert summary['total']['frames_in'] == 6
    assert 0.0 <= summary['total']['miou'] <= 1.0
    assert (output / 'outputs').is_dir()

    with open_bag(output / 'drive') as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
    assert counts == {
        f'/{camera}/{name}': 3
        for camera in ('windshield', 'left')
        for name in ('image_raw', 'camera_info', 'ground_truth/label_map')
    }
    found = describe(output / 'drive')
    assert [camera.name for camera in found.cameras] == ['windshield', 'left']
    assert found.truth_topics['left'] == '/left/ground_truth/label_map'
    assert found.truth_taxonomy == 'falcon10'
    images = list(read_images(output / 'drive', ['/windshield/image_raw']))
    truths = list(read_images(output / 'drive', ['/windshield/ground_truth/label_map']))
    assert [entry[1] for entry in images] == [entry[1] for entry in truths]
    assert images[1][1] - images[0][1] == 100_000_000
    assert images[0][3].shape == (64, 96, 3)
    # The sky is blue, in the order that bgr8 says.
    blue, _, red = images[0][3][truths[0][3] == SKY].mean(axis=0)
    assert blue > red


def test_ctrl_c_leaves_nothing_behind(tmp_path, taxonomy, palette_bundle):
    _write_labelled_bag(tmp_path / 'mine', taxonomy, num_frames=200)
    output = tmp_path / 'result'
    arguments = ('--bag', tmp_path / 'mine', '--bundle', palette_bundle, '--output', output)
    process = _start(os.environ, *arguments, '--engine', 'onnxruntime')
    for line in process.stdout:
        if line.startswith('[3/5]'):
            break
    time.sleep(1.0)
    children = _children(process.pid)
    assert children
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30.0)
    assert process.returncode == 130
    assert not any(Path(f'/proc/{pid}').exists() for pid in children)
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


def _children(pid):
    return Path(f'/proc/{pid}/task/{pid}/children').read_text().split()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--bag', 'none'], 'none: no such bag'),
        (['--images', 'none'], 'none: no such folder'),
        (['--images', '{bundle}'], 'got no pictures, expected .jpg, .jpeg, .png; it holds'),
        (['--bag', '{bag}', '--bundle', 'none'], 'none holds no manifest.yaml'),
        (['--bag', '{bag}', '--engine', 'abacus'], "parameter engine: got 'abacus'"),
        (['--output', '{bundle}'], 'palette, which is read; expected one apart from it'),
        (['--output', '{tmp}'], 'something that is no older demo result: it has no summary.json'),
    ],
)
def test_errors_name_the_cause(tmp_path, taxonomy, palette_bundle, arguments, message):
    places = {'bundle': palette_bundle, 'bag': tmp_path / 'mine', 'tmp': tmp_path}
    (tmp_path / 'precious').touch()
    if '{bag}' in arguments:
        _write_labelled_bag(places['bag'], taxonomy, 1)
    given = ['--output', str(tmp_path / 'result'), '--bundle', str(palette_bundle)]
    code, told = _run(os.environ, *given, *(word.format(**places) for word in arguments))
    assert code == 1
    assert message in told
    assert 'Traceback' not in told
    assert not (tmp_path / 'result').exists()
