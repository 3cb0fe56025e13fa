"""The command line of quantisation, on a bundle whose answers are known."""

import json

import cv2
import numpy as np
import pytest
import yaml

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.taxonomy import load_taxonomy


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Pictures of class colours in a dataset's layout, and its configuration."""
    root = tmp_path_factory.mktemp('data')
    taxonomy = load_taxonomy('falcon10')
    for folder in ('images', 'labels'):
        (root / 'validation' / folder).mkdir(parents=True)
    for index in range(4):
        ids = np.random.default_rng(index).integers(0, 10, (4, 6)).astype(np.uint8)
        label_map = ids.repeat(16, axis=0).repeat(16, axis=1)
        image = taxonomy.palette_bgr[label_map]
        cv2.imwrite(str(root / 'validation' / 'images' / f'{index}.png'), image)
        cv2.imwrite(str(root / 'validation' / 'labels' / f'{index}.png'), label_map)
    (root / 'data.yaml').write_text(yaml.safe_dump({'kind': 'folder', 'root': str(root)}))
    return root


def run(load_script, bundle, data, output, *more):
    arguments = ['--bundle', bundle, '--output', output, '--threads', '1']
    arguments += ['--calibration', data / 'validation' / 'images']
    return load_script('quantize').main([*map(str, arguments), *map(str, more)])


def test_a_bundle_is_quantised(load_script, palette_bundle, data, tmp_path, capsys, caplog):
    output = tmp_path / 'int8'
    assert run(load_script, palette_bundle, data, output, '--data', data / 'data.yaml') == 0
    told = capsys.readouterr().out
    assert 'measured on 4 frames' in told
    assert 'onnxruntime int8: mIoU ' in told
    assert 'left in float: nothing' in told
    assert 'got 4 calibration frames, expected 32 or more' in caplog.text
    bundle = Bundle.load(output)
    assert bundle.precisions == ('fp32', 'int8')
    assert 'got 4 calibration' in bundle.manifest.provenance['quantization']['warnings'][0]


def test_int8_alone_on_two_frames(load_script, palette_bundle, data, tmp_path, capsys):
    record = tmp_path / 'record.json'
    options = ['--data', data / 'data.yaml', '--int8-only', '--max-frames', '2']
    options += ['--record', record]
    assert run(load_script, palette_bundle, data, tmp_path / 'int8', *options) == 0
    assert 'measured on 2 frames' in capsys.readouterr().out
    assert Bundle.load(tmp_path / 'int8').precisions == ('int8',)
    content = json.loads(record.read_text())
    assert content['command'].startswith('quantize.py ')
    assert content['taxonomy']['name'] == 'falcon10'
    for matrices in content['engines'].values():
        counts = np.array([matrices[key]['confusion_matrix'] for key in ('fp32', 'int8')])
        assert counts.shape == (2, 10, 11)
        assert (counts.sum(axis=(1, 2)) == 2 * 64 * 96).all()
    again = run(load_script, tmp_path / 'int8', data, tmp_path / 'b', '--data', data / 'data.yaml')
    assert again == 2
    assert 'source weights are not there' in capsys.readouterr().err


def test_what_is_wrong_is_said(load_script, palette_bundle, data, tmp_path, capsys):
    assert run(load_script, palette_bundle, data, tmp_path / 'a') == 2
    assert 'does not say what it was trained with' in capsys.readouterr().err
    assert run(load_script, tmp_path / 'none', data, tmp_path / 'a') == 2
    assert 'no such folder' in capsys.readouterr().err
    limits = ['--data', data / 'data.yaml', '--max-miou-drop', '-1']
    assert run(load_script, palette_bundle, data, tmp_path / 'a', *limits) == 2
    assert 'max_miou_drop' in capsys.readouterr().err
    assert not (tmp_path / 'a').exists()
