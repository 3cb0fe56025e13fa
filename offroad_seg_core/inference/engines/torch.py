"""PyTorch: eager on the CPU, the reference of the other engines; a CUDA graph on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import (
    EngineError,
    EngineInfo,
    EngineOutput,
    EngineSettings,
    EngineUnavailableError,
    EngineUnsupportedError,
)
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.provenance import computes_bf16

MAX_SHAPES = 8
"""Captured input shapes that are kept; test-time augmentation uses up to three."""


class TorchEngine:
    """Rebuilds the bundle's architecture and loads its weights out of the ONNX file."""

    precisions = ('fp16', 'bf16', 'fp32')

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        torch = _import()
        from offroad_seg_core.inference.engines.torch_graph import ImageFunctions

        precision = settings.precision
        on_gpu = torch.cuda.is_available()
        if precision == 'fp16' and not on_gpu:
            raise EngineUnavailableError('fp16 needs a GPU; fix: precision fp32')
        if precision == 'bf16' and not on_gpu and not computes_bf16():
            raise EngineUnavailableError(
                'this processor has no bfloat16 arithmetic; fix: precision fp32'
            )
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        self._device = torch.device('cuda' if on_gpu else 'cpu')
        dtype = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}[precision]
        # PyTorch's stubs do not know `memory_format` of Module.to.
        placed: Any = build_model(bundle).eval().to(self._device)
        model = placed.to(memory_format=torch.channels_last)
        spec, outputs = bundle.manifest.input, bundle.manifest.outputs
        factor = outputs.stride // (outputs.label_stride or 1)
        self._functions: Any = ImageFunctions(model, spec.mean, spec.std, dtype, factor)
        self._graphed: dict[tuple[Any, ...], Any] = {}
        device = torch.cuda.get_device_name() if on_gpu else 'cpu'
        self.info = EngineInfo(
            'torch',
            precision,
            device,
            torch.__version__,
            bundle.taxonomy.num_classes,
            gives_labels=on_gpu,
        )

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See Engine.run. On a GPU a new input shape is captured once."""
        return EngineOutput(*self._run('logits', images))

    def run_labels(self, images: NDArray[np.uint8], head: HeadInputs) -> EngineOutput:
        """See LabelEngine.run_labels."""
        temperature = np.array(head.temperature, np.float32)
        return EngineOutput.of('labels', self._run('labels', images, head.logit_bias, temperature))

    def _run(self, what: str, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
        from offroad_seg_core.inference.engines.torch_graph import GraphedFunction

        if self._functions is None:
            raise EngineError('the engine was closed')
        key = (what, arrays[0].shape)
        if key not in self._graphed:
            if len(self._graphed) >= MAX_SHAPES:
                self._graphed.pop(next(iter(self._graphed)))
            function = getattr(self._functions, what)
            self._graphed[key] = GraphedFunction(function, arrays, self._device)
        return self._graphed[key].run(arrays)

    def close(self) -> None:
        """See Engine.close."""
        self._functions = None
        self._graphed.clear()


def build_model(bundle: Bundle) -> Any:
    """Return the bundle's model, a ``torch.nn.Module`` with its float32 weights.

    Raises:
        EngineUnavailableError: PyTorch or onnx is not installed.
        EngineUnsupportedError: the manifest names no architecture that ends in logits.
        EngineError: it names another one.
    """
    _import()
    from offroad_seg_core.inference.export import state_dict_from_onnx
    from offroad_seg_core.models import create_model

    architecture = bundle.manifest.architecture
    if architecture is None or bundle.manifest.outputs.kind == 'labels':
        raise EngineUnsupportedError(
            f'{bundle.path}: the manifest names no architecture that ends in logits, so '
            'PyTorch cannot rebuild the model; fix: choose engine onnxruntime or openvino'
        )
    model = create_model(architecture.name, **architecture.kwargs)
    _load_weights(model, state_dict_from_onnx(bundle.model_file('fp32')), bundle)
    return model


def _import() -> Any:
    try:
        import onnx  # noqa: F401
        import torch
    except ImportError as error:
        raise EngineUnavailableError(
            f'the torch engine does not import ({error}); fix: pip install torch onnx'
        ) from error
    return torch


def _load_weights(model: Any, weights: dict[str, Any], bundle: Bundle) -> None:
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # Batch norm's step counters do not compute anything; an ONNX file has no place for them.
    missing = [name for name in missing if not name.endswith('num_batches_tracked')]
    if missing or unexpected:
        raise EngineError(
            f'{bundle.path}: the ONNX weights do not fit the architecture '
            f'{bundle.manifest.architecture}: missing {missing[:5]}, unexpected {unexpected[:5]}; '
            'fix: export the bundle again'
        )
