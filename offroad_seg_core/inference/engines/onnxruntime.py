"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import (
    EngineError,
    EngineInfo,
    EngineOutput,
    EngineUnavailableError,
)
from offroad_seg_core.inference.preprocess import Normalizer


class OnnxRuntimeEngine:
    """Runs a bundle's ONNX file with ONNX Runtime's CPU provider."""

    precisions = ('fp32', 'int8')

    def __init__(self, bundle: Bundle, precision: str, num_threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineUnavailableError(
                f'onnxruntime does not import ({error}); fix: pip install onnxruntime'
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        # Between frames the cores belong to cameras and middleware, not to threads that wait.
        options.add_session_config_entry('session.force_spinning_stop', '1')
        file = bundle.model_file(precision)
        try:
            session = onnxruntime.InferenceSession(
                str(file), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # the binding raises a dozen unrelated types
            raise EngineError(f'ONNX Runtime cannot load {file}: {error}') from error
        self._kind = bundle.manifest.outputs.kind
        channels = session.get_outputs()[0].shape[1] if self._kind == 'logits' else 0
        self.info = EngineInfo(
            'onnxruntime',
            precision,
            'cpu',
            onnxruntime.__version__,
            channels if isinstance(channels, int) else 0,
        )
        spec = bundle.manifest.input
        self._normalize = Normalizer(spec.mean, spec.std)
        self._input_name = session.get_inputs()[0].name
        self._session = session

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See Engine.run."""
        if self._session is None:
            raise EngineError('the engine was closed')
        try:
            outputs = self._session.run(None, {self._input_name: self._normalize(images)})
        except Exception as error:  # the binding raises a dozen unrelated types
            raise EngineError(f'ONNX Runtime failed on {images.shape}: {error}') from error
        return EngineOutput.of(self._kind, outputs)

    def close(self) -> None:
        """See Engine.close."""
        self._session = None
