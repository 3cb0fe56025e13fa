"""The ONNX graph that GPU engines run: camera bytes in, labels, confidence and logits out.

Made from a bundle's file: one fixed size, constants folded, precision written into the graph
(TensorRT's strong typing takes it from there and from nowhere else), normalisation in front and
the argmax behind. So 8-bit pixels go up and 8-bit labels come back; logits are copied only for
those who need them.
"""

from __future__ import annotations

from pathlib import Path
import tempfile
from typing import Any

import numpy as np

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import (
    EngineError,
    EngineUnavailableError,
    EngineUnsupportedError,
)
from offroad_seg_core.inference.graph_names import CAMERA, CONFIDENCE, IMAGES, LABEL_MAP, LOGITS
from offroad_seg_core.inference.manifest import InputSpec

GRAPH_VERSION = 1
"""Raised with every change of what this module makes: cached engines are then built again."""
_NETWORK = 'network/'
# What makes ONNX Runtime's own kernels happy and TensorRT's parser refuse the graph: biases with
# int32 scales, and one DequantizeLinear for each reader of a weight.
_QDQ_REWRITES = ('WeightBiasQuantization', 'EnsureUniqueDQForNodeUnit')


def gpu_graph(bundle: Bundle, precision: str, size: tuple[int, int]) -> Any:
    """Return the graph (an ``onnx.ModelProto``) for one precision and (height, width).

    Input ``camera``: uint8 ``(1, H, W, 3)`` in the bundle's colour order. The rest is a fused
    graph, see inference/label_head.py; labels have the input's size unless the bundle is fused
    itself and has another stride. A bundle that ends in labels has no ``logits``, no inputs of
    the head, and ``confidence`` only if it has it itself.

    Args:
        bundle: the verified bundle.
        precision: `fp16` (the bundle's own file, else converted from fp32), `fp32` or `int8` (the
            bundle's file with QuantizeLinear and DequantizeLinear; what is not quantised stays
            float32, because float16 cannot hold the scales).
        size: multiples of the bundle's stride.

    Raises:
        EngineUnavailableError: onnx or onnxruntime is not installed.
        EngineUnsupportedError: the file is no graph with one image input.
        BundleError: the bundle has no file of this precision.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise EngineUnavailableError(
            f'building an engine needs onnx and onnxruntime ({error}); fix: make vehicle '
            'GPU=1, or pip install onnx onnxruntime'
        ) from error
    from offroad_seg_core.inference import label_head

    file, outputs = bundle.source_file(precision), bundle.manifest.outputs
    model = onnx.load(file)
    if outputs.kind == 'fused':
        model = label_head.logits_only(model)
    if len(model.graph.input) != 1:
        found = [value.name for value in model.graph.input]
        raise EngineUnsupportedError(f'{file}: got the inputs {found}, expected the images alone')
    model = folded(model, (1, 3, *size))
    if precision == 'fp16' and precision not in bundle.precisions:
        from offroad_seg_core.inference.engines.half_precision import to_half_precision

        model = to_half_precision(model, bundle.manifest.input)
    small = [1, size[0] // outputs.stride, size[1] // outputs.stride]
    if outputs.kind == 'labels':
        shapes = {LABEL_MAP: small, CONFIDENCE: small}
    else:
        shapes = {LOGITS: [1, outputs.num_classes, *small[1:]]}
    model = _with_ends(model, bundle.manifest.input, size, shapes)
    try:
        if outputs.kind != 'labels':
            model = label_head.add_head(model, outputs.stride, outputs.label_stride or 1)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # ValidationError and InferenceError share no base of their own
        raise EngineUnsupportedError(
            f'{file} is not what its manifest says ({outputs}): {error}'
        ) from error
    return model


def folded(model: Any, shape: tuple[int, ...]) -> Any:
    """Return the graph with a fixed input shape and everything computed that the input is not in.

    ONNX Runtime's basic optimisations do it; they keep to the operators of the standard.
    TensorRT's parser refuses axes and sizes that a graph computes, even from constants.

    Raises:
        EngineError: ONNX Runtime cannot read the graph.
    """
    import onnx
    import onnxruntime

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dim, value in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = value
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / 'folded.onnx')
        try:
            onnxruntime.InferenceSession(
                fixed.SerializeToString(),
                options,
                providers=['CPUExecutionProvider'],
                disabled_optimizers=list(_QDQ_REWRITES),
            )
        except Exception as error:  # the binding raises a dozen unrelated types
            raise EngineError(
                f'the graph does not take an input of shape {shape}: {error}'
            ) from error
        result = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in result.graph.node}
    opsets = [entry for entry in result.opset_import if entry.domain in used]
    del result.opset_import[:]
    result.opset_import.extend(opsets)
    return result


def _with_ends(
    model: Any, spec: InputSpec, size: tuple[int, int], shapes: dict[str, list[int]]
) -> Any:
    """Put the normalisation in front; give the outputs the names and shapes they should have."""
    from onnx import TensorProto, compose, helper, numpy_helper

    model = compose.add_prefix(model, _NETWORK)
    graph = model.graph
    images, *_ = graph.input
    kind = images.type.tensor_type.elem_type  # float16 in some files of that precision
    for name, values in (('mean', spec.mean), ('std', spec.std)):
        array = np.reshape(values, (1, 1, 1, 3)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(array, f'front/{name}'))
    front = [
        _node('Cast', [CAMERA], 'front/float', to=TensorProto.FLOAT),
        _node('Sub', ['front/float', 'front/mean'], 'front/centred'),
        _node('Div', ['front/centred', 'front/std'], 'front/scaled'),
        _node('Transpose', ['front/scaled'], IMAGES, perm=[0, 3, 1, 2]),
        _node('Cast', [IMAGES], images.name, to=kind),
    ]
    back, results = [], []
    for value, (name, shape) in zip(graph.output, shapes.items(), strict=False):
        source, result = value.name, TensorProto.FLOAT
        if name == LABEL_MAP:
            # TensorRT makes 8-bit integers of floats only.
            source, result = 'back/float', TensorProto.UINT8
            back.append(_node('Cast', [value.name], source, to=TensorProto.FLOAT))
        back.append(_node('Cast', [source], name, to=result))
        results.append(helper.make_tensor_value_info(name, result, shape))
    nodes = [*front, *graph.node, *back]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    camera = helper.make_tensor_value_info(CAMERA, TensorProto.UINT8, [1, *size, 3])
    graph.input.append(camera)
    graph.output.extend(results)
    return model


def _node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(op_type, inputs, [output], name=f'{op_type} {output}', **attributes)
