"""PyTorch, eager: the reference that the other engines are compared with, and CUDA's short way."""

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
)
from offroad_seg_core.provenance import computes_bf16


class TorchEngine:
    """Rebuilds the bundle's architecture and loads its weights out of the ONNX file."""

    precisions = ('fp16', 'bf16', 'fp32')

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        torch = _import()
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
        self._torch = torch
        self._device = torch.device('cuda' if on_gpu else 'cpu')
        self._dtype = {'fp32': None, 'fp16': torch.float16, 'bf16': torch.bfloat16}[precision]
        # PyTorch's stubs do not know `memory_format` of Module.to.
        placed: Any = build_model(bundle).eval().to(self._device)
        self._model = placed.to(memory_format=torch.channels_last)
        spec = bundle.manifest.input
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(spec.mean, device=self._device).reshape(shape)
        self._std = torch.tensor(spec.std, device=self._device).reshape(shape)
        device = torch.cuda.get_device_name() if on_gpu else 'cpu'
        self.info = EngineInfo(
            'torch', precision, device, torch.__version__, bundle.taxonomy.num_classes
        )

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See Engine.run."""
        torch = self._torch
        if self._model is None:
            raise EngineError('the engine was closed')
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float()
            batch = (batch - self._mean) / self._std
            with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
                logits = self._model(batch)
            return EngineOutput(logits.float().cpu().numpy())

    def close(self) -> None:
        """See Engine.close."""
        self._model = None


def build_model(bundle: Bundle) -> Any:
    """Return the bundle's model, a ``torch.nn.Module`` with its float32 weights.

    Raises:
        EngineUnavailableError: PyTorch or onnx is not installed.
        EngineError: the manifest names no architecture that ends in logits, or another one.
    """
    _import()
    from offroad_seg_core.inference.export import state_dict_from_onnx
    from offroad_seg_core.models import create_model

    architecture = bundle.manifest.architecture
    if architecture is None or bundle.manifest.outputs.kind == 'labels':
        raise EngineError(
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
