"""TensorRT on NVIDIA GPUs and Jetsons, and TensorRT-RTX on desktop cards. No PyTorch."""

from __future__ import annotations

from importlib import import_module
import json
import logging
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
from offroad_seg_core.inference.engines.cuda import Cuda, Gpu
from offroad_seg_core.inference.engines.engine_cache import EngineCache, Fingerprint
from offroad_seg_core.inference.engines.gpu_graph import (
    CAMERA,
    CONFIDENCE,
    GRAPH_VERSION,
    LABEL_MAP,
    LOGITS,
)
from offroad_seg_core.inference.engines.plan_builder import PlanJob, build_in_child
from offroad_seg_core.inference.engines.tensorrt_build import BUILDER_OPTIONS
from offroad_seg_core.inference.engines.tensorrt_runner import PlanError, PlanRunner

log = logging.getLogger(__name__)

OLDEST_TENSORRT = (10, 3)


class TensorRtEngine:
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
        self._bundle = bundle
        self._cache = EngineCache(settings.cache_folder)
        self._is_closed = False
        self._runners: dict[tuple[int, int], PlanRunner] = {}
        self._lock = threading.Lock()
        outputs = bundle.manifest.outputs
        if outputs.kind == 'logits':
            self._wanted: tuple[str, ...] = (LOGITS,)
        else:
            self._wanted = (LABEL_MAP, CONFIDENCE) if outputs.has_confidence else (LABEL_MAP,)
        self.info = EngineInfo(
            self.library,
            settings.precision,
            self._gpu.name,
            self._trt.__version__,
            outputs.num_classes if outputs.kind == 'logits' else 0,
        )
        self._runner(bundle.manifest.input.size)

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See Engine.run. A new input size is built once (minutes)."""
        return self._run(images, self._wanted)

    def run_labels(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See LabelEngine.run_labels."""
        if LOGITS not in self._wanted:
            return self.run(images)
        return self._run(images, (LABEL_MAP, CONFIDENCE))

    def close(self) -> None:
        """See Engine.close."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        self._is_closed = True

    def _run(self, images: NDArray[np.uint8], wanted: tuple[str, ...]) -> EngineOutput:
        if self._is_closed:
            raise EngineError('the engine was closed')
        runner = self._runner(images.shape[1:3])
        results = [runner.run(image[np.newaxis], wanted, CAMERA) for image in images]
        merged = {
            name: np.concatenate([result[name] for result in results])
            if len(results) > 1
            else results[0][name]
            for name in wanted
        }
        return EngineOutput(merged.get(LOGITS), merged.get(LABEL_MAP), merged.get(CONFIDENCE))

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
    source = 'fp32' if precision == 'fp16' and 'fp16' not in bundle.precisions else precision
    file = bundle.model_file(source).relative_to(bundle.path)
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
