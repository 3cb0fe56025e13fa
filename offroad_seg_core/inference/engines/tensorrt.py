"""TensorRT on NVIDIA GPUs and Jetsons, and TensorRT-RTX on desktop cards. No PyTorch."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
import json
import logging
from pathlib import Path
import threading
from typing import Any

from numpy.typing import NDArray

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import (
    EngineSettings,
    EngineUnavailableError,
)
from offroad_seg_core.inference.engines.cuda import Cuda, Gpu
from offroad_seg_core.inference.engines.engine_cache import EngineCache, Fingerprint
from offroad_seg_core.inference.engines.gpu_graph import GRAPH_VERSION
from offroad_seg_core.inference.engines.graph_engine import GraphEngine
from offroad_seg_core.inference.engines.plan_builder import PlanJob, build_in_child
from offroad_seg_core.inference.engines.tensorrt_build import BUILDER_OPTIONS
from offroad_seg_core.inference.engines.tensorrt_runner import PlanError, PlanRunner
from offroad_seg_core.inference.graph_names import CAMERA

log = logging.getLogger(__name__)

OLDEST_TENSORRT = (10, 3)


class TensorRtEngine(GraphEngine):
    """Runs a bundle with TensorRT; every input size is a plan of its own, built once and cached.

    Threads may run it at the same time.
    """

    precisions = ('fp16', 'fp32', 'int8')
    library = 'tensorrt'
    fix = (
        'on a Jetson it comes with JetPack (a virtual environment needs --system-site-packages), '
        'elsewhere: pip install tensorrt'
    )

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        self._trt = _import(self.library, self.fix)
        self._cuda = Cuda()
        self._gpu = self._cuda.gpu()
        version, gpu = self._trt.__version__, self._gpu.name
        super().__init__(bundle, self.library, version, settings.precision, gpu)
        self.info = replace(self.info, num_streams=settings.num_streams)
        self._cache = EngineCache(settings.cache_folder)
        self._runners: dict[tuple[int, int], PlanRunner] = {}
        self._lock = threading.Lock()
        self._runner(bundle.manifest.input.size)

    def close(self) -> None:
        """See Engine.close."""
        super().close()
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()

    def _infer(
        self, inputs: dict[str, NDArray[Any]], wanted: tuple[str, ...]
    ) -> list[NDArray[Any]]:
        _, height, width, _ = inputs[CAMERA].shape
        return self._runner((height, width)).run(inputs, wanted)

    def _runner(self, size: tuple[int, int]) -> PlanRunner:
        with self._lock:
            if size not in self._runners:
                self._runners[size] = self._load(size)
            return self._runners[size]

    def _load(self, size: tuple[int, int]) -> PlanRunner:
        wanted = fingerprint(
            self._bundle, self.library, self.info.version, self.info.precision, size, self._gpu
        )
        job = PlanJob(
            self.library,
            str(self._bundle.path),
            self.info.precision,
            size,
            str(self._cache.timing_file(wanted)),
        )

        def build(output: Path) -> None:
            build_in_child(job, output)

        plan = self._cache.get_or_build(wanted, build)
        try:
            return PlanRunner(self._trt, self._cuda, plan)
        except PlanError as error:
            log.warning('%s', error)
        self._cache.discard(wanted)
        plan = self._cache.get_or_build(wanted, build)
        return PlanRunner(self._trt, self._cuda, plan)


class TensorRtRtxEngine(TensorRtEngine):
    """TensorRT-RTX: the same API, plans that it finishes for the card when they are loaded."""

    library = 'tensorrt_rtx'
    fix = 'pip install tensorrt-rtx'


def fingerprint(
    bundle: Bundle, library: str, version: str, precision: str, size: tuple[int, int], gpu: Gpu
) -> Fingerprint:
    """Return what a plan of this bundle depends on."""
    manifest = bundle.manifest
    file = bundle.source_file(precision).relative_to(bundle.path)
    options = {
        'graph': GRAPH_VERSION,
        'builder': BUILDER_OPTIONS,
        'mean': manifest.input.mean,
        'std': manifest.input.std,
        'outputs': manifest.outputs.model_dump(mode='json'),
    }
    return Fingerprint(
        library=library,
        version=version,
        bundle=manifest.name,
        onnx_sha256=manifest.files[file.as_posix()],
        precision=precision,
        size=size,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=gpu.driver,
        options=json.dumps(options, sort_keys=True),
    )


def _import(library: str, fix: str) -> Any:
    try:
        trt = import_module(library)
        version = trt.__version__
    except (
        ImportError,
        OSError,
        AttributeError,
    ) as error:  # the last: a stub without its libraries
        raise EngineUnavailableError(f'{library} does not import ({error}); fix: {fix}') from error
    is_old = tuple(map(int, version.split('.')[:2])) < OLDEST_TENSORRT
    if library == 'tensorrt' and is_old:
        raise EngineUnavailableError(
            f'got TensorRT {version}, expected 10.3 or newer; fix: JetPack 6 or newer on a Jetson'
        )
    return trt
