"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
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
from offroad_seg_core.inference.preprocess import Normalizer


class OnnxRuntimeEngine:
    """Runs a bundle's ONNX file with ONNX Runtime's CPU provider."""

    precisions = ('fp32', 'int8')

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.num_threads
        # Between frames the cores belong to cameras and middleware, not to threads that wait.
        options.add_session_config_entry('session.force_spinning_stop', '1')
        file = bundle.model_file(settings.precision)
        session = open_session(str(file), options, ['CPUExecutionProvider'])
        self._kind = bundle.manifest.outputs.kind
        channels = session.get_outputs()[0].shape[1] if self._kind == 'logits' else 0
        self.info = EngineInfo(
            'onnxruntime',
            settings.precision,
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
        outputs = run_session(self._session, None, {self._input_name: self._normalize(images)})
        return EngineOutput.of(self._kind, outputs)

    def close(self) -> None:
        """See Engine.close."""
        self._session = None


def import_onnxruntime() -> Any:
    """Return the module; EngineUnavailableError says how to get it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailableError(
            f'onnxruntime does not import ({error}); fix: pip install onnxruntime'
        ) from error
    return onnxruntime


def open_session(model: str | bytes, options: Any, providers: Sequence[Any]) -> Any:
    """Return an InferenceSession of a file or of a serialised model.

    Args:
        model: path, or the model itself.
        options: onnxruntime.SessionOptions.
        providers: names, or pairs of a name and its options; the first must load.

    Raises:
        EngineError: the model cannot be loaded.
        EngineUnavailableError: the first provider does not load. ONNX Runtime alone would run on
            the CPU then, without a word that a program sees.
    """
    onnxruntime = import_onnxruntime()
    options.log_severity_level = 3
    what = model if isinstance(model, str) else 'the graph'
    try:
        session = onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # the binding raises a dozen unrelated types
        raise EngineError(f'ONNX Runtime cannot load {what}: {error}') from error
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise EngineUnavailableError(
            f'ONNX Runtime {onnxruntime.__version__}: got {session.get_providers()}, expected '
            f'{wanted}, whose libraries do not load; fix: install the CUDA, cuDNN or TensorRT '
            'version that this build wants'
        )
    return session


def run_session(
    session: Any, outputs: Sequence[str] | None, inputs: dict[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """Run a session; EngineError says what failed. Without names all outputs are computed."""
    try:
        return session.run(outputs, inputs)
    except Exception as error:  # the binding raises a dozen unrelated types
        shapes = [array.shape for array in inputs.values()]
        raise EngineError(f'ONNX Runtime failed on {shapes}: {error}') from error
