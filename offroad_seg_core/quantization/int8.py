"""Float ONNX graphs to int8: QuantizeLinear and DequantizeLinear around convolutions and sums.

One file serves every engine that computes in int8. OpenVINO runs it as fast as what its own NNCF
makes of the same network (DDRNet-23-slim at 384x672, one thread: 24.6 ms against 24.6 ms of CPU
time; float32 84, bfloat16 42), and TensorRT's parser takes it, because activations are symmetric
int8 and biases stay float32. ONNX Runtime on x86 would rather have unsigned activations, which
TensorRT reads as if they were signed: there it is hardly faster than float32.

Scales: per channel for weights, per tensor for activations, from the smallest and largest values
on the calibration frames (Wu et al., "Integer Quantization for Deep Learning Inference",
arXiv 2004.09602). Sums are quantised at their inputs, as TensorRT wants it for residuals.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from inspect import signature
from pathlib import Path
import re

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from offroad_seg_core.inference.export import store_as_fp16
from offroad_seg_core.inference.graph_names import IMAGES
from offroad_seg_core.inference.label_head import logits_only

WEIGHTED = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
_QUANTIZED = (*WEIGHTED, 'Add')
MIN_BLOCKS = 8


class QuantizationError(ValueError):
    """A graph cannot be quantised, or not within the limits."""


class Quantizer:
    """Writes int8 versions of one graph, calibrated once.

    Args:
        file: A float graph of a bundle; what comes behind the logits is cut off.
        batches: Calibration inputs, each float32 ``(1, 3, H, W)``.
        folder: For files in between; must outlive the quantizer.

    Raises:
        QuantizationError: There is nothing to quantise.

    Attributes:
        prepared: The float graph with norms folded into convolutions.
        blocks: Name of a part of the network -> names of its nodes that can be quantised.
    """

    def __init__(self, file: Path, batches: Sequence[NDArray[np.float32]], folder: Path) -> None:
        plain = _named(logits_only(onnx.load(file)))
        source = folder / 'float.onnx'
        onnx.save(plain, source)
        self.prepared = folder / 'prepared.onnx'
        quant_pre_process(source, self.prepared, skip_symbolic_shape=True)
        self.blocks = find_blocks(plain, onnx.load(self.prepared))
        if not self.blocks:
            raise QuantizationError(f'{file}: got no weighted layers, expected some of {WEIGHTED}')
        self._batches = batches
        # ONNX Runtime for Python 3.10 cannot keep what it measured, and measures for each graph.
        can_keep = 'calibration_cache_path' in signature(quantize_static).parameters
        ranges = folder / 'ranges.json'
        self._kept_ranges = {'calibration_cache_path': ranges} if can_keep else {}

    def write(self, path: Path, float_blocks: Collection[str] = ()) -> None:
        """Write the int8 graph.

        Args:
            path: The file.
            float_blocks: Names of blocks that stay float.

        Raises:
            QuantizationError: The result breaks a rule of TensorRT's parser.
        """
        nodes = [n for name, b in self.blocks.items() if name not in float_blocks for n in b]
        quantize_static(
            self.prepared,
            path,
            _Reader(self._batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(_QUANTIZED),
            nodes_to_quantize=nodes,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                'ActivationSymmetric': True,
                'WeightSymmetric': True,
                'QuantizeBias': False,
                'OpTypesToExcludeOutputQuantization': list(_QUANTIZED),
            },
            **self._kept_ranges,
        )
        model = store_as_fp16(onnx.load(path))
        check_tensorrt_rules(model)
        onnx.save(model, path)


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Sequence[NDArray[np.float32]]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input; None after the last."""
        images = next(self._batches, None)
        return None if images is None else {IMAGES: images}


def check_tensorrt_rules(model: onnx.ModelProto) -> None:
    """Refuse what TensorRT's parser does not read, or reads as something else.

    Raises:
        QuantizationError: A zero point is not 0, or a quantised value is not int8.
    """
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ('QuantizeLinear', 'DequantizeLinear'):
            continue
        zero = numpy_helper.to_array(values[node.input[2]])
        if zero.dtype != np.int8 or zero.any():
            raise QuantizationError(
                f'{node.name}: got zero point {np.unique(zero).tolist()} of {zero.dtype}, '
                'expected 0 of int8; another version of onnxruntime quantises differently'
            )


def find_blocks(plain: onnx.ModelProto, prepared: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Return the parts of a network with the names of their nodes, in the order of the graph.

    A block is named by the first words of its weights' names: as few words as give MIN_BLOCKS
    blocks or more. A sum belongs to the block whose layer feeds it last.

    Args:
        plain: Graph whose weights have the names of the state dict.
        prepared: The same with norms folded; nodes kept their names.
    """
    weights = {tensor.name for tensor in plain.graph.initializer}
    casts = {node.output[0]: node.input[0] for node in plain.graph.node if node.op_type == 'Cast'}
    weight_of = {
        node.name: casts.get(node.input[1], node.input[1])
        for node in plain.graph.node
        if node.op_type in WEIGHTED
    }
    names = {node: name for node, name in weight_of.items() if name in weights}
    depth = next(
        (
            n
            for n in range(1, 6)
            if len({_words(name, n) for name in names.values()}) >= MIN_BLOCKS
        ),
        6,
    )
    constants = {tensor.name for tensor in prepared.graph.initializer}
    latest: dict[str, tuple[int, str]] = {}  # of each tensor: the last layer before it, its block
    blocks: dict[str, list[str]] = {}
    for place, node in enumerate(prepared.graph.node):
        last = max((latest[name] for name in node.input if name in latest), default=(-1, ''))
        if node.name in names:
            last = place, _words(names[node.name], depth)
        is_sum = node.op_type == 'Add' and not constants.intersection(node.input)
        if last[1] and (is_sum or node.name in names):
            blocks.setdefault(last[1], []).append(node.name)
        latest.update(dict.fromkeys(node.output, last))
    return {name: tuple(nodes) for name, nodes in blocks.items()}


def _words(name: str, count: int) -> str:
    return '.'.join(re.split(r'[./]', name)[:-1][:count]) or name


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every node a name of its own: layers are left out by name."""
    if len({node.name for node in model.graph.node}) == len(model.graph.node):
        return model
    for index, node in enumerate(model.graph.node):
        node.name = f'{index}_{node.op_type}'
    return model
