"""The argmax and the confidence as part of an ONNX graph, beside the logits.

A fused graph has the inputs ``images``, ``logit_bias`` ``(C,)`` and ``temperature`` ``()``, both
float32 (see inference/head.py), and three outputs of which an engine computes those it is asked
for: ``logits``; ``label_map`` uint8 ``(N, H / label_stride, W / label_stride)``, the argmax of
the scores after bilinear upsampling from the logits' stride; and ``confidence`` float32
``(N, h, w)``, the largest softmax of the scores at the logits' own size. The weights are the same
for all of them: one file serves who wants labels and who wants logits.

Needs onnx, but no PyTorch: the robot adds the head too, for its GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from offroad_seg_core.inference.graph_names import (
    CONFIDENCE,
    IMAGES,
    LABEL_MAP,
    LOGIT_BIAS,
    LOGITS,
    TEMPERATURE,
)

_PREFIX = 'fused/'
_Step = tuple[str, list[str], str, dict[str, Any]]  # operator, inputs, output, attributes


def logits_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the part of a graph that leads from the images to the logits."""
    if {value.name for value in model.graph.output} == {LOGITS}:
        return model
    return Extractor(model).extract_model([IMAGES], [LOGITS])


def add_head(model: onnx.ModelProto, stride: int, label_stride: int) -> onnx.ModelProto:
    """Return a graph of logits with the label head added.

    Args:
        model: ``images`` to ``logits`` ``(N, C, h, w)`` float32; not changed.
        stride: Of the logits.
        label_stride: Of the labels.

    Raises:
        ValueError: ``label_stride`` does not divide ``stride``.
    """
    if label_stride < 1 or stride % label_stride:
        raise ValueError(f'got label_stride {label_stride}, expected a divisor of {stride}')
    fused = onnx.ModelProto()
    fused.CopyFrom(model)
    graph = fused.graph
    num_classes = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    steps: list[_Step] = [
        _constant('shape', [1, -1, 1, 1], np.int64),
        ('Div', [LOGITS, TEMPERATURE], 'scaled', {}),
        ('Reshape', [LOGIT_BIAS, 'shape'], 'bias', {}),
        ('Add', ['scaled', 'bias'], 'scores', {}),
        ('Softmax', ['scores'], 'probs', {'axis': 1}),
        *_highest('probs', CONFIDENCE, _opset(model)),
    ]
    large = 'scores'
    if stride > label_stride:
        large, factor = 'large', stride // label_stride
        bilinear = {'mode': 'linear', 'coordinate_transformation_mode': 'half_pixel'}
        steps += [
            _constant('factors', [1, 1, factor, factor], np.float32),
            ('Resize', ['scores', '', 'factors'], large, bilinear),
        ]
    steps += [
        ('ArgMax', [large], 'ids', {'axis': 1, 'keepdims': 0}),
        # TensorRT makes 8-bit integers of floats only.
        ('Cast', ['ids'], 'numbers', {'to': TensorProto.FLOAT}),
        ('Cast', ['numbers'], LABEL_MAP, {'to': TensorProto.UINT8}),
    ]
    graph.node.extend(_node(*step) for step in steps)
    batch, *_ = (dim.dim_param or dim.dim_value for dim in _shape(graph.input[0]))
    float_of, small = TensorProto.FLOAT, [batch, 'h', 'w']
    graph.input.append(helper.make_tensor_value_info(LOGIT_BIAS, float_of, [num_classes]))
    graph.input.append(helper.make_tensor_value_info(TEMPERATURE, float_of, []))
    labels = helper.make_tensor_value_info(LABEL_MAP, TensorProto.UINT8, [batch, 'H', 'W'])
    graph.output.append(labels)
    graph.output.append(helper.make_tensor_value_info(CONFIDENCE, float_of, small))
    onnx.checker.check_model(fused, full_check=True)
    return fused


def _highest(source: str, output: str, opset: int) -> list[_Step]:
    if opset < 18:  # the axes became an input there
        return [('ReduceMax', [source], output, {'axes': [1], 'keepdims': 0})]
    reduce = ('ReduceMax', [source, 'axes'], output, {'keepdims': 0})
    return [_constant('axes', [1], np.int64), reduce]


def _opset(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if not entry.domain)


def _constant(name: str, values: list[int], dtype: type) -> _Step:
    # No initializer: those of float are the network's weights, see state_dict_from_onnx.
    value = numpy_helper.from_array(np.array(values, dtype))
    return 'Constant', [], name, {'value': value}


def _node(op_type: str, inputs: list[str], output: str, attributes: dict) -> onnx.NodeProto:
    named = {LOGITS, LOGIT_BIAS, TEMPERATURE, LABEL_MAP, CONFIDENCE, ''}
    full = [name if name in named else _PREFIX + name for name in [*inputs, output]]
    return helper.make_node(op_type, full[:-1], full[-1:], _PREFIX + output, **attributes)


def _shape(value: onnx.ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim
