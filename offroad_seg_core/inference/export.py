"""From a PyTorch model to one ONNX file, and the proof that both compute the same.

The file stores large weights as float16 (half the size) and casts them back to float32 in the
graph: engines fold the casts when they load it, and compute in whatever precision they choose.
Initializers keep the names of the state dict, so that the PyTorch engine can rebuild the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
import torch
from torch import Tensor, nn

from offroad_seg_core.files import atomic_path
from offroad_seg_core.inference.graph_names import IMAGES, LOGITS

log = logging.getLogger(__name__)

OPSET = 18
MIN_FP16_ELEMENTS = 4096  # smaller tensors (norms, biases) stay exact: they cost no space
MAX_LOGIT_ERROR = 1e-3  # of the largest logit
MIN_LABEL_AGREEMENT = 0.9999


class ExportError(ValueError):
    """A model cannot be exported, or the export does not compute what the model does."""


@dataclass(frozen=True)
class Parity:
    """How far the exported file is from PyTorch on some images.

    Attributes:
        max_abs_error: Largest difference of a logit.
        max_rel_error: The same, divided by the largest logit.
        label_agreement: Share of pixels with the same class.
        sizes: (height, width) of the images that were compared.
    """

    max_abs_error: float
    max_rel_error: float
    label_agreement: float
    sizes: tuple[tuple[int, int], ...]


def export_onnx(model: nn.Module, path: str | Path) -> Parity:
    """Write a model as ONNX with float16-stored weights and check the result.

    Batch, height and width are dynamic; height and width are multiples of the model's
    ``input_multiple``. Input ``images``: normalised float32 ``(N, 3, H, W)``; output ``logits``:
    float32 ``(N, C, H / stride, W / stride)``.

    Args:
        model: In eval mode. Its large weights are rounded to float16 values, in place.
        path: The file.

    Raises:
        ExportError: A weight does not fit float16, the file lost a weight, or it computes
            something else than the model.
    """
    if model.training:
        raise ExportError('the model is in training mode; call eval() before the export')
    round_weights(model)
    multiple = int(model.input_multiple)  # type: ignore[arg-type]
    with atomic_path(path) as temporary:
        onnx.save(_cleaned(_trace(model, multiple)), temporary)
        _check_weights(model, temporary)
        parity = compare(
            model, temporary, [(4 * multiple, 6 * multiple), (7 * multiple, 5 * multiple)]
        )
        if parity.max_rel_error > MAX_LOGIT_ERROR or parity.label_agreement < MIN_LABEL_AGREEMENT:
            raise ExportError(
                f'{path}: the exported model differs from PyTorch: {parity}; expected a relative '
                f'error <= {MAX_LOGIT_ERROR} and a label agreement >= {MIN_LABEL_AGREEMENT}'
            )
    log.info('%s: %s', path, parity)
    return parity


def state_dict_from_onnx(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of an exported file by their names in the model, as float32.

    Everything that computes is there. Counters of batch norm (``num_batches_tracked``) are not:
    load the result with ``strict=False``.
    """
    initializers = onnx.load(path).graph.initializer
    return {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        for tensor in initializers
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
    }


def round_weights(model: nn.Module) -> None:
    """Round the weights that are stored as float16 to float16 values, in place.

    Raises:
        ExportError: A weight is not finite in float16.
    """
    for name, value in model.state_dict().items():
        if _is_stored_as_fp16(value.numel(), value.is_floating_point()):
            rounded = value.half().to(value.dtype)
            if not torch.isfinite(rounded).all():
                raise ExportError(
                    f'{name}: largest value {value.abs().max():.3g} does not fit float16 '
                    '(65504); train with weight decay'
                )
            value.copy_(rounded)


