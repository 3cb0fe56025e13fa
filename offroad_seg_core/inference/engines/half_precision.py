"""Float16 written into an ONNX graph, where the network's values fit it.

The conversion is ONNX Runtime's own. What it does not know is how large the values get: a node
that reaches float16's range on test images stays in float32, as NVIDIA's AutoCast does it
(docs.nvidia.com, Model Optimizer, "AutoCast"), but without PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.preprocess import Normalizer

MAX_VALUE = 65504.0 / 4
"""Values above keep float32: other images reach further than the tested ones."""


def to_half_precision(model: Any, spec: InputSpec) -> Any:
    """Return a graph that computes in float16; its inputs and outputs stay float32.

    Args:
        model: float32 ``onnx.ModelProto`` with one input of a fixed shape ``(1, 3, H, W)``.
        spec: how images become that input.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    for index, node in enumerate(model.graph.node):
        node.name = f'{index}_{node.op_type}_{node.name}'  # the converter knows nodes by names
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    images = _test_images((shape[2], shape[3]))
    normalize = Normalizer(spec.mean, spec.std)
    large = _large_tensors(model, [normalize(image[np.newaxis]).copy() for image in images])
    blocked = [
        node.name for node in model.graph.node if large.intersection([*node.input, *node.output])
    ]
    half = convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked)
    _stay_in_float32(half)
    tidy = OnnxModel(half)
    tidy.prune_graph()
    tidy.topological_sort()  # the converter appends its casts
    return tidy.model


def _stay_in_float32(model: Any) -> None:
    """Undo the casts to float16 and back by which the converter joins two float32 nodes."""
    from onnx import TensorProto

    casts = {
        node.output[0]: (node.input[0], node.attribute[0].i)
        for node in model.graph.node
        if node.op_type == 'Cast'
    }
    sources = {
        output: casts[source][0]
        for output, (source, kind) in casts.items()
        if kind == TensorProto.FLOAT
        and source in casts
        and casts[source][1] == TensorProto.FLOAT16
    }
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = sources.get(name, name)


def _test_images(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Return what drives a network to its extremes: noise, black, white, and hard edges."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    stripes = np.zeros((*size, 3), np.uint8)
    stripes[:, ::2] = 255
    blocks = np.kron(noise[: size[0] // 16, : size[1] // 16], np.ones((16, 16, 1), np.uint8))
    plain = [np.full((*size, 3), value, np.uint8) for value in (0, 255)]
    return [noise, stripes, np.ascontiguousarray(blocks), *plain]


def _large_tensors(model: Any, inputs: list[NDArray[np.float32]]) -> set[str]:
    """Return the names of tensors and weights that exceed MAX_VALUE on the inputs."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    import onnxruntime

    large = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and np.abs(numpy_helper.to_array(tensor)).max(initial=0.0) > MAX_VALUE
    }
    typed = onnx.shape_inference.infer_shapes(model).graph
    floats = [
        value.name
        for value in (*typed.value_info, *typed.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    # The largest value of each tensor is an output of its own: the tensors themselves would all
    # have to be kept until the end.
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for index, name in enumerate(floats):
        sizes = f'probe/{index}_abs', f'probe/{index}_max'
        probe.graph.node.append(helper.make_node('Abs', [name], [sizes[0]]))
        probe.graph.node.append(helper.make_node('ReduceMax', [sizes[0]], [sizes[1]], keepdims=0))
        probe.graph.output.append(helper.make_tensor_value_info(sizes[1], TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=['CPUExecutionProvider']
    )
    name = session.get_inputs()[0].name
    peaks = np.max([np.stack(session.run(None, {name: batch})) for batch in inputs], axis=0)
    return large | {name for name, peak in zip(floats, peaks, strict=True) if not peak < MAX_VALUE}
