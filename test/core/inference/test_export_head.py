"""Fused graphs compute what their logits say, under any bias and temperature."""

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip('onnx')
pytest.importorskip('torch')
onnxruntime = pytest.importorskip('onnxruntime')

from offroad_seg_core.inference import export_head  # noqa: E402
from offroad_seg_core.inference.bundle import Bundle  # noqa: E402
from offroad_seg_core.inference.export import ExportError  # noqa: E402
from offroad_seg_core.inference.export_head import (  # noqa: E402
    check_head,
    decoded,
    fuse_bundle,
)
from offroad_seg_core.inference.head import LOGIT_OF_ABSENT, HeadInputs  # noqa: E402
from offroad_seg_core.inference.label_head import add_head, logits_only  # noqa: E402

NEUTRAL = HeadInputs(np.zeros(10, np.float32))


@pytest.fixture(scope='module')
def plain(palette_bundle):
    return onnx.load(Bundle.load(palette_bundle).model_file('fp32'))


def run(model, images, head, names=('label_map', 'confidence', 'logits')):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    temperature = np.array(head.temperature, np.float32)
    feeds = {'images': images, 'logit_bias': head.logit_bias, 'temperature': temperature}
    return session.run(list(names), feeds)


@pytest.fixture(scope='module')
def images():
    return np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 96)).astype(np.float32)


@pytest.mark.parametrize('stride', [8, 4, 1])
def test_labels_are_those_of_the_upsampled_logits(plain, images, stride):
    label_map, confidence, logits = run(add_head(plain, 8, stride), images, NEUTRAL)
    assert (label_map.dtype, confidence.dtype) == (np.uint8, np.float32)
    assert label_map.shape == (2, 64 // stride, 96 // stride)
    size = (96 // stride, 64 // stride)
    for index in range(2):
        large = np.stack([cv2.resize(plane, size) for plane in logits[index]])
        assert (label_map[index] == large.argmax(axis=0)).mean() > 0.9999
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = exponent / exponent.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(confidence, probs.max(axis=1), atol=1e-6)


def test_bias_and_temperature_by_hand(plain, images):
    (logits,) = run(add_head(plain, 8, 8), images, NEUTRAL, ['logits'])
    bias = np.linspace(-2, 2, 10, dtype=np.float32)
    label_map, confidence = run(
        add_head(plain, 8, 8), images, HeadInputs(bias, 2.5), ['label_map', 'confidence']
    )
    scores = logits / 2.5 + bias[:, None, None]
    assert (label_map == scores.argmax(axis=1)).all()
    expected = 1 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)
    np.testing.assert_allclose(confidence, expected, atol=1e-6)


def test_absent_classes_never_win_and_take_no_probability(plain, images):
    allowed = (1, 4, 6)
    head = HeadInputs.of_classes(10, allowed)
    assert head.logit_bias[0] == LOGIT_OF_ABSENT
    label_map, confidence, logits = run(add_head(plain, 8, 1), images, head)
    assert set(np.unique(label_map)) <= set(allowed)
    kept = logits[:, list(allowed)]
    expected = 1 / np.exp(kept - kept.max(axis=1, keepdims=True)).sum(axis=1)
    np.testing.assert_allclose(confidence, expected, atol=1e-6)


@pytest.mark.parametrize(
    ('bias', 'temperature'),
    [
        (np.zeros(3), 1.0),
        (np.zeros((1, 3), np.float32), 1.0),
        (np.full(3, -np.inf, np.float32), 1.0),
        (np.zeros(3, np.float32), 0.0),
        (np.zeros(3, np.float32), np.nan),
    ],
)
def test_head_inputs_that_cannot_be(bias, temperature):
    with pytest.raises(ValueError, match=r'expected (finite float32|above 0)'):
        HeadInputs(bias, temperature)


def test_the_reference_of_the_parity_check_by_hand():
    logits = np.zeros((1, 2, 1, 2), np.float32)
    logits[0, 0] = [[0, 3]]
    logits[0, 1] = [[1, 1]]  # the border lies at 1/3 of the way between the two centres
    labels, confidence = decoded(logits, HeadInputs(np.zeros(2, np.float32)), (1, 12))
    assert labels[0, 0].tolist() == [1] * 5 + [0] * 7
    np.testing.assert_allclose(confidence[0, 0], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2))])
    labels, _ = decoded(logits, HeadInputs(np.array([0, 5], np.float32), 2.0), (1, 12))
    assert labels.max() == labels.min() == 1


