"""ONNX Runtime on an NVIDIA GPU: its CUDA and its TensorRT execution provider."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import EngineSettings, EngineUnavailableError
from offroad_seg_core.inference.engines.cuda import Cuda
from offroad_seg_core.inference.engines.engine_cache import EngineCache, writing_to
from offroad_seg_core.inference.engines.gpu_graph import gpu_graph
from offroad_seg_core.inference.engines.graph_engine import GraphEngine
from offroad_seg_core.inference.engines.onnxruntime import (
    import_onnxruntime,
    open_session,
    run_session,
)
from offroad_seg_core.inference.graph_names import CAMERA


class OnnxRuntimeCudaEngine(GraphEngine):
    """Runs the graph that GPU engines share with ONNX Runtime's CUDA provider."""

    precisions: tuple[str, ...] = ('fp16', 'fp32')
    name = 'onnxruntime_cuda'
    provider = 'CUDAExecutionProvider'

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        self._onnxruntime = import_onnxruntime()
        have = self._onnxruntime.get_available_providers()
        if self.provider not in have:
            raise EngineUnavailableError(
                f'onnxruntime {self._onnxruntime.__version__}: got the providers {have}, expected '
                f'{self.provider}; fix: pip uninstall onnxruntime; pip install onnxruntime-gpu'
            )
        self._gpu = Cuda().gpu()
        version = self._onnxruntime.__version__
        super().__init__(bundle, self.name, version, settings.precision, self._gpu.name)
        self._cache = EngineCache(settings.cache_folder)
        self._sessions: dict[tuple[int, int], Any] = {}
        self._session(bundle.manifest.input.size)

    def close(self) -> None:
        """See Engine.close."""
        super().close()
        self._sessions.clear()

    def _infer(
        self, inputs: dict[str, NDArray[Any]], wanted: tuple[str, ...]
    ) -> list[NDArray[Any]]:
        _, height, width, _ = inputs[CAMERA].shape
        return run_session(self._session((height, width)), wanted, inputs)

    def _session(self, size: tuple[int, int]) -> Any:
        if size not in self._sessions:
            graph = gpu_graph(self._bundle, self.info.precision, size).SerializeToString()
            self._sessions[size] = open_session(
                graph, self._onnxruntime.SessionOptions(), self._providers(graph)
            )
        return self._sessions[size]

    def _providers(self, graph: bytes) -> list[Any]:
        # EXHAUSTIVE, the default, tries every convolution; TF32 would round what is asked for as
        # fp32.
        return [(self.provider, {'device_id': '0', 'use_tf32': '0'})]


class OnnxRuntimeTensorRtEngine(OnnxRuntimeCudaEngine):
    """The same graph with the TensorRT provider, which builds its engines in this process."""

    precisions = ('fp16', 'fp32', 'int8')
    name = 'onnxruntime_tensorrt'
    provider = 'TensorrtExecutionProvider'

    def _providers(self, graph: bytes) -> list[Any]:
        folder = self._cache_folder(graph)
        options = {
            'device_id': '0',
            'trt_engine_cache_enable': '1',
            'trt_engine_cache_path': str(folder),
            'trt_timing_cache_enable': '1',
            'trt_timing_cache_path': str(folder.parent),
            # TensorRT 10 wants to be told what the graph says.
            'trt_fp16_enable': str(int(self.info.precision == 'fp16')),
            'trt_int8_enable': str(int(self.info.precision == 'int8')),
        }
        return [(self.provider, options), 'CUDAExecutionProvider']

    def _cache_folder(self, graph: bytes) -> Path:
        # The provider looks at the graph's name and the GPU's compute capability only: what else
        # an engine depends on is in the folder's name.
        facts = [
            hashlib.sha256(graph).hexdigest(),
            self.info.precision,
            self._gpu.name,
            self._gpu.driver,
        ]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        version = f'{self.name}-{self.info.version}'
        folder = self._cache.folder / version / digest
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder
