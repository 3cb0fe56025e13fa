import csv

import cv2
import numpy as np
import pytest

from offroad_seg_core.world import Drive
from offroad_seg_core.world.__main__ import main
from offroad_seg_core.world.dataset import DatasetOptions, write_index, write_seed

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
