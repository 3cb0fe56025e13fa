import json

import cv2
import numpy as np
import pytest


@pytest.fixture
def main(load_script):
    return load_script('analyze_data').main


@pytest.fixture
def data(tmp_path):
    """Return the configuration file of a folder pair, and its root."""
    root = tmp_path / 'set'
    for split, number in (('train', 3), ('validation', 1)):
        for kind in ('images', 'labels'):
            (root / split / kind).mkdir(parents=True)
        for index in range(number):
            rng = np.random.default_rng([number, index])
            image = cv2.resize(rng.integers(0, 256, (6, 9, 3), np.uint8), (48, 32))
            cv2.imwrite(str(root / split / 'images' / f'{index}.png'), image)
            label = np.full((32, 48), index, np.uint8)
            cv2.imwrite(str(root / split / 'labels' / f'{index}.png'), label)
    path = tmp_path / 'own.yaml'
    path.write_text(f'kind: folder\nroot: {root}\n')
    return path, root


def call(main, data, tmp_path, *more):
    out, cache = tmp_path / 'out', tmp_path / 'cache.sqlite'
    arguments = ['--data', str(data[0]), '--output', str(out), '--cache', str(cache)]
    code = main([*arguments, '--taxonomy', 'falcon10', *more])
    facts = out / 'statistics.json'
    return code, json.loads(facts.read_text()) if facts.is_file() else None


def test_a_run_and_its_summary(main, data, tmp_path, capsys):
    code, facts = call(main, data, tmp_path, '--strict')
    out = capsys.readouterr().out
    assert code == 0
    assert facts['frames'] == 4
    assert facts['classes']['Trees']['frames'] == 2
    assert 'own: 4 frames, 4 labelled' in out
    assert 'no problems' in out
    assert str(tmp_path / 'out' / 'index.html') in out
    assert (tmp_path / 'cache.sqlite').is_file()


def test_strict_fails_on_problems_and_says_them(main, data, tmp_path, capsys):
    (data[1] / 'train' / 'images' / '1.png').write_bytes(b'broken')
    assert call(main, data, tmp_path)[0] == 0
    assert call(main, data, tmp_path, '--strict')[0] == 1
    assert '1 x unreadable: ' in capsys.readouterr().out
    assert call(main, data, tmp_path, '--strict', '--split', 'validation')[0] == 0


def test_a_copy_of_itself_is_a_leak(main, data, tmp_path, capsys):
    code, facts = call(main, data, tmp_path, '--against', str(data[0]), '--no-cache', '--strict')
    assert code == 1
    assert facts['problems'] == {'leak': 4}
    assert (tmp_path / 'out' / 'against' / 'index.html').is_file()
    assert not (tmp_path / 'cache.sqlite').exists()


def test_mistakes(main, data, tmp_path, capsys):
    arguments = ['--data', str(data[0]), '--output', str(tmp_path / 'out'), '--no-cache']
    assert main(arguments) == 2
    assert 'give --taxonomy' in capsys.readouterr().err
    assert main([*arguments, '--taxonomy', 'falcon10', 'root=/nowhere']) == 2
    assert 'Without the split train' in capsys.readouterr().err
    assert main([*arguments, '--taxonomy', 'falcon10', 'rot=/nowhere']) == 2
    assert 'unknown key' in capsys.readouterr().err


def test_ctrl_c(main, data, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr('offroad_seg_core.datasets.analysis.scan.measure_label', interrupted)
    code, _ = call(main, data, tmp_path)
    assert code == 130
    assert 'start again to go on' in capsys.readouterr().err
