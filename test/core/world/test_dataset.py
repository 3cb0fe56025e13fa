import csv
from dataclasses import replace
import json

import cv2
import numpy as np
import pytest

from offroad_seg_core.world import Drive
from offroad_seg_core.world.__main__ import main
from offroad_seg_core.world.dataset import (
    DatasetOptions,
    write_dataset,
    write_index,
    write_seed,
)
from offroad_seg_core.world.drive import MOUNTS
from offroad_seg_core.world.identity import StaleDatasetError, renderer_sha256

SIZE = (64, 96)


@pytest.fixture(scope='module')
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dataset')
    for name in ('images', 'labels'):
        (folder / name).mkdir()
    options = DatasetOptions(folder, [4], 2, SIZE, image_suffix='.png')
    assert write_seed(options, 4) == 4
    return options


def test_pictures_and_labels_survive_the_round_trip(options):
    expected = Drive(4, 2, 1.0, SIZE).frame(0, 'left').frame
    image_path, label_path = options.paths(4, 'left', 0)
    np.testing.assert_array_equal(cv2.imread(str(label_path), -1), expected.label_map)
    np.testing.assert_array_equal(cv2.imread(str(image_path))[..., ::-1], expected.image_rgb)


def test_a_second_run_only_fills_the_gaps(options):
    files = sorted(options.output.rglob('*.png'))
    assert len(files) == 8
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    gone, partner = options.paths(4, 'windshield', 1)
    gone.unlink()
    assert write_index(options.output) == 3
    write_seed(options, 4)
    assert write_index(options.output) == 4
    for path in files:
        assert path.read_bytes() == before[path][0]
        if path not in (gone, partner):
            assert path.stat().st_mtime_ns == before[path][1]
    assert not list(options.output.rglob('.*'))


def test_the_command_writes_an_index_with_every_seed(tmp_path):
    arguments = ['--output', str(tmp_path), '--seeds', '20:21', '--frames-per-seed', '1']
    assert main([*arguments, '--size', '64x96', '--cameras', 'left']) == 0
    with (tmp_path / 'index.csv').open(newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [{'stem': 'seed000020_left_0000', 'seed': '20', 'camera': 'left', 'frame': '0'}]
    assert (tmp_path / 'images' / 'seed000020_left_0000.jpg').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--seeds', 'a:b'], 'FIRST:END'),
        (['--seeds', '5:5'], 'one or more'),
        (['--size', '64'], 'HEIGHTxWIDTH'),
        (['--cameras', 'roof'], 'windshield, left'),
        (['--frames-per-seed', '0'], 'one or more'),
    ],
)
def test_wrong_arguments_say_what_to_do(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(['--output', str(tmp_path), *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def claimed(tmp_path):
    options = DatasetOptions(tmp_path / 'frames', [4], 2, SIZE)
    options.claim()
    return options


def test_more_seeds_and_cameras_go_into_the_same_folder(claimed):
    replace(claimed, seeds=range(4, 90), cameras=('left',)).claim()
    assert [file.name for file in claimed.output.iterdir()] == ['options.json']
    content = json.loads((claimed.output / 'options.json').read_text())
    assert content['size'] == [64, 96]
    assert content['mounts']['left']['yaw_deg'] == 90.0
    assert len(content['renderer_sha256']) == 64


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (
            {'size': (32, 96)},
            r'got size \[64, 96\], expected size \[32, 96\]; fix: choose another folder',
        ),
        ({'frames_per_seed': 3}, 'got frames_per_seed 2, expected frames_per_seed 3; fix'),
        ({'image_suffix': '.png'}, 'got image_suffix ".jpg", expected image_suffix ".png"'),
    ],
)
def test_frames_of_other_options_are_not_mixed(claimed, change, match):
    with pytest.raises(StaleDatasetError, match=match):
        next(write_dataset(replace(claimed, **change)))
    claimed.claim()


def test_a_moved_camera_makes_the_frames_stale(claimed, monkeypatch):
    monkeypatch.setitem(MOUNTS, 'left', replace(MOUNTS['left'], up_m=2.5))
    with pytest.raises(StaleDatasetError, match='mounts'):
        claimed.claim()


def test_another_renderer_makes_the_frames_stale(claimed, monkeypatch):
    monkeypatch.setattr('offroad_seg_core.world.dataset.renderer_sha256', lambda: 'abc')
    with pytest.raises(StaleDatasetError, match=f'{renderer_sha256()}.*"abc"'):
        claimed.claim()


def test_frames_of_unknown_origin_are_refused(options):
    with pytest.raises(
        StaleDatasetError,
        match=r'frames without options\.json.*fix: choose another folder, or delete',
    ):
        options.claim()


@pytest.mark.parametrize('content', ['{', '[]'])
def test_a_broken_record_is_named(claimed, content):
    (claimed.output / 'options.json').write_text(content)
    with pytest.raises(
        StaleDatasetError, match=r'options\.json: .*fix: choose another folder, or delete'
    ):
        claimed.claim()


def test_the_command_refuses_a_stale_folder(claimed, capsys):
    with pytest.raises(SystemExit) as stop:
        main(['--output', str(claimed.output), '--size', '32x96', '--frames-per-seed', '2'])
    assert stop.value.code == 2
    assert 'got size [64, 96], expected size [32, 96]' in capsys.readouterr().err
