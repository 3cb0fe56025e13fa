from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('albumentations')


@pytest.fixture
def dataset(tmp_path):
    """Return a dataset configuration of two frames: sky above ground."""
    for folder in ('Color_Images', 'Segmentation'):
        (tmp_path / 'data' / folder).mkdir(parents=True)
    labels = np.full((54, 96), 7100, np.uint16)
    labels[:27] = 10000
    image = np.full((54, 96, 3), (60, 120, 160), np.uint8)
    image[:27] = (230, 200, 160)
    for name in ('cc0000001', 'w00000002'):
        cv2.imwrite(str(tmp_path / 'data' / 'Segmentation' / f'{name}.png'), labels)
        cv2.imwrite(str(tmp_path / 'data' / 'Color_Images' / f'{name}.png'), image)
    path = tmp_path / 'dataset.yaml'
    path.write_text(f'kind: falcon\nroot: {tmp_path}/data\nholdout: null\n')
    return path


@pytest.fixture
def run(dataset, load_script):
    """Return a function that runs the script: its status and its output folder."""
    script = load_script('show_augmentation')
    return lambda *arguments: show(script, dataset, *arguments)


def show(script, dataset, *arguments):
    options = ('--frames', '2', '--variants', '2', '--tile-width', '96', '--crop-size', '54', '96')
    output = dataset.parent / 'sheets'
    everything = ['--data', dataset, '--output', output, *options, *arguments]
    return script.main([str(item) for item in everything]), output


def test_a_sheet_for_each_augmentation(dataset, run):
    own = dataset.parent / 'mirror.yaml'
    own.write_text('kind: pipeline\ntransforms: [{name: HorizontalFlip, p: 1.0}]\n')
    status, output = run('goose_mmseg', own)
    assert status == 0
    assert sorted(path.name for path in output.iterdir()) == ['goose_mmseg.png', 'mirror.png']
    sheet = cv2.imread(str(output / 'mirror.png'))
    # Two rows of three tiles: image over labels and a caption, with margins of 6 px.
    assert sheet.shape[1] == 3 * (96 + 6) + 6
    tile = sheet[6 : 6 + 108, 6 : 6 + 96]
    assert tile[5, 5].tolist() == [230, 200, 160]
    assert tile[50, 5].tolist() == [60, 120, 160]
    assert np.abs(tile[59, 5].astype(int) - tile[5, 5]).max() > 10  # tinted


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('no_such.yaml', 'cannot be read'), ('broken.yaml', "did you mean 'HorizontalFlip'")],
)
def test_what_cannot_be_shown(dataset, run, monkeypatch, capsys, name, expected):
    monkeypatch.chdir(dataset.parent)
    Path('broken.yaml').write_text('kind: pipeline\ntransforms: [{name: HorizontalFlop}]\n')
    status, _ = run(name)
    assert status == 2
    assert expected in capsys.readouterr().err
