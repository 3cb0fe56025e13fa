"""Engines by name, and the choice of the fastest one on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
import gc
from importlib import import_module
import logging
from pathlib import Path
from typing import Any

from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.engines.base import (
    Engine,
    EngineError,
    EngineInfo,
    EngineOutput,
    EngineSettings,
    EngineStoppedError,
    EngineUnavailableError,
    EngineUnsupportedError,
    LabelEngine,
    has_nvidia_gpu,
    warm_up,
)
from offroad_seg_core.inference.engines.opening import EngineFactory, open_engine
from offroad_seg_core.inference.engines.selection import (
    CPU_ENGINES,
    fastest,
    has_checked_int8,
)

__all__ = [
    'ENGINES',
    'Engine',
    'EngineError',
    'EngineInfo',
    'EngineOutput',
    'EngineSettings',
    'EngineStoppedError',
    'EngineUnavailableError',
    'LabelEngine',
    'create_engine',
    'precisions_of',
    'warm_up',
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Lazy:
    """An engine class that is imported when its engine is asked for."""

    module: str
    name: str

    def load(self) -> Any:
        return getattr(import_module(f'{__name__}.{self.module}'), self.name)

    def __call__(self, bundle: Bundle, settings: EngineSettings) -> Engine:
        return _create(self.load(), bundle, settings)


ENGINES: dict[str, EngineFactory] = {
    'openvino': _Lazy('openvino', 'OpenVinoEngine'),
    'onnxruntime': _Lazy('onnxruntime', 'OnnxRuntimeEngine'),
    'torch': _Lazy('torch', 'TorchEngine'),
    'tensorrt': _Lazy('tensorrt', 'TensorRtEngine'),
    'tensorrt_rtx': _Lazy('tensorrt', 'TensorRtRtxEngine'),
    'torch2trt': _Lazy('torch2trt', 'Torch2TrtEngine'),
    'onnxruntime_cuda': _Lazy('onnxruntime_gpu', 'OnnxRuntimeCudaEngine'),
    'onnxruntime_tensorrt': _Lazy('onnxruntime_gpu', 'OnnxRuntimeTensorRtEngine'),
}
"""Name → factory (bundle, settings)."""


def precisions_of(name: str) -> tuple[str, ...]:
    """Return the precisions that an engine of this package knows, the preferred one first."""
    entry = ENGINES[name]
    return entry.load().precisions if isinstance(entry, _Lazy) else ()


def create_engine(
    bundle: Bundle,
    name: str = 'auto',
    precision: str = 'auto',
    num_threads: int = 0,
    cache_folder: Path | None = None,
    fallback: bool = False,
    num_streams: int = 1,
    for_throughput: bool = False,
) -> Engine:
    """Load a bundle into an engine and warm it up.

    Args:
        bundle: the verified bundle.
        name: a key of ENGINES, or `auto`: see selection.fastest.
        precision: `auto` is the fastest precision whose accuracy needs no check on this machine:
            fp16 on a GPU; on a processor bf16 where it has that, else fp32, or int8 if the bundle
            brings it with its accuracy checked and it is faster.
        num_threads: CPU threads; 0 leaves the choice to the engine.
        cache_folder: where built engines and measured choices are kept; None: the user's cache.
        fallback: when the named engine cannot run, say so and choose as `auto` does.
        num_streams: threads that want to run it at the same time. The engine's `info.num_streams`
            says how many may: all where that gives clearly more frames per second, or one.
        for_throughput: take streams where they give any more frames per second, though each frame
            takes longer.

    Raises:
        EngineUnavailableError: not on this machine.
        EngineError: the engine cannot run the bundle.
        EngineStoppedError: see builds_stopped.
        BundleError: the model's channels do not fit the bundle's taxonomy.
    """
    if name != 'auto' and name not in ENGINES:
        raise EngineError(f'got engine {name!r}, expected auto or one of {sorted(ENGINES)}')
    settings = EngineSettings(precision, num_threads, cache_folder, num_streams, for_throughput)
    engine = None
    try:
        engine = _open(bundle, name, settings)
    except EngineStoppedError:
        raise
    except EngineError as error:
        if not fallback or name == 'auto':
            raise
        log.error('engine %s: %s; auto takes its place (parameter fallback)', name, str(error))
    if engine is None:  # here the error is gone, and with it what it held on the GPU
        gc.collect()  # Python 3.12 leaves it in a cycle
        others = {key: make for key, make in ENGINES.items() if key != name}
        engine = fastest(others, bundle, replace(settings, precision='auto'))
    try:
        _check_channels(engine, bundle)
    except BundleError:
        engine.close()
        raise
    if engine.info.device == 'cpu' and has_nvidia_gpu():
        log.warning(
            'this machine has an NVIDIA GPU, but %s runs on the CPU; fix: install an engine that '
            'uses it',
            engine.info,
        )
    return engine


def _open(bundle: Bundle, name: str, settings: EngineSettings) -> Engine:
    if name == 'auto':
        return fastest(ENGINES, bundle, settings)
    is_int8_open = settings.precision == 'auto' and has_checked_int8(bundle, name)
    if name in CPU_ENGINES and (is_int8_open or settings.num_streams > 1):
        return fastest({name: ENGINES[name]}, bundle, settings)
    engine, duration_ms = open_engine(ENGINES[name], bundle, settings)
    log.info('engine %s: %.1f ms at %s', engine.info, duration_ms, bundle.manifest.input.size)
    return engine


def _create(engine_class: Any, bundle: Bundle, settings: EngineSettings) -> Engine:
    """Make an engine; for 'auto' the first of its precisions that works here."""
    supported = engine_class.precisions
    if settings.precision != 'auto':
        if settings.precision not in supported:
            raise EngineUnsupportedError(
                f'got precision {settings.precision!r}, expected auto or one of {supported}'
            )
        return engine_class(bundle, settings)
    refused = []
    for candidate in supported:
        # Only when asked for, where it was found to be faster, or when there is nothing else.
        if candidate == 'int8' and bundle.precisions != ('int8',):
            continue
        try:
            return engine_class(bundle, replace(settings, precision=candidate))
        except (EngineUnavailableError, BundleError) as error:  # the latter: no such file
            refused.append(f'{candidate}: {error}')
    raise EngineUnavailableError('; '.join(refused))


def _check_channels(engine: Engine, bundle: Bundle) -> None:
    got, expected = engine.info.num_classes, bundle.taxonomy.num_classes
    if got and got != expected:
        raise BundleError(
            f'{bundle.path}: the model outputs {got} classes, but its taxonomy '
            f'{bundle.taxonomy.name} has {expected}; fix: export with the training taxonomy'
        )
