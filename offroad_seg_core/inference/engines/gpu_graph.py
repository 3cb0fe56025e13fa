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
from offroad_seg_core.inference.engines.base import EngineError, EngineUnavailableError
from offroad_seg_core.inference.manifest import InputSpec, OutputSpec

GRAPH_VERSION = 1
"""Raised with every change of what this module makes: cached engines are then built again."""
CAMERA, LOGITS, LABEL_MAP, CONFIDENCE = 'camera', 'logits', 'label_map', 'confidence'
_NETWORK = 'network/'
# What makes ONNX Runtime's own kernels happy and TensorRT's parser refuse the graph: biases with
# int32 scales, and one DequantizeLinear for each reader of a weight.
_QDQ_REWRITES = ('WeightBiasQuantization', 'EnsureUniqueDQForNodeUnit')


def gpu_graph(bundle: Bundle, precision: str, size: tuple[int, int]) -> Any:
    """Return the graph (an ``onnx.ModelProto``) for one precision and (height, width).

    Input ``camera``: uint8 ``(1, H, W, 3)`` in the bundle's colour order. Outputs: ``logits``
    float32 ``(1, C, h, w)`` as the bundle's own, ``label_map`` uint8 ``(1, H, W)`` (the argmax of
    the bilinearly upsampled logits) and ``confidence`` float32 ``(1, h, w)`` (the largest softmax
    at the logits' size). A bundle that ends in labels has no ``logits``, and ``confidence`` only
    if it has it itself.

    Args:
        bundle: the verified bundle.
        precision: `fp16` (the bundle's own file, else converted from fp32), `fp32` or `int8` (the
            bundle's file with QuantizeLinear and DequantizeLinear; what is not quantised stays
            float32, because float16 cannot hold the scales).
        size: multiples of the bundle's stride.

    Raises:
        EngineUnavailableError: onnx or onnxruntime is not installed.
        EngineError: the file is no graph with one image input.
        BundleError: the bundle has no file of this precision.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise EngineUnavailableError(
            f'building an engine needs onnx and onnxruntime ({error}); fix: pip install onnx '
            'onnxruntime'
        ) from error
    converts = precision == 'fp16' and 'fp16' not in bundle.precisions
    file = bundle.model_file('fp32' if converts else precision)
    model = onnx.load(file)
    if len(model.graph.input) != 1:
        names = [value.name for value in model.graph.input]
        raise EngineError(f'{file}: got the inputs {names}, expected the images alone')
    spec, outputs = bundle.manifest.input, bundle.manifest.outputs
    model = folded(model, (1, 3, *size))
    if converts:
        from offroad_seg_core.inference.engines.half_precision import to_half_precision

        model = to_half_precision(model, spec)
    return _with_ends(model, spec, outputs, size)


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


def _with_ends(model: Any, spec: InputSpec, outputs: OutputSpec, size: tuple[int, int]) -> Any:
    from onnx import TensorProto, checker, compose, helper

    model = compose.add_prefix(model, _NETWORK)
    graph = model.graph
    images, results = graph.input[0].name, [value.name for value in graph.output]
    front = _Nodes('front')
    image = front.add('Cast', CAMERA, to=TensorProto.FLOAT)
    image = front.add('Sub', image, front.constant(np.reshape(spec.mean, (1, 1, 1, 3))))
    image = front.add('Div', image, front.constant(np.reshape(spec.std, (1, 1, 1, 3))))
    image = front.add('Transpose', image, perm=[0, 3, 1, 2])
    kind = graph.input[0].type.tensor_type.elem_type  # float16 in some files of that precision
    front.add('Cast', image, output=images, to=kind)
    back = _Nodes('back')
    if outputs.kind == 'logits':
        opset = next(entry.version for entry in model.opset_import if entry.domain == '')
        _label_head(back, results[0], outputs.stride, opset)
    else:
        _cast_labels(back, results[0])
        if len(results) > 1:
            back.add('Cast', results[1], output=CONFIDENCE, to=TensorProto.FLOAT)
    nodes = [*front.nodes, *graph.node, *back.nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*front.initializers, *back.initializers])
    height, width = size
    h, w = height // outputs.stride, width // outputs.stride
    shapes = {
        LOGITS: (TensorProto.FLOAT, [1, outputs.num_classes, h, w]),
        LABEL_MAP: (
            TensorProto.UINT8,
            [1, height, width] if outputs.kind == 'logits' else [1, h, w],
        ),
        CONFIDENCE: (TensorProto.FLOAT, [1, h, w]),
    }
    made = {name for node in back.nodes for name in node.output}
    del graph.input[:], graph.output[:]
    graph.input.append(
        helper.make_tensor_value_info(CAMERA, TensorProto.UINT8, [1, height, width, 3])
    )
    graph.output.extend(
        helper.make_tensor_value_info(name, *kind) for name, kind in shapes.items() if name in made
    )
    try:
        checker.check_model(model, full_check=True)
    except Exception as error:  # ValidationError and InferenceError share no base of their own
        raise EngineError(
            f'the graph is not what its manifest says ({outputs}): {error}; fix: export the '
            'bundle again'
        ) from error
    return model


def _label_head(back: _Nodes, logits: str, stride: int, opset: int) -> None:
    from onnx import TensorProto

    large = logits = back.add('Cast', logits, output=LOGITS, to=TensorProto.FLOAT)
    if stride > 1:
        scales = back.constant([1, 1, stride, stride])
        bilinear = {'mode': 'linear', 'coordinate_transformation_mode': 'half_pixel'}
        large = back.add('Resize', logits, '', scales, **bilinear)
    _cast_labels(back, back.add('ArgMax', large, axis=1, keepdims=0))
    probs = back.add('Softmax', logits, axis=1)
    if opset >= 18:  # the axes became an input
        axes = back.constant([1], np.int64)
        back.add('ReduceMax', probs, axes, output=CONFIDENCE, keepdims=0)
    else:
        back.add('ReduceMax', probs, output=CONFIDENCE, axes=[1], keepdims=0)


def _cast_labels(back: _Nodes, labels: str) -> None:
    from onnx import TensorProto

    # TensorRT makes 8-bit outputs from floats only.
    floats = back.add('Cast', labels, to=TensorProto.FLOAT)
    back.add('Cast', floats, output=LABEL_MAP, to=TensorProto.UINT8)


class _Nodes:
    """Nodes and constants that are being added to a graph, named after their part."""

    def __init__(self, part: str) -> None:
        self._part = part
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def add(self, op_type: str, *inputs: str, output: str = '', **attributes: Any) -> str:
        """Append a node and return its output's name."""
        from onnx import helper

        name = f'{self._part}/{len(self.nodes)}_{op_type}'
        output = output or name
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))
        return output

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f'{self._part}/constant_{len(self.initializers)}'
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name
