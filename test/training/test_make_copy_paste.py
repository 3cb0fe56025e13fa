from importlib.util import module_from_spec, spec_from_file_location
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / 'training' / 'make_copy_paste.py'
SPEC = spec_from_file_location('make_copy_paste', SCRIPT)
make_copy_paste = module_from_spec(SPEC)
SPEC.loader.exec_module(make_copy_paste)

LANDSCAPE, SKY, ROCKS = 8, 9, 7
OPTIONS = ['bank.classes=[Rocks]', 'bank.rules.min_texture=0', 'bank.rules.min_area_px=20']


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / 'data'
    for kind in ('images', 'labels'):
        (folder / 'train' / kind).mkdir(parents=True)
    for number in range(3):
        labels = np.full((60, 90), LANDSCAPE, np.uint8)
        labels[:20] = SKY
        labels[35:45, 20 + 15 * number : 32 + 15 * number] = ROCKS
        image = np.zeros((60, 90, 3), np.uint8)
        image[labels == LANDSCAPE], image[labels == SKY], image[labels == ROCKS] = 150, 220, 90
        cv2.imwrite(str(folder / 'train' / 'images' / f'{number}.png'), image)
        cv2.imwrite(str(folder / 'train' / 'labels' / f'{number}.png'), labels)
    path = tmp_path / 'data.yaml'
    path.write_text(f'kind: folder\nroot: {folder}\n')
    return path


def test_one_command_makes_everything(dataset, tmp_path, capsys):
    arguments = ['--data', str(dataset), '--output', str(tmp_path / 'out'), *OPTIONS]
    assert make_copy_paste.main(arguments) == 0
    out = tmp_path / 'out'
    statistics = json.loads((out / 'statistics.json').read_text())
    assert statistics['classes']['Rocks']['pixels_before'] == 3 * 120
    assert statistics['classes']['Rocks']['pixels_after'] > 3 * 120
    assert cv2.imread(str(out / 'contact_sheet.png')) is not None
    assert f'3 images, {statistics["images_added"]} added' in capsys.readouterr().out
    written = {path: path.stat().st_mtime_ns for path in (out / 'train').rglob('*.png')}
    assert make_copy_paste.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_mistakes_are_said(dataset, tmp_path, capsys):
    arguments = ['--data', str(dataset), '--output', str(tmp_path / 'out')]
    assert make_copy_paste.main([*arguments, 'sed=1']) == 2
    assert "did you mean 'seed'" in capsys.readouterr().err
    assert make_copy_paste.main([*arguments, 'bank.classes=[Logs]']) == 2
    assert 'classes Logs: got no pixel of them' in capsys.readouterr().err


def test_nothing_found_a_place(dataset, tmp_path, capsys):
    arguments = ['--data', str(dataset), '--output', str(tmp_path / 'out'), *OPTIONS]
    assert make_copy_paste.main([*arguments, 'paste.scale_range=[3.9, 4]']) == 0
    assert '0 added, 6 objects found no place' in capsys.readouterr().out
    assert not (tmp_path / 'out' / 'contact_sheet.png').exists()


def test_interruption(dataset, tmp_path, capsys, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_copy_paste, 'write_copy_paste_set', stop)
    arguments = ['--data', str(dataset), '--output', str(tmp_path / 'out'), *OPTIONS]
    assert make_copy_paste.main(arguments) == 130
    assert 'the same command goes on' in capsys.readouterr().err
