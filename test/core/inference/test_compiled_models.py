"""What OpenVINO compiled is taken in from disk, if it is whole."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('openvino')

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import compiled_models
from offroad_seg_core.inference.engines.base import EngineSettings
from offroad_seg_core.inference.engines.compiled_models import CompiledModels
from offroad_seg_core.inference.engines.openvino import OpenVinoEngine
from offroad_seg_core.inference.head import HeadInputs

IMAGES = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)


@pytest.fixture(scope='module')
def shipped():
    return Bundle.load(Path(__file__).parents[3] / 'models' / 'demo_desert')


def answers(bundle, folder, precision='fp32', num_streams=1):
    """Return logits and labels of a new engine."""
    engine = OpenVinoEngine(bundle, EngineSettings(precision, 1, folder, num_streams))
    head = HeadInputs.of_classes(10, range(10))
    logits = engine.run(IMAGES).logits.copy()
    label_map = engine.run_labels(IMAGES, head).label_map.copy()
    engine.close()
    return logits, label_map


def stored(folder):
    return sorted(folder.rglob('*.blob'))


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('precision', ['fp32', 'int8'])
def test_the_second_engine_compiles_nothing(shipped, tmp_path, monkeypatch, precision):
    expected = answers(shipped, tmp_path, precision)
    assert len(stored(tmp_path)) == 2  # logits and labels
    monkeypatch.setattr(OpenVinoEngine, '_compile_anew', None)
    assert_same(answers(shipped, tmp_path, precision), expected)
    with pytest.raises(TypeError, match='NoneType'):
        answers(shipped, tmp_path, precision, num_streams=2)  # is another model


@pytest.mark.parametrize('damage', ['cut', 'turned bits', 'nothing left', 'of another make'])
def test_a_damaged_file_is_not_used(shipped, tmp_path, caplog, damage):
    expected = answers(shipped, tmp_path)
    whole = [file.read_bytes() for file in stored(tmp_path)]
    for file, content in zip(stored(tmp_path), whole, strict=True):
        if damage == 'of another make':
            file.write_bytes(hashlib.sha256(b'no model').digest() + b'no model')
        else:
            middle = len(content) // 2
            turned = bytes(255 - value for value in content[middle : middle + 999])
            file.write_bytes(
                {
                    'cut': content[:middle],
                    'turned bits': content[:middle] + turned + content[middle + 999 :],
                    'nothing left': b'',
                }[damage]
            )
    caplog.set_level(logging.INFO)
    assert_same(answers(shipped, tmp_path), expected)
    assert 'compiled again' in caplog.text
    assert [file.read_bytes()[32:64] for file in stored(tmp_path)] == [
        content[32:64] for content in whole
    ]


def test_no_folder_to_write_to_is_no_matter(shipped, tmp_path):
    expected = answers(shipped, tmp_path / 'cache')
    (tmp_path / 'file').write_text('')
    assert_same(answers(shipped, tmp_path / 'file'), expected)


def test_what_was_used_longest_ago_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_models, '_MOST_FILES', 3)
    models = CompiledModels(tmp_path, '1', {})
    for number in range(3):
        models.keep([number], bytes([number]))
        os.utime(models._file([number]), (number, number))
    assert models.take([0], bytes) == b'\0'  # which counts as use
    models.keep([3], b'\3')
    assert [models.take([number], bytes) for number in range(4)] == [b'\0', None, b'\2', b'\3']
    assert len(stored(tmp_path)) == 3
