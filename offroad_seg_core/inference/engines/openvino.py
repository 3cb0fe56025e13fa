"""OpenVINO on the CPU, in bfloat16 where the processor computes with it."""

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
from offroad_seg_core.inference.engines.signal_stack import own_signal_stack

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
        self._kind = bundle.manifest.outputs.kind
        channels = model.output(0).get_partial_shape()[1]
        self.info = EngineInfo(
            'openvino',
            precision,
            'cpu',
            openvino.__version__.split('-')[0],
            channels.get_length() if self._kind == 'logits' and channels.is_static else 0,
        )
        self._model = _with_normalization(openvino, model, bundle)
        self._config = {
            'PERFORMANCE_HINT': 'LATENCY',
            # What is not quantised: int8 alone leaves a tenth of the time to float32.
            'INFERENCE_PRECISION_HINT': 'bf16' if computes_bf16 and precision != 'fp32' else 'f32',
            'INFERENCE_NUM_THREADS': settings.num_threads,
        }
        self._requests: dict[tuple[int, ...], Any] = {}

    @own_signal_stack()
    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See Engine.run. A new input shape is compiled once (about a second)."""
        if self._core is None:
            raise EngineError('the engine was closed')
        try:
            request = self._requests.get(images.shape) or self._compile(images.shape)
            request.infer({0: images}, share_inputs=True)
        except RuntimeError as error:
            raise EngineError(f'OpenVINO failed on {images.shape}: {error}') from error
        outputs = [request.get_output_tensor(i).data for i in range(len(self._model.outputs))]
        return EngineOutput.of(self._kind, outputs)

    def _compile(self, shape: tuple[int, ...]) -> Any:
        if len(self._requests) >= MAX_SHAPES:
            self._requests.pop(next(iter(self._requests)))
        model = self._model.clone()
        model.reshape(list(shape))
        request = self._core.compile_model(model, 'CPU', self._config).create_infer_request()
        self._requests[shape] = request
        return request

    @own_signal_stack()
    def close(self) -> None:
        """See Engine.close."""
        self._requests.clear()
        self._core = self._model = None


def _with_normalization(openvino: Any, model: Any, bundle: Bundle) -> Any:
    spec = bundle.manifest.input
    steps = openvino.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    steps.input().tensor().set_layout(openvino.Layout('NHWC'))
    steps.input().model().set_layout(openvino.Layout('NCHW'))
    steps.input().preprocess().convert_element_type(openvino.Type.f32)
    steps.input().preprocess().mean(list(spec.mean)).scale(list(spec.std))
    if bundle.manifest.outputs.kind == 'logits':
        steps.output().tensor().set_element_type(openvino.Type.f32)
    return steps.build()
