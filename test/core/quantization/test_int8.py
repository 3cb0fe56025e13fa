"""Int8 graphs: what is quantised, what TensorRT reads, and that labels stay."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import onnxruntime
import pytest

from offroad_seg_core.inference.graph_names import IMAGES, LOGITS
from offroad_seg_core.inference.label_head import add_head
from offroad_seg_core.quantization.calibration import load_calibration
from offroad_seg_core.quantization.int8 import (
    QuantizationError,
    Quantizer,
    check_tensorrt_rules,
)


@pytest.fixture(scope='module')
def batches(student, pictures):
    return load_calibration(pictures, student.manifest.input).batches(student.manifest.input)


@pytest.fixture(scope='module')
def quantizer(student, batches, tmp_path_factory):
    folder = tmp_path_factory.mktemp('quantizer')
    return Quantizer(student.model_file('fp32'), batches, folder)


@pytest.fixture(scope='module')
def graph(quantizer, tmp_path_factory):
    path = tmp_path_factory.mktemp('int8') / 'model.onnx'
    quantizer.write(path)
    return path


def logits(file, images):
    return onnxruntime.InferenceSession(file).run([LOGITS], {IMAGES: images})[0]


def producers(model):
    return {name: node for node in model.graph.node for name in node.output}


def is_quantized(model, node):
    made = producers(model)
    return all(
        name in made and made[name].op_type == 'DequantizeLinear' for name in node.input[:2]
    )


def test_every_layer_and_every_sum_is_int8(graph):
    model = onnx.load(graph)
    kinds = {'Conv': 11, 'Add': 9}
    for kind, count in kinds.items():
        nodes = [node for node in model.graph.node if node.op_type == kind]
        assert len(nodes) == count
        assert all(is_quantized(model, node) for node in nodes)
    assert not [node for node in model.graph.node if node.op_type == 'BatchNormalization']
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == 'Conv':
            source = producers(model)[node.input[1]].input[0]
            assert weights[source].data_type == TensorProto.INT8
            scales = numpy_helper.to_array(weights[producers(model)[node.input[1]].input[1]])
            assert scales.shape == (weights[source].dims[0],)  # one a channel
            assert weights[node.input[2]].data_type == TensorProto.FLOAT  # the bias


def test_activations_are_quantised_by_hand(graph, quantizer, batches):
    """The scale of the input: its largest magnitude over 127."""
    model = onnx.load(graph)
    (node,) = [
        n for n in model.graph.node if n.op_type == 'QuantizeLinear' and n.input[0] == IMAGES
    ]
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    scale = float(numpy_helper.to_array(values[node.input[1]]))
    assert scale == pytest.approx(max(np.abs(batch).max() for batch in batches) / 127, rel=1e-5)


def test_labels_stay(graph, student, batches):
    agreements = [
        (logits(graph, images).argmax(1) == logits(student.model_file('fp32'), images).argmax(1))
        for images in batches[:8]
    ]
    assert np.mean(agreements) > 0.97


def test_any_input_size(graph):
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 64)).astype(np.float32)
    assert logits(graph, images).shape == (2, 10, 8, 16)


def test_blocks_are_the_parts_of_the_network(quantizer):
    assert list(quantizer.blocks) == ['stem', *(f'block{n}' for n in range(9)), 'head']
    assert [len(nodes) for nodes in quantizer.blocks.values()] == [1, *[2] * 9, 1]


def test_float_blocks_stay_float(quantizer, tmp_path):
    file = tmp_path / 'mixed.onnx'
    quantizer.write(file, ['block4', 'head'])
    model = onnx.load(file)
    names = {name for block in ('block4', 'head') for name in quantizer.blocks[block]}
    for node in model.graph.node:
        if node.op_type in ('Conv', 'Add'):
            assert is_quantized(model, node) == (node.name not in names), node.name


def test_a_fused_graph_is_quantised_up_to_its_logits(student, batches, graph, tmp_path):
    fused = add_head(onnx.load(student.model_file('fp32')), 4, 1)
    onnx.save(fused, tmp_path / 'fused.onnx')
    Quantizer(tmp_path / 'fused.onnx', batches, tmp_path).write(tmp_path / 'model.onnx')
    images = batches[3]
    np.testing.assert_array_equal(logits(tmp_path / 'model.onnx', images), logits(graph, images))


def test_it_parses_in_tensorrt(graph):
    trt = pytest.importorskip('tensorrt_rtx')
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)  # the network must not outlive it
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph.read_bytes()), parser.get_error(0).desc()


@pytest.mark.parametrize('zero', [np.uint8(0), np.int8(-128), np.int32(0)])
def test_what_tensorrt_would_misread_is_refused(zero):
    node = helper.make_node('DequantizeLinear', ['x', 'scale', 'zero'], ['y'], name='dq')
    values = [numpy_helper.from_array(np.array(v), n) for v, n in ((zero, 'zero'), (1.0, 'scale'))]
    model = helper.make_model(helper.make_graph([node], 'g', [], [], values))
    with pytest.raises(QuantizationError, match='dq: got zero point'):
        check_tensorrt_rules(model)


def test_a_graph_without_weights(tmp_path, batches):
    shape = ['n', 3, 'h', 'w']
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (IMAGES, LOGITS)
    ]
    graph = helper.make_graph(
        [helper.make_node('Relu', [IMAGES], [LOGITS])], 'g', *[[e] for e in ends]
    )
    file = tmp_path / 'model.onnx'
    opsets = [helper.make_opsetid('', 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), file)
    with pytest.raises(QuantizationError, match='no weighted layers'):
        Quantizer(file, batches, tmp_path)