def test_a_bundle_is_fused_fused_again_and_keeps_its_logits(palette_bundle, tmp_path, plain):
    first = fuse_bundle(Bundle.load(palette_bundle), tmp_path / 'first', 8, {'why': 'test'})
    assert first.manifest.outputs.model_dump() == {
        'kind': 'fused',
        'stride': 8,
        'num_classes': 10,
        'has_confidence': False,
        'label_stride': 8,
    }
    metrics = first.manifest.metrics['fused_head']
    assert metrics['why'] == 'test'
    assert metrics['parity']['fp32']['label_agreement'] == 1
    second = fuse_bundle(first, tmp_path / 'second', 2, {})
    assert second.manifest.outputs.label_stride == 2
    model = onnx.load(second.model_file('fp32'))
    assert [value.name for value in model.graph.output] == ['logits', 'label_map', 'confidence']
    assert [value.name for value in model.graph.input] == ['images', 'logit_bias', 'temperature']
    assert logits_only(model).graph.node == plain.graph.node
    assert logits_only(plain) is plain


def test_a_bundle_of_labels_cannot_be_fused(palette_bundle):
    bundle = Bundle.load(palette_bundle)
    outputs = bundle.manifest.outputs.model_copy(update={'kind': 'labels'})
    manifest = bundle.manifest.model_copy(update={'outputs': outputs})
    with pytest.raises(ExportError, match='ends in labels'):
        fuse_bundle(Bundle(bundle.path, manifest, bundle.taxonomy), '/nowhere', 8, {})


@pytest.mark.parametrize('stride', [3, 16, 0])
def test_label_strides_that_do_not_divide(plain, stride):
    with pytest.raises(ValueError, match='expected a divisor of 8'):
        add_head(plain, 8, stride)


def test_a_head_that_computes_something_else_is_refused(
    palette_bundle, tmp_path, plain, monkeypatch
):
    right = add_head(plain, 8, 4)

    def shifted(model, stride, label_stride):
        wrong = onnx.ModelProto()
        wrong.CopyFrom(right)
        (resize,) = [node for node in wrong.graph.node if node.op_type == 'Resize']
        del resize.attribute[:]
        resize.attribute.append(onnx.helper.make_attribute('mode', 'nearest'))
        return wrong

    monkeypatch.setattr(export_head, 'add_head', shifted)
    with pytest.raises(ExportError, match='the head differs from its logits: HeadParity'):
        fuse_bundle(Bundle.load(palette_bundle), tmp_path / 'wrong', 4, {})
    assert not (tmp_path / 'wrong').exists()


def test_weights_are_still_all_initializers(plain, tmp_path):
    fused = add_head(plain, 8, 2)
    assert [t.name for t in fused.graph.initializer] == [t.name for t in plain.graph.initializer]
    onnx.save(fused, tmp_path / 'model.onnx')
    assert check_head(plain, tmp_path / 'model.onnx', 32).max_logit_error == 0


def test_fused_graphs_parse_in_tensorrt(plain):
    trt = pytest.importorskip('tensorrt_rtx')
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)  # the network must not outlive it
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(add_head(plain, 8, 4).SerializeToString()), parser.get_error(0).desc()
    assert {network.get_output(i).name for i in range(network.num_outputs)} == {
        'logits',
        'label_map',
        'confidence',
    }
