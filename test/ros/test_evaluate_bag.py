"""The command as a user starts it; it needs no running ROS."""

import json
from pathlib import Path
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from offroad_seg_core.evaluation.command import run_with_progress
from offroad_seg_core.evaluation.drive_report.data import page_data, read_results
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_ros.demo_inputs import CameraBag
from offroad_seg_ros.evaluate_bag import main
from offroad_seg_ros.latency_recorder import CameraLatencies, write_latencies
from offroad_seg_ros.params import ParameterError
from offroad_seg_ros.params_file import load_params

SIZE = (64, 96)
START_NS = 1_700_000_000_000_000_000
LANDSCAPE, SKY = 8, 9


@pytest.fixture
def drive(tmp_path):
    """Three frames of two cameras, landscape above sky, so that rotating shows."""
    taxonomy = load_taxonomy('falcon10')
    labels = np.full(SIZE, LANDSCAPE, np.uint8)
    labels[32:] = SKY
    with CameraBag(tmp_path / 'drive') as bag:
        for index in range(3):
            for camera in ('windshield', 'left'):
                time_ns = START_NS + index * 100_000_000
                pixels = taxonomy.palette_bgr[labels]
                bag.write_picture(camera, f'/{camera}/image_raw', time_ns, pixels, 'bgr8')
                topic = f'/{camera}/ground_truth/label_map'
                truth = labels.copy()
                truth[24:40] = 255  # the model's blocks cover both colours there
                bag.write_picture(camera, topic, time_ns, truth, 'mono8')
    return tmp_path / 'drive'


@pytest.fixture
def evaluate(drive, palette_bundle, tmp_path):
    """Return a function that runs the command on the drive with further arguments."""

    def run(*arguments, inputs=(drive,)):
        given = ('--bundle', palette_bundle, '--engine', 'onnxruntime')
        output = ('--output', tmp_path / 'result')
        return main([str(word) for word in (*inputs, *given, *output, *arguments)])

    return run


def summary(tmp_path):
    return json.loads((tmp_path / 'result' / 'summary.json').read_text())


def test_without_ros_in_a_process_of_its_own(drive, palette_bundle, tmp_path):
    blocked = tmp_path / 'blocked'
    blocked.mkdir()
    for name in ('rclpy', 'torch', 'sensor_msgs'):
        (blocked / f'{name}.py').write_text(f'raise ImportError("{name} is blocked")')
    code = f'import sys; sys.path.insert(0, {str(blocked)!r}); ' + (
        'from offroad_seg_ros.evaluate_bag import main; sys.exit(main(sys.argv[1:]))'
    )
    options = ['--bundle', palette_bundle, '--engine', 'onnxruntime', '--output', 'result']
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, '-c', f'import sys; sys.path.insert(0, {root!r}); {code}',
         *map(str, (drive, *options))],
        capture_output=True, text=True, cwd=tmp_path, timeout=100,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert '6 of 6 frames labelled by palette' in ended.stdout
    assert 'mIoU 1.0000 over the classes that occur in the truth' in ended.stdout
    assert 'Traceback' not in ended.stderr
    assert (tmp_path / 'result' / 'labels' / 'left' / f'{START_NS}.png').is_file()


