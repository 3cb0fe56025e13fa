"""Engines are held against ONNX Runtime in float32; what disagrees or fails is found."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip('onnxruntime')

from offroad_seg_core.evaluation import engine_check
from offroad_seg_core.evaluation.engine_check import (
    EngineResult,
    check_engines,
    check_frames,
    is_good,
)
from offroad_seg_core.inference import engines
from offroad_seg_core.inference.bundle import Bundle, write_bundle
from offroad_seg_core.inference.engines import EngineError, EngineOutput, EngineUnavailableError


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


@pytest.fixture
def images(bundle):
    """Half Trees, half Sky, and all Rocks."""
    colors = bundle.taxonomy.palette_bgr
    both = np.empty((64, 96, 3), np.uint8)
    both[:, :48], both[:, 48:] = colors[0], colors[9]
    return [both, np.full((64, 96, 3), colors[7], np.uint8)]


@pytest.fixture
def other(monkeypatch):
    """Put an engine in torch's place: ONNX Runtime with its logits changed by a function."""
    original = engines.ENGINES['onnxruntime']

    def install(change):
        def make(bundle, settings):
            engine = original(bundle, replace(settings, precision='fp32'))
            run = engine.run
            engine.run = lambda images: EngineOutput(change(run(images).logits.copy()))
            return engine

        monkeypatch.setitem(engines.ENGINES, 'torch', make)
        monkeypatch.setattr(engine_check, 'precisions_of', lambda name: ('fp32',))

    return install


def check(bundle, images, *names, **options):
    return check_engines(bundle, images, names, num_runs=options.pop('num_runs', 3), **options)


def test_the_reference_agrees_with_itself(bundle, images):
    (result,) = [r for r in check(bundle, images, 'onnxruntime') if r.precision == 'fp32']
    assert result.status == 'agrees'
    assert (result.label_agreement, result.max_error) == (1.0, 0.0)
    assert result.iou_drop == {'Trees': 0.0, 'Rocks': 0.0, 'Sky': 0.0}
    assert 0 < result.p50_ms <= result.p95_ms <= result.p99_ms


def test_one_that_disagrees_is_found_and_so_are_its_classes(bundle, images, other):
    def sky_is_rocks(logits):
        logits[:, 7] = np.maximum(logits[:, 7], logits[:, 9] + 1)
        return logits

    other(sky_is_rocks)
    (result,) = check(bundle, images, 'torch')
    assert result.status == 'disagrees'
    # Half of one of two images; the border between its halves, where labels mix, moves a little.
    assert result.label_agreement == pytest.approx(0.75, abs=0.01)
    assert 'expected at least 0.999' in result.reason
    assert result.iou_drop['Sky'] == 1.0
    assert result.iou_drop['Trees'] == pytest.approx(0.0, abs=0.03)
    assert result.iou_drop['Rocks'] == pytest.approx(1 - 2 / 3, abs=0.02)
    assert result.max_error > 0
    assert not is_good([result])


def test_small_errors_are_within_the_tolerance(bundle, images, other):
    other(lambda logits: logits + 0.5)
    (result,) = check(bundle, images, 'torch', num_runs=0)
    assert result.status == 'agrees'
    assert 0 < result.max_error < 0.1
    assert result.p50_ms is None
    assert is_good([result])


def test_numbers_that_are_none_disagree(bundle, images, other):
    other(lambda logits: np.full_like(logits, np.nan))
    (result,) = check(bundle, images, 'torch')
    assert result.status == 'disagrees'
    assert result.max_error is None
    assert 'not numbers' in result.reason


@pytest.mark.parametrize(
    ('error', 'status'), [(EngineUnavailableError, 'unavailable'), (EngineError, 'fails')]
)
def test_what_is_missing_and_what_fails(bundle, images, monkeypatch, error, status):
    def refuse(bundle, settings):
        raise error('no; fix: yes')

    monkeypatch.setitem(engines.ENGINES, 'torch', refuse)
    monkeypatch.setattr(engine_check, 'precisions_of', lambda name: ('fp16',))
    results = check(bundle, images, 'torch')
    assert results == [EngineResult('torch', 'fp16', status, 'no; fix: yes')]


def test_when_all_is_good():
    good, missing = (EngineResult('a', 'fp32', status) for status in ('agrees', 'unavailable'))
    failing = EngineResult('b', 'fp32', 'fails')
    assert is_good([good, missing])
    assert not is_good([missing])
    assert not is_good([])
    assert not is_good([good, failing])


def test_int8_is_checked_where_the_bundle_has_it(bundle):
    assert engine_check._precisions('openvino', bundle) == ['bf16', 'fp32']
    assert engine_check._precisions('tensorrt', bundle) == ['fp16', 'fp32']


def test_frames_of_a_folder_of_the_bundle_or_rendered(bundle, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    folder = tmp_path / 'pictures'
    folder.mkdir()
    (folder / 'notes.txt').write_text('no picture')
    with pytest.raises(ValueError, match='no readable picture among 1 files'):
        check_frames(bundle, folder)
    cv2.imwrite(str(folder / 'one.png'), picture)
    (found,), origin = check_frames(bundle, folder)
    np.testing.assert_array_equal(found, picture)
    assert origin == str(folder)
    manifest = bundle.manifest.model_dump(mode='json', exclude={'files'})
    files = {'model.onnx': bundle.model_file('fp32'), 'frames/one.png': folder / 'one.png'}
    own = write_bundle(tmp_path / 'own', manifest, files)
    (found,), origin = check_frames(own)
    np.testing.assert_array_equal(found, picture)
    assert origin == 'the bundle'
    rendered, origin = check_frames(bundle)
    assert origin == 'the procedural desert'
    assert [image.shape for image in rendered] == [(544, 960, 3)] * 2
    assert all(image.std() > 10 for image in rendered)
