"""Bundles are quantised within limits, with sensitive parts in float, or not at all."""

from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest

from offroad_seg_core.evaluation.engine_check import check_frames
from offroad_seg_core.inference.bundle import BundleError, write_bundle
from offroad_seg_core.inference.engines import create_engine
from offroad_seg_core.inference.export_head import fuse_bundle
from offroad_seg_core.quantization.accuracy import AccuracyLimits
from offroad_seg_core.quantization.calibration import load_calibration
from offroad_seg_core.quantization.int8 import QuantizationError, Quantizer
from offroad_seg_core.quantization.quantize import (
    INT8_FILE,
    QuantizeOptions,
    installed_engines,
    quantize_bundle,
)
from offroad_seg_core.quantization.sensitivity import divergence, sensitivity
from offroad_seg_core.training.bundle_frames import write_pictures

ONE_ENGINE = QuantizeOptions(engines=('onnxruntime',), num_threads=1)


@pytest.fixture(scope='module')
def calibration(student, pictures):
    return load_calibration(pictures, student.manifest.input)


def test_divergence_by_hand():
    p = np.log(np.array([0.5, 0.5], np.float32)).reshape(2, 1, 1)
    q = np.log(np.array([0.25, 0.75], np.float32)).reshape(2, 1, 1)
    expected = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert divergence(p, q) == pytest.approx(expected, rel=1e-5)
    assert divergence(p, p) == 0
    both = np.concatenate([q, p], axis=2)
    assert divergence(np.concatenate([p, p], axis=2), both) == pytest.approx(
        expected / 2, rel=1e-5
    )


def test_the_fragile_part_is_found(fragile, calibration, tmp_path):
    batches = calibration.batches(fragile.manifest.input)
    quantizer = Quantizer(fragile.model_file('fp32'), batches, tmp_path)
    costs = sensitivity(quantizer, batches[:3], tmp_path)
    assert set(costs) == set(quantizer.blocks)
    assert list(costs.values()) == sorted(costs.values(), reverse=True)
    (first, cost), (_, next_cost) = list(costs.items())[:2]
    assert first == 'head'
    assert cost > 10 * next_cost


def test_within_the_limits_it_is_written(student, calibration, frames, tmp_path):
    options = QuantizeOptions(engines=installed_engines(), num_threads=1)
    bundle = quantize_bundle(student, tmp_path / 'int8', calibration, frames, options)
    assert bundle.precisions == ('fp32', 'int8')
    assert [model.is_checked for model in bundle.manifest.models] == [False, True]
    metrics = bundle.manifest.metrics['quantization']
    assert metrics['num_frames'] == 6
    assert metrics['limits'] == {'max_miou_drop': 0.01, 'max_dangerous_drop': 0.03}
    assert set(metrics['int8']) == set(installed_engines())
    for loss in metrics['int8'].values():
        assert loss['miou_before'] > 0.7
        assert abs(loss['miou_drop']) <= 0.01
        assert loss['violations'] == []
    provenance = bundle.manifest.provenance['quantization']
    assert provenance['num_calibration_frames'] == 36
    assert provenance['float_blocks'] == []
    assert bundle.model_file('int8').stat().st_size < bundle.model_file('fp32').stat().st_size


def test_sensitive_parts_stay_float(fragile, calibration, frames, tmp_path):
    bundle = quantize_bundle(fragile, tmp_path / 'int8', calibration, frames, ONE_ENGINE)
    provenance = bundle.manifest.provenance['quantization']
    assert provenance['float_blocks'] == ['head']
    assert next(iter(provenance['sensitivity_nats'])) == 'head'
    assert bundle.manifest.metrics['quantization']['int8']['onnxruntime']['violations'] == []


def test_beyond_the_limits_it_is_refused_by_name(fragile, calibration, frames, tmp_path):
    options = QuantizeOptions(engines=('onnxruntime',), max_float_share=0.0, num_threads=1)
    with pytest.raises(QuantizationError, match=r'refused') as refusal:
        quantize_bundle(fragile, tmp_path / 'int8', calibration, frames, options)
    text = str(refusal.value)
    assert 'onnxruntime: mIoU fell by' in text
    assert 'Rocks (dangerous) fell by' in text
    assert 'fix: calibration frames of more places' in text
    assert list(tmp_path.iterdir()) == []


def test_a_wide_limit_lets_it_pass(fragile, calibration, frames, tmp_path):
    options = QuantizeOptions(
        AccuracyLimits(0.99, 0.99), ('onnxruntime',), max_float_share=0.0, num_threads=1
    )
    bundle = quantize_bundle(fragile, tmp_path / 'int8', calibration, frames, options)
    assert bundle.manifest.metrics['quantization']['int8']['onnxruntime']['miou_drop'] > 0.3


def test_a_fused_bundle_stays_fused(student, calibration, frames, tmp_path):
    fused = fuse_bundle(student, tmp_path / 'fused', 2, {})
    bundle = quantize_bundle(fused, tmp_path / 'int8', calibration, frames, ONE_ENGINE)
    assert bundle.manifest.outputs == fused.manifest.outputs
    model = onnx.load(bundle.model_file('int8'))
    assert [value.name for value in model.graph.output] == ['logits', 'label_map', 'confidence']
    assert create_engine(bundle, 'onnxruntime', 'int8', 1).info.gives_labels


def test_test_frames_go_along(student, calibration, frames, tmp_path):
    manifest = student.manifest.model_dump(mode='json', exclude={'files'})
    pictures = write_pictures(frames.subset([0]), tmp_path)
    files = {'model.onnx': student.model_file('fp32'), **pictures}
    source = write_bundle(tmp_path / 'source', manifest, files)
    fused = fuse_bundle(source, tmp_path / 'fused', 2, {})
    assert fused.frames.keys() == {'frames/00.jpg'}
    options = replace(ONE_ENGINE, keeps_source=False)
    bundle = quantize_bundle(fused, tmp_path / 'int8', calibration, frames, options)
    (image,), origin = check_frames(bundle)
    np.testing.assert_array_equal(image, cv2.imread(str(pictures['frames/00.jpg'])))
    assert origin == 'the bundle'


def test_int8_alone_runs_by_itself_and_cannot_be_quantised_again(
    student, calibration, frames, tmp_path
):
    options = QuantizeOptions(engines=('onnxruntime',), keeps_source=False, num_threads=1)
    bundle = quantize_bundle(student, tmp_path / 'int8', calibration, frames, options)
    assert bundle.precisions == ('int8',)
    assert sorted(path.name for path in bundle.path.iterdir()) == [
        'README.md',
        'manifest.yaml',
        INT8_FILE,
    ]
    for name in installed_engines():
        assert create_engine(bundle, name, 'auto', 1).info.precision == 'int8'
    with pytest.raises(BundleError, match='source weights are not there'):
        quantize_bundle(bundle, tmp_path / 'again', calibration, frames, options)


def test_without_an_engine_nothing_can_be_checked(student, calibration, frames, tmp_path):
    with pytest.raises(QuantizationError, match='no engine to measure with'):
        quantize_bundle(
            student, tmp_path / 'int8', calibration, frames, QuantizeOptions(engines=())
        )