def test_the_parameter_file_of_the_node_counts(evaluate, tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[60:] = 1
    cv2.imwrite(str(tmp_path / 'ego.png'), mask)
    text = f"""
/**:
  ros__parameters:
    tta: flip
    absent_classes: [Trees]
    windshield: {{rotation_deg: 180, ego_mask: {tmp_path / 'ego.png'}}}
"""
    (tmp_path / 'mine.yaml').write_text(text)
    assert evaluate('--params-file', tmp_path / 'mine.yaml') == 0
    options = summary(tmp_path)['model']['options']
    assert (options['tta'], options['absent_classes']) == ('flip', ['Trees'])
    folder = tmp_path / 'result' / 'labels'
    masks = [cv2.imread(str(folder / c / f'{START_NS}.png'), -1) for c in ('windshield', 'left')]
    assert (masks[0][60:] == 255).all()
    assert (masks[1][60:] == SKY).all()
    np.testing.assert_array_equal(masks[0][:20], LANDSCAPE)  # back in the camera's geometry
    assert evaluate('--params-file', tmp_path / 'mine.yaml', '--tta', 'off') == 0
    assert summary(tmp_path)['model']['options']['tta'] == 'off'


def test_a_reference_has_the_cameras_and_the_engine_of_the_model(
    evaluate, palette_bundle, tmp_path, monkeypatch
):
    mask = np.zeros(SIZE, np.uint8)
    mask[60:] = 1
    cv2.imwrite(str(tmp_path / 'ego.png'), mask)
    seen = []

    def look(evaluation, given):
        seen.append(evaluation.identity())
        return run_with_progress(evaluation, given)

    monkeypatch.setattr('offroad_seg_ros.evaluate_bag.run_with_progress', look)
    view = f'{{rotation_deg: 90, ego_mask: {tmp_path / "ego.png"}}}'
    (tmp_path / 'mine.yaml').write_text(f'/**: {{ros__parameters: {{windshield: {view}}}}}')
    given = ('--params-file', tmp_path / 'mine.yaml', '--reference', palette_bundle)
    assert evaluate(*given, '--engine', 'openvino') == 0  # auto chooses another for it
    (identity,) = seen
    assert identity['reference']['views'] == identity['model']['views']
    assert identity['reference']['engine'] == identity['model']['engine']


def test_values_that_no_parameter_can_have(tmp_path):
    (tmp_path / 'mine.yaml').write_text('/**: {ros__parameters: {tta: off}}')
    with pytest.raises(ParameterError, match='tta: got False, expected a str'):
        load_params(str(tmp_path / 'mine.yaml'), ('front',), {})
    with pytest.raises(ParameterError, match="engine: got 'abacus'"):
        load_params('', ('front',), {'engine': 'abacus'})


def test_of_several_inputs_a_bad_one_is_named_and_the_rest_is_done(
    evaluate, drive, tmp_path, capsys
):
    assert evaluate('--labels', 'none', inputs=(drive, tmp_path / 'nowhere')) == 1
    told = capsys.readouterr().out
    assert 'note: ' in told
    assert 'nowhere: not there' in told
    said = summary(tmp_path)
    assert set(said['counts']) == {'drive/windshield', 'drive/left'}


def test_of_several_inputs_one_in_storage_without_credentials_is_named(
    evaluate, drive, tmp_path, capsys
):
    fsspec = pytest.importorskip('fsspec', reason='fleets need requirements/fleet.txt')

    class Locked(fsspec.AbstractFileSystem):
        def find(self, path, **options):
            raise Exception('Unable to locate credentials')  # of no kind that is known here

    fsspec.register_implementation('locked', Locked, clobber=True)
    assert evaluate('--labels', 'none', inputs=(drive, 'locked://bucket/x.mcap')) == 1
    told = capsys.readouterr().out
    assert 'locked://bucket/x.mcap: got Exception: Unable to locate credentials' in told
    assert set(summary(tmp_path)['counts']) == {'drive/windshield', 'drive/left'}


def test_of_several_inputs_one_whose_truth_is_missing_is_named(evaluate, drive, tmp_path, capsys):
    with CameraBag(tmp_path / 'bare') as bag:
        pixels = np.zeros((*SIZE, 3), np.uint8)
        bag.write_picture('left', '/left/image_raw', START_NS, pixels, 'bgr8')
    truth = ('--truth-topics', 'left=/left/ground_truth/label_map', '--labels', 'none')
    assert evaluate(*truth, inputs=(tmp_path / 'bare', drive)) == 1
    assert 'bare: got label topics /left/ground_truth/label_map' in capsys.readouterr().out
    assert set(summary(tmp_path)['counts']) == {'drive/left'}


def test_truth_and_latencies_that_belong_to_no_frame_are_named(evaluate, drive, tmp_path, capsys):
    with CameraBag(tmp_path / 'bare') as bag:
        pixels = np.zeros((*SIZE, 3), np.uint8)
        bag.write_picture('left', '/left/image_raw', START_NS + 7, pixels, 'bgr8')
    (tmp_path / 'truth').mkdir()
    cv2.imwrite(str(tmp_path / 'truth' / f'{START_NS}.png'), np.full(SIZE, SKY, np.uint8))
    late = CameraLatencies()
    late.add_frame(START_NS, 10**9)
    late.add_labels(START_NS, 2 * 10**9)
    (tmp_path / 'live').mkdir()
    write_latencies(tmp_path / 'live', {'left': late})
    asked = ('--truth', tmp_path / 'truth', '--labels', 'none')
    bare = ('--latencies', tmp_path / 'live')
    assert evaluate(*asked, *bare, inputs=(tmp_path / 'bare',)) == 0
    told = capsys.readouterr().out
    assert '1 of 1 frames labelled by palette' in told
    assert '0 of 1 frames with truth' in told
    truth, latencies = summary(tmp_path)['notes']
    assert f'note: {truth}\nnote: {latencies}' in told
    assert 'truth: got truth of no frame, expected names or stamps of frames; fix: ' in truth
    assert latencies.startswith('latencies: got those of no frame, expected stamps of frames')

    assert evaluate(*asked, inputs=(tmp_path / 'bare', drive)) == 0
    (note,) = summary(tmp_path)['notes']
    assert 'got truth of no frame of bare, expected' in note
    assert '2 of 7 frames with truth' in capsys.readouterr().out
    assert evaluate(*bare) == 0
    assert summary(tmp_path)['notes'] == []


def test_results_of_two_drives_of_one_name_are_both_kept(
    drive, palette_bundle, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'other').mkdir()
    shutil.copytree(drive, tmp_path / 'other' / 'drive')
    options = ['--bundle', str(palette_bundle), '--engine', 'onnxruntime', '--labels', 'none']
    assert main(['drive', *options]) == 0
    assert main(['other/drive', *options]) == 1
    assert 'got a result of drive by palette' in capsys.readouterr().err
    assert json.loads(Path('drive_evaluation/summary.json').read_text())['title'] == 'drive'
    assert main(['drive', *options]) == 0


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (('--topics', '/none'), 'got /none, expected topics of sensor_msgs/Image'),
        (('--truth', 'nowhere'), 'got no .png files, expected label maps'),
        (('--engine', 'abacus'), "parameter engine: got 'abacus'"),
        (('--pictures-every', '-1'), '--pictures-every: got -1; expected 0 or more'),
        (('--mcap', '{drive}/drive.mcap'), 'which is read; expected one apart from it'),
        (('--ray', '--chunks', '{drive}/../result/kept'), 'expected a folder that no result repl'),
        (('--labels-from', '{drive}'), 'got no topic .../segmentation/mask; it holds /left'),
    ],
)
def test_errors_name_the_cause(evaluate, drive, tmp_path, capsys, arguments, told):
    assert evaluate(*(word.format(drive=drive) for word in arguments)) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / 'result').exists()


