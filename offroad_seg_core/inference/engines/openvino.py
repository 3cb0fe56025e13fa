"""OpenVINO on the CPU, in bfloat16 where the processor computes with it."""

from __future__ import annotations

import os
from pathlib import Path
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
from offroad_seg_core.inference.engines.compiled_models import CompiledModels
from offroad_seg_core.inference.engines.signal_stack import own_signal_stack
from offroad_seg_core.inference.graph_names import CONFIDENCE, LABEL_MAP, LOGITS
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.provenance import cpu_name

GRAPH_VERSION = 1
"""Raise it whenever this module makes another graph of the same file: stored ones are old then."""
MAX_SHAPES = 8
"""Compiled input shapes that are kept; test-time augmentation uses up to three."""


class OpenVinoEngine:
    """Runs a bundle's ONNX file with OpenVINO; normalisation is part of the compiled graph."""

    precisions = ('bf16', 'fp32', 'int8')

    @own_signal_stack()
    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        try:
            import openvino
        except ImportError as error:
            raise EngineUnavailableError(
                f'openvino does not import ({error}); fix: pip install openvino'
            ) from error
        precision = settings.precision
        self._core = openvino.Core()
        computes_bf16 = 'BF16' in self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        if precision == 'bf16' and not computes_bf16:
            raise EngineUnavailableError(
                'this processor has no bfloat16 arithmetic; fix: precision fp32'
            )
        file = bundle.model_file('int8' if precision == 'int8' else 'fp32')
        try:
            model = self._core.read_model(file)
        except RuntimeError as error:
            raise EngineError(f'OpenVINO cannot read {file}: {error}') from error
        outputs = bundle.manifest.outputs
        self._kind = outputs.kind
        channels = model.output(0).get_partial_shape()[1]
        self.info = EngineInfo(
            'openvino',
            precision,
            'cpu',
            openvino.__version__.split('-')[0],
            channels.get_length() if self._kind != 'labels' and channels.is_static else 0,
            gives_labels=self._kind == 'fused',
            num_streams=settings.num_streams,
        )
        model = _with_normalization(openvino, model, bundle)
        self._model, self._label_model = model, None
        if self._kind == 'fused':
            self._model, self._label_model = _parted(openvino, model)
        self._config = {
            'PERFORMANCE_HINT': 'LATENCY',
            # What is not quantised: int8 alone leaves a tenth of the time to float32.
            'INFERENCE_PRECISION_HINT': 'bf16' if computes_bf16 and precision != 'fp32' else 'f32',
            'INFERENCE_NUM_THREADS': settings.num_threads,
        }
        if settings.num_threads:  # a share: others pin theirs to the first cores, too
            self._config['ENABLE_CPU_PINNING'] = False
        if settings.num_streams > 1:  # OpenVINO gives each its own cores
            self._config['PERFORMANCE_HINT'] = 'THROUGHPUT'
            self._config['NUM_STREAMS'] = settings.num_streams
        self._stored = self._compiled_models(openvino.__version__, bundle, file, settings)
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._lock = threading.Lock()
        self._own = threading.local()

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See Engine.run. A new input shape is compiled once (about a second) and kept on disk."""
        return EngineOutput.of(self._kind, self._run(self._model, [images]))

    def run_labels(self, images: NDArray[np.uint8], head: HeadInputs) -> EngineOutput:
        """See LabelEngine.run_labels. It is compiled apart from what gives logits."""
        temperature = np.array(head.temperature, np.float32)
        inputs: list[NDArray[Any]] = [images, head.logit_bias, temperature]
        return EngineOutput.of('labels', self._run(self._label_model, inputs))

    @own_signal_stack()
    def _run(self, model: Any, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        if self._core is None:
            raise EngineError('the engine was closed')
        shape = inputs[0].shape
        try:
            request = self._request(model, (len(inputs), *shape))
            request.infer(dict(enumerate(inputs)), share_inputs=True)
        except RuntimeError as error:
            raise EngineError(f'OpenVINO failed on {shape}: {error}') from error
        return [request.get_output_tensor(i).data for i in range(len(model.outputs))]

    def _request(self, model: Any, key: tuple[int, ...]) -> Any:
        """Return the calling thread's request for a model and a shape."""
        requests = vars(self._own).setdefault('requests', {})
        if key not in requests:
            if len(requests) >= MAX_SHAPES:
                requests.pop(next(iter(requests)))
            with self._lock:
                requests[key] = self._compile(model, key).create_infer_request()
        return requests[key]

    def _compile(self, model: Any, key: tuple[int, ...]) -> Any:
        if key not in self._compiled:
            if len(self._compiled) >= MAX_SHAPES:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[key] = self._stored.take(
                list(key), lambda blob: self._core.import_model(blob, 'CPU', self._config)
            ) or self._compile_anew(model, key)
        return self._compiled[key]

    def _compile_anew(self, model: Any, key: tuple[int, ...]) -> Any:
        model = model.clone()
        model.reshape({0: list(key[1:])})
        compiled = self._core.compile_model(model, 'CPU', self._config)
        self._stored.keep(list(key), compiled.export_model().getvalue())
        return compiled

    def _compiled_models(
        self, version: str, bundle: Bundle, file: Path, settings: EngineSettings
    ) -> CompiledModels:
        manifest = bundle.manifest
        facts = {
            'graph_version': GRAPH_VERSION,
            'onnx_sha256': manifest.files[file.relative_to(bundle.path).as_posix()],
            'input': manifest.input.model_dump(mode='json'),
            'outputs': manifest.outputs.model_dump(mode='json'),
            'config': self._config,
            'processor': [cpu_name(), os.cpu_count()],
            'arithmetic': self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'),
        }
        return CompiledModels(settings.cache_folder, version, facts)

    @own_signal_stack()
    def close(self) -> None:
        """See Engine.close."""
        self._own = threading.local()  # with it go the requests of all threads
        self._compiled.clear()
        self._core = self._model = self._label_model = None


def _parted(openvino: Any, model: Any) -> tuple[Any, Any]:
    """Return what gives the logits, and what gives labels and confidence."""
    images, *head = (value.get_node() for value in model.inputs)
    logits, *labels = (model.output(name).get_node() for name in (LOGITS, LABEL_MAP, CONFIDENCE))
    return openvino.Model([logits], [images]), openvino.Model(labels, [images, *head])


def _with_normalization(openvino: Any, model: Any, bundle: Bundle) -> Any:
    spec = bundle.manifest.input
    steps = openvino.preprocess.PrePostProcessor(model)
    images = steps.input(0)
    images.tensor().set_element_type(openvino.Type.u8)
    images.tensor().set_layout(openvino.Layout('NHWC'))
    images.model().set_layout(openvino.Layout('NCHW'))
    images.preprocess().convert_element_type(openvino.Type.f32)
    images.preprocess().mean(list(spec.mean)).scale(list(spec.std))
    if bundle.manifest.outputs.kind != 'labels':
        steps.output(0).tensor().set_element_type(openvino.Type.f32)
    return steps.build()
