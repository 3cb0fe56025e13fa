"""Engines agree with each other and with a computation by hand; auto takes the fastest."""

import logging
import time

import cv2
import numpy as np
import pytest

from offroad_seg_core.inference import engines
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import (
    ENGINES,
    EngineError,
    EngineInfo,
    EngineOutput,
    EngineUnavailableError,
    create_engine,
)
from offroad_seg_core.inference.preprocess import Normalizer

TOLERANCE = {'fp32': 1e-4, 'bf16': 2e-2}
"""Largest error over the largest logit."""


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


def expected_logits(bundle, images):
    """Nearest-colour scores, spelled out: 20 (2 x.p - |p|^2) of each 8x8 block's mean x."""
    x = (images.astype(np.float64) - 127.5) / 127.5
    count, height, width, _ = x.shape
    x = x.reshape(count, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4))
    p = (bundle.taxonomy.palette_rgb[:10].astype(np.float64) - 127.5) / 127.5
    return (20 * (2 * x @ p.T - (p**2).sum(axis=1))).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    ('name', 'precision'),
    [('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16')],
)
@pytest.mark.parametrize('shape', [(1, 64, 96), (2, 64, 96), (1, 96, 128)])
def test_logits_are_the_ones_computed_by_hand(bundle, name, precision, shape):
    pytest.importorskip(name)
    try:
        engine = create_engine(bundle, name, precision)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    images = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    logits = engine.run(images).logits
    expected = expected_logits(bundle, images)
    assert logits.dtype == np.float32
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= TOLERANCE[precision] * np.abs(expected).max()
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine.run(images)


def test_normalizer_is_exact():
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    expected = ((images - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(Normalizer(mean, std)(images), expected.astype(np.float32))


class FakeEngine:
    def __init__(self, name, duration_s, device='cpu'):
        self.info = EngineInfo(name, 'fp32', device, '1', 10)
        self._duration_s = duration_s
        self.closed = False

    def run(self, images):
        time.sleep(self._duration_s)
        return EngineOutput(np.zeros((1, 10, 8, 12), np.float32))

    def close(self):
        self.closed = True


def refuse(bundle, settings):
    raise EngineUnavailableError('no such library; fix: install it')


def test_no_engine_at_all_lists_the_reasons(bundle, monkeypatch, tmp_path):
    monkeypatch.setattr(engines, 'ENGINES', {'openvino': refuse})
    with pytest.raises(EngineUnavailableError, match='openvino: no such library'):
        create_engine(bundle, cache_folder=tmp_path)


@pytest.mark.parametrize(
    ('gpu', 'device', 'warned'),
    [
        (True, 'cpu', True),
        (True, 'Orin', False),
        (False, 'cpu', False),
    ],
)
def test_cpu_on_a_gpu_machine_is_said(bundle, monkeypatch, caplog, gpu, device, warned):
    monkeypatch.setattr(engines, 'ENGINES', {'one': lambda *_: FakeEngine('one', 0, device)})
    monkeypatch.setattr(engines, 'has_nvidia_gpu', lambda: gpu)
    create_engine(bundle, 'one')
    assert any(r.levelno == logging.WARNING for r in caplog.records) == warned


def test_unknown_names_list_the_choices(bundle):
    with pytest.raises(EngineError, match='onnxruntime'):
        create_engine(bundle, 'onnx')
    with pytest.raises(EngineError, match=r"'fp16'.*'fp32'"):
        create_engine(bundle, 'onnxruntime', 'fp16')


def test_every_engine_is_listed():
    assert set(ENGINES) == {
        'onnxruntime', 'openvino', 'torch', 'tensorrt', 'tensorrt_rtx', 'torch2trt',
        'onnxruntime_cuda', 'onnxruntime_tensorrt',
    }  # fmt: skip


def test_torch_needs_an_architecture(bundle):
    pytest.importorskip('torch')
    with pytest.raises(EngineError, match='names no architecture'):
        create_engine(bundle, 'torch')


def test_decoder_equals_argmax_of_upsampled_logits():
    logits = np.random.default_rng(1).normal(size=(7, 9, 13)).astype(np.float32)
    up = np.stack([cv2.resize(plane, (104, 72)) for plane in logits])
    output, decoder = EngineOutput(logits[np.newaxis]), Decoder((72, 104))
    np.testing.assert_array_equal(decoder.label_map(output, range(7)), up.argmax(axis=0))
    some = (1, 4, 6)
    np.testing.assert_array_equal(
        decoder.label_map(output, some),
        np.array(some)[up[list(some)].argmax(axis=0)],
    )


def test_a_graph_may_end_in_labels():
    labels = np.array([[[3, 250], [1, 0]]], np.int64)
    output = EngineOutput.of('labels', [labels, np.full((1, 2, 2), 0.5, np.float32)])
    decoder = Decoder((4, 4))
    expected = labels[0].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(decoder.label_map(output, ()), expected)
    assert np.unique(decoder.confidence_u8(output, ())).tolist() == [128]
    with pytest.raises(ValueError, match='without confidence'):
        decoder.confidence_u8(EngineOutput.of('labels', [labels]), ())


def test_confidence_by_hand():
    logits = np.zeros((4, 2, 2), np.float32)
    logits[2] = np.log(5.0)  # softmax 5 / 8; without class 3: 5 / 7
    output, decoder = EngineOutput(logits[np.newaxis]), Decoder((2, 2))
    assert decoder.confidence_u8(output, range(4)).tolist() == [[159, 159]] * 2
    assert decoder.confidence_u8(output, (0, 1, 2)).tolist() == [[182, 182]] * 2