@pytest.mark.parametrize(
    ('library', 'module', 'place', 'options', 'told'),
    [
        ('ray', 'cluster', '{drive}', ('--ray',), '--ray needs it'),
        ('fsspec', 'storage', 'memory://bucket/x.mcap', (), 'URLs and fleets need it'),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    evaluate, drive, tmp_path, capsys, monkeypatch, library, module, place, options, told
):
    # As in a process that has not loaded it.
    monkeypatch.delitem(sys.modules, f'offroad_seg_core.fleet.{module}', raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    assert evaluate(*options, inputs=(place.format(drive=drive),)) == 2
    err = capsys.readouterr().err
    assert f'evaluate_bag: {told} (import of {library} halted' in err
    assert 'fix: pip install -r requirements/fleet.txt' in err
    assert not (tmp_path / 'result').exists()


def test_latencies_of_the_live_node(evaluate, drive, tmp_path, capsys):
    seen = CameraLatencies()
    for index, latency_ms in enumerate((40, 90)):
        seen.add_frame(START_NS + index * 100_000_000, 10**9)
        seen.add_labels(START_NS + index * 100_000_000, 10**9 + latency_ms * 1_000_000)
    seen.add_frame(START_NS + 200_000_000, 10**9)  # no labels
    seen.add_frame(START_NS, 10**9)  # the bag starts again
    seen.add_labels(START_NS, 10**9 + 70_000_000)
    for folder, camera in (('live', 'left'), ('other', 'rear')):
        (tmp_path / folder).mkdir()
        write_latencies(tmp_path / folder, {camera: seen})
    assert evaluate('--latencies', tmp_path / 'live') == 0
    (result,) = read_results([tmp_path / 'result'])
    frames = page_data([result])['runs'][0]['frames']
    cameras = [frames['cameras'][place] for place in frames['camera']]
    shown = list(zip(cameras, frames['metrics']['latency_ms'], strict=True))
    assert [latency for camera, latency in shown if camera == 'left'] == [40.0, 90.0, None]
    assert {latency for camera, latency in shown if camera == 'windshield'} == {None}
    assert summary(tmp_path)['timings_ms']['latency_ms'] == {'p50': 65.0, 'p95': 87.5}

    capsys.readouterr()
    for place, inputs, told in (
        ('other', (drive,), 'got labels of rear, expected some of'),
        ('nowhere', (drive,), 'expected a table of latency_recorder'),
        ('live', (drive, drive), 'got several inputs, expected the one'),
    ):
        assert evaluate('--latencies', tmp_path / place, inputs=inputs) == 1
        assert told in capsys.readouterr().err
