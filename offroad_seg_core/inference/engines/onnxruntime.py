"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
import os
import threading
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
from offroad_seg_core.inference.graph_names import CONFIDENCE, LABEL_MAP, LOGIT_BIAS, TEMPERATURE
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.inference.preprocess import Normalizer


class OnnxRuntimeEngine:
    """Runs a bundle's ONNX file with ONNX Runtime's CPU provider."""

    precisions = ('fp32', 'int8')

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _pool_size(settings)
        # Between frames the cores belong to cameras and middleware, not to threads that wait.
        options.add_session_config_entry('session.force_spinning_stop', '1')
        file = bundle.model_file(settings.precision)
        session = open_session(str(file), options, ['CPUExecutionProvider'])
        outputs = bundle.manifest.outputs
        self._kind = outputs.kind
        channels = session.get_outputs()[0].shape[1] if self._kind != 'labels' else 0
        self.info = EngineInfo(
            'onnxruntime',
            settings.precision,
            'cpu',
            onnxruntime.__version__,
            channels if isinstance(channels, int) else 0,
            gives_labels=self._kind == 'fused',
            num_streams=settings.num_streams,
        )
        names = [value.name for value in session.get_outputs()]
        self._own_outputs = names if self._kind == 'labels' else names[:1]
        self._neutral = HeadInputs.of_classes(outputs.num_classes, range(outputs.num_classes))
        self._run_options = onnxruntime.RunOptions()
        self._run_options.add_run_config_entry('only_execute_path_to_fetches', '1')
        spec = bundle.manifest.input
        self._new_normalizer = partial(Normalizer, spec.mean, spec.std)
        self._own = threading.local()
        self._input_name = session.get_inputs()[0].name
        self._session = session

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See Engine.run."""
        return EngineOutput.of(self._kind, self._run(images, self._own_outputs, self._neutral))

    def run_labels(self, images: NDArray[np.uint8], head: HeadInputs) -> EngineOutput:
        """See LabelEngine.run_labels."""
        return EngineOutput.of('labels', self._run(images, [LABEL_MAP, CONFIDENCE], head))

    def _run(
        self, images: NDArray[np.uint8], outputs: list[str], head: HeadInputs
    ) -> list[NDArray[Any]]:
        if self._session is None:
            raise EngineError('the engine was closed')
        if not hasattr(self._own, 'normalize'):  # it reuses its buffer
            self._own.normalize = self._new_normalizer()
        inputs: dict[str, NDArray[Any]] = {self._input_name: self._own.normalize(images)}
        if self.info.gives_labels:
            inputs[LOGIT_BIAS] = head.logit_bias
            inputs[TEMPERATURE] = np.array(head.temperature, np.float32)
        return run_session(self._session, outputs, inputs, self._run_options)

    def close(self) -> None:
        """See Engine.close."""
        self._session = None


def _pool_size(settings: EngineSettings) -> int:
    """Return a call's number of threads: its own, and the pool that all calls share."""
    if settings.num_streams == 1:
        return settings.num_threads
    total = settings.num_threads or len(os.sched_getaffinity(0))
    return max(1, total - settings.num_streams + 1)


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
    session: Any,
    outputs: Sequence[str] | None,
    inputs: dict[str, NDArray[Any]],
    run_options: Any = None,
) -> list[NDArray[Any]]:
    """Run a session; EngineError says what failed. Without names all outputs are computed."""
    try:
        return session.run(outputs, inputs, run_options)
    except Exception as error:  # the binding raises a dozen unrelated types
        shapes = [array.shape for array in inputs.values()]
        raise EngineError(f'ONNX Runtime failed on {shapes}: {error}') from error
