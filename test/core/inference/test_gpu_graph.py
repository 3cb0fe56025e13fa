"""The graph of GPU engines computes what the CPU path does, normalisation and argmax included."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx')
ort = pytest.importorskip('onnxruntime')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from offroad_seg_core.inference.bundle import Bundle, write_bundle  # noqa: E402
from offroad_seg_core.inference.decode import Decoder  # noqa: E402
from offroad_seg_core.inference.engines import EngineError, EngineOutput, create_engine  # noqa: E402
from offroad_seg_core.inference.engines.gpu_graph import folded, gpu_graph  # noqa: E402
from offroad_seg_core.inference.engines.half_precision import to_half_precision  # noqa: E402
from offroad_seg_core.inference.head import HeadInputs  # noqa: E402
from offroad_seg_core.inference.label_head import add_head  # noqa: E402
from offroad_seg_core.inference.manifest import InputSpec  # noqa: E402
from offroad_seg_core.taxonomy import load_taxonomy  # noqa: E402

SIZE = (64, 96)
SPEC = InputSpec(size=SIZE, mean=(127.5,) * 3, std=(127.5,) * 3)


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, ['CPUExecutionProvider'])


def run(model, images, head=None):
    """Return logits, labels and confidence of a graph with a head; neutral if none is given."""
    head = head or HeadInputs(np.zeros(10, np.float32))
    temperature = np.array(head.temperature, np.float32)
    inputs = {'camera': images, 'logit_bias': head.logit_bias, 'temperature': temperature}
    return session(model).run(['logits', 'label_map', 'confidence'], inputs)


def blobs(size, seed=0):
    """A picture of soft blobs: no pixel has two best classes."""
    import cv2

    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)[np.newaxis]


@pytest.fixture(scope='module')
def shipped(request):
    return Bundle.load(request.config.rootpath / 'models' / 'demo_desert')


@pytest.fixture(scope='module')
def palette(palette_bundle):
    return Bundle.load(palette_bundle)


@pytest.mark.parametrize(
    ('name', 'precision', 'tolerance', 'agreement'),
    [
        ('palette', 'fp32', 1e-5, 1.0),
        ('palette', 'fp16', 2e-3, 0.998),
        ('shipped', 'fp32', 1e-5, 1.0),
        ('shipped', 'fp16', 5e-3, 0.998),
    ],
)
def test_it_computes_what_the_cpu_path_computes(request, name, precision, tolerance, agreement):
    bundle = request.getfixturevalue(name)
    images = blobs(SIZE)
    output = create_engine(bundle, 'onnxruntime', 'fp32', 1).run(images)
    stride = bundle.manifest.outputs.label_stride or 1
    size = (SIZE[0] // stride, SIZE[1] // stride)
    expected = Decoder(size).label_map(output, range(10))
    graph = gpu_graph(bundle, precision, SIZE)
    ends = (*graph.graph.input, *graph.graph.output)
    assert {value.name: value.type.tensor_type.elem_type for value in ends} == {
        'camera': TensorProto.UINT8, 'logit_bias': TensorProto.FLOAT,
        'temperature': TensorProto.FLOAT, 'logits': TensorProto.FLOAT,
        'label_map': TensorProto.UINT8, 'confidence': TensorProto.FLOAT,
    }  # fmt: skip
    logits, label_map, confidence = run(graph, images)
    assert np.abs(logits - output.logits).max() <= tolerance * np.abs(output.logits).max()
    assert label_map.shape == (1, *size)
    assert (label_map[0] == expected).mean() >= agreement
    probs = np.exp(output.logits[0] - output.logits[0].max(0))
    np.testing.assert_allclose(confidence[0], (1 / probs.sum(0)), atol=0.02)


def test_absent_classes_never_win(palette):
    images = blobs(SIZE)
    head = HeadInputs.of_classes(10, (1, 4, 6))
    logits, label_map, _ = run(gpu_graph(palette, 'fp16', SIZE), images, head)
    expected = Decoder(SIZE).label_map(EngineOutput(logits), (1, 4, 6))
    assert set(np.unique(label_map)) <= {1, 4, 6}
    assert (label_map[0] == expected).mean() > 0.998


def test_a_fused_bundle_keeps_the_stride_of_its_labels(tmp_path, palette):
    file = tmp_path / 'fused.onnx'
    onnx.save(add_head(onnx.load(palette.model_file('fp32')), 8, 4), file)
    manifest = palette.manifest.model_dump(mode='json', exclude={'files'})
    manifest['outputs'] |= {'kind': 'fused', 'label_stride': 4}
    bundle = write_bundle(tmp_path / 'fused', manifest, {'model.onnx': file})
    images = blobs(SIZE)
    logits, label_map, confidence = run(gpu_graph(bundle, 'fp16', SIZE), images)
    assert (logits.shape, label_map.shape) == ((1, 10, 8, 12), (1, 16, 24))
    assert confidence.shape == (1, 8, 12)
    expected = Decoder((16, 24)).label_map(EngineOutput(logits), range(10))
    assert (label_map[0] == expected).mean() > 0.998


def test_half_precision_is_written_into_the_graph(palette):
    graph = gpu_graph(palette, 'fp16', SIZE).graph
    (weights,) = [tensor for tensor in graph.initializer if tensor.name.endswith('weight')]
    assert weights.data_type == TensorProto.FLOAT16


def scaling_model(factor, back=1.0):
    """images * factor * back: large in between, harmless at both ends."""
    constants = [
        numpy_helper.from_array(np.float32(value).reshape(1), name)
        for name, value in (('factor', factor), ('back', back))
    ]
    nodes = [
        helper.make_node('Mul', ['images', 'factor'], ['large']),
        helper.make_node('Mul', ['large', 'back'], ['result']),
    ]
    shape = [1, 3, *SIZE]
    graph = helper.make_graph(
        nodes,
        'scaling',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('result', TensorProto.FLOAT, shape)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)


def test_what_does_not_fit_float16_stays_float32():
    images = np.full((1, 3, *SIZE), 0.5, np.float32)
    half = to_half_precision(scaling_model(1e6, 1e-6), SPEC)
    (result,) = session(half).run(None, {'images': images})
    np.testing.assert_allclose(result, images, rtol=1e-3)
    small = to_half_precision(scaling_model(2.0, 0.5), SPEC)
    kinds = {tensor.data_type for tensor in small.graph.initializer}
    assert kinds == {TensorProto.FLOAT16}


def test_axes_that_the_graph_computes_become_constants(shipped):
    file = shipped.model_file('fp32')
    model = folded(onnx.load(file), (1, 3, *SIZE))
    constants = {tensor.name for tensor in model.graph.initializer}
    (mean,) = [node for node in model.graph.node if node.op_type == 'ReduceMean']
    assert mean.input[1] in constants
    assert {entry.domain for entry in model.opset_import} == {''}


def labels_bundle(folder, num_outputs):
    """A bundle whose graph ends in labels: channel 0 is the label, channel 1 its confidence."""
    nodes = [
        helper.make_node('ArgMax', ['images'], ['mine'], axis=1, keepdims=0),
        helper.make_node('ReduceMax', ['images'], ['sure'], axes=[1], keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info('mine', TensorProto.INT64, ['n', 'h', 'w']),
        helper.make_tensor_value_info('sure', TensorProto.FLOAT, ['n', 'h', 'w']),
    ]
    images = helper.make_tensor_value_info('images', TensorProto.FLOAT, ['n', 3, 'h', 'w'])
    graph = helper.make_graph(nodes[:num_outputs], 'labels', [images], outputs[:num_outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    file = folder / 'labels.onnx'
    onnx.save(model, file)
    manifest = {
        'name': 'labels',
        'taxonomy': load_taxonomy('falcon10').to_dict(),
        'input': {'size': SIZE, 'mean': [0.0] * 3, 'std': [255.0] * 3},
        'models': [{'precision': 'fp32', 'file': 'model.onnx'}],
        'outputs': {
            'kind': 'labels', 'stride': 1, 'num_classes': 10, 'has_confidence': num_outputs > 1,
        },
    }  # fmt: skip
    return write_bundle(folder / 'bundle', manifest, {'model.onnx': file})


@pytest.mark.parametrize('num_outputs', [1, 2])
def test_a_bundle_may_end_in_labels_itself(tmp_path, num_outputs):
    bundle = labels_bundle(tmp_path, num_outputs)
    images = blobs(SIZE)
    results = session(gpu_graph(bundle, 'fp32', SIZE)).run(None, {'camera': images})
    assert len(results) == num_outputs
    assert results[0].dtype == np.uint8
    np.testing.assert_array_equal(results[0], images.argmax(axis=3))
    if num_outputs > 1:
        np.testing.assert_allclose(results[1], images.max(axis=3) / 255, rtol=1e-6)


def test_a_file_of_another_precision_may_take_halves(tmp_path, palette):
    half = to_half_precision(folded(onnx.load(palette.model_file('fp32')), (1, 3, *SIZE)), SPEC)
    del half.graph.node[-1].output[:]  # the cast back to float32 ...
    (last,) = [node for node in half.graph.node if node.op_type == 'Conv']
    del half.graph.node[-1]
    last.output[0] = 'logits'  # ... goes, and the output is float16
    half.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    del half.graph.value_info[:]
    file = tmp_path / 'half.onnx'
    onnx.save(half, file)
    manifest = palette.manifest.model_dump(mode='json')
    del manifest['files']
    manifest['models'].append({'precision': 'fp16', 'file': 'half.onnx'})
    files = {'model.onnx': palette.model_file('fp32'), 'half.onnx': file}
    bundle = write_bundle(tmp_path / 'both', manifest, files)
    images = blobs(SIZE)
    logits, _, _ = run(gpu_graph(bundle, 'fp16', SIZE), images)
    assert logits.dtype == np.float32
    expected, _, _ = run(gpu_graph(palette, 'fp32', SIZE), images)
    assert np.abs(logits - expected).max() < 2e-3 * np.abs(expected).max()


def test_graphs_that_do_not_fit_are_refused(tmp_path, palette):
    model = onnx.load(palette.model_file('fp32'))
    model.graph.node[0].op_type = 'Frobnicate'
    with pytest.raises(EngineError, match='Frobnicate'):
        folded(model, (1, 3, *SIZE))
    model = onnx.load(palette.model_file('fp32'))
    model.graph.input.append(helper.make_tensor_value_info('more', TensorProto.FLOAT, [1]))
    onnx.save(model, tmp_path / 'two.onnx')
    manifest = palette.manifest.model_dump(mode='json')
    del manifest['files']
    bundle = write_bundle(tmp_path / 'two', manifest, {'model.onnx': tmp_path / 'two.onnx'})
    with pytest.raises(EngineError, match=r"\['images', 'more'\], expected the images alone"):
        gpu_graph(bundle, 'fp32', SIZE)
    manifest['outputs']['stride'] = 4
    wrong = write_bundle(tmp_path / 'wrong', manifest, {'model.onnx': palette.model_file('fp32')})
    with pytest.raises(EngineError, match='not what its manifest says'):
        gpu_graph(wrong, 'fp32', SIZE)