def compare(model: nn.Module, path: str | Path, sizes: Sequence[tuple[int, int]]) -> Parity:
    """Compare a model with its ONNX file, run by ONNX Runtime, on noise and on a smooth picture.

    Args:
        model: In eval mode.
        path: The file.
        sizes: (height, width) to compare at.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, ['CPUExecutionProvider'])
    errors, magnitudes, agreements = [], [], []
    for index, size in enumerate(sizes):
        images = sample_images(size, seed=index)
        with torch.inference_mode():
            expected = model(images).numpy()
        (got,) = session.run([LOGITS], {IMAGES: images.numpy()})
        errors.append(np.abs(got - expected).max())
        magnitudes.append(np.abs(expected).max())
        agreements.append(np.mean(got.argmax(1) == expected.argmax(1)))
    return Parity(
        float(max(errors)),
        float(max(errors) / max(magnitudes)),
        float(np.mean(agreements)),
        tuple(sizes),
    )


def sample_images(size: tuple[int, int], seed: int) -> Tensor:
    """Return ``(2, 3, *size)``: white noise, and soft blobs over a gradient as in a picture."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 3, *size, generator=generator)
    blobs = nn.functional.interpolate(
        torch.randn(1, 3, 5, 7, generator=generator), size=size, mode='bicubic'
    )
    gradient = torch.linspace(1, -1, size[0]).view(1, 1, -1, 1)
    return torch.cat([noise, blobs + gradient])


def _trace(model: nn.Module, multiple: int) -> onnx.ModelProto:
    dim = torch.export.Dim
    shapes = {
        0: dim('batch', max=64),
        2: multiple * dim('h', max=128),
        3: multiple * dim('w', max=128),
    }
    # optimize=False keeps the norms' weights under their names; engines fuse them when they load.
    program = torch.onnx.export(
        model,
        (torch.randn(2, 3, 2 * multiple, 3 * multiple),),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes={'images': shapes},
        input_names=[IMAGES],
        output_names=[LOGITS],
        optimize=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    return store_as_fp16(_fold_constants(_drop_zero_biases(model)))


def _drop_zero_biases(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the biases of zeros that the exporter computes for convolutions without one."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == 'Conv' and len(node.input) == 3 and node.input[2] not in weights:
            del node.input[2]
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    return model


def _fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute what depends on constants alone: TensorRT's parser takes no axes that are computed.

    The weights stay as they are: the exporter's own folding would transpose some of them.
    """
    known: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        if len(node.output) == 1 and all(name in known for name in node.input):
            feeds = {name: known[name] for name in node.input}
            outputs = cast(list[Any], ReferenceEvaluator(node).run(None, feeds))
            value = np.asarray(outputs[0])
            known[node.output[0]] = value
            if node.op_type != 'Constant':
                tensor = numpy_helper.from_array(value)
                constant = helper.make_node('Constant', [], node.output, node.name, value=tensor)
                node.CopyFrom(constant)
    return model


def store_as_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert large float32 initializers to float16, each followed by a cast back."""
    graph = model.graph
    casts, renamed = [], {}
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if _is_stored_as_fp16(values.size, tensor.data_type == TensorProto.FLOAT):
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
            renamed[tensor.name] = f'{tensor.name}.fp32'
            casts.append(
                helper.make_node(
                    'Cast', [tensor.name], [renamed[tensor.name]], to=TensorProto.FLOAT
                )
            )
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    # The exporter's notes on shapes and source lines: half a megabyte, and wrong for the casts.
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.ClearField('doc_string')
    onnx.checker.check_model(model, full_check=True)
    return model


def _is_stored_as_fp16(num_elements: int, is_float: bool) -> bool:
    return is_float and num_elements >= MIN_FP16_ELEMENTS


def _check_weights(model: nn.Module, path: Path) -> None:
    """Check that the file holds every weight of the model, bit for bit."""
    stored = state_dict_from_onnx(path)
    expected: Mapping[str, Tensor] = {
        name: value for name, value in model.state_dict().items() if value.is_floating_point()
    }
    if stored.keys() != expected.keys():
        different = sorted(stored.keys() ^ expected.keys())
        raise ExportError(
            f'{path}: {len(different)} weights are in only one of file and model, the first is '
            f'{different[0]}; a module is unused, or the exporter renamed or fused its weights'
        )
    changed = [name for name in stored if not torch.equal(stored[name], expected[name])]
    if changed:
        raise ExportError(f'{path}: the exporter changed the weights {changed[:5]}')
