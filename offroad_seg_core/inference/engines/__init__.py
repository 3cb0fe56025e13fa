"""Engines by name, and the choice of the fastest one on this machine."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
import logging
from typing import Any

from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.engines.base import (
    Engine,
    EngineError,
    EngineInfo,
    EngineOutput,
    EngineUnavailableError,
    has_nvidia_gpu,
    warm_up,
)

__all__ = [
    'ENGINES',
    'Engine',
    'EngineError',
    'EngineInfo',
    'EngineOutput',
    'EngineUnavailableError',
    'create_engine',
    'warm_up',
]

log = logging.getLogger(__name__)

EngineFactory = Callable[[Bundle, str, int], Engine]


def _lazy(module: str, name: str) -> EngineFactory:
    # The libraries are heavy and optional: each is imported when its engine is asked for.
    def make(bundle: Bundle, precision: str, num_threads: int) -> Engine:
        engine_class = getattr(import_module(f'{__name__}.{module}'), name)
        return _create(engine_class, bundle, precision, num_threads)

    return make


ENGINES: dict[str, EngineFactory] = {
    'openvino': _lazy('openvino', 'OpenVinoEngine'),
    'onnxruntime': _lazy('onnxruntime', 'OnnxRuntimeEngine'),
    'torch': _lazy('torch', 'TorchEngine'),
}
"""Name → factory (bundle, precision or 'auto', threads or 0)."""


def create_engine(
    bundle: Bundle, name: str = 'auto', precision: str = 'auto', num_threads: int = 0
) -> Engine:
    """Load a bundle into an engine and warm it up.

    Args:
        bundle: the verified bundle.
        name: a key of ENGINES, or `auto`: every engine that this machine has is timed on the
            bundle's input size and the fastest is kept. PyTorch takes part only where it has a
            GPU, or where nothing else is installed.
        precision: `auto` is the fastest precision whose accuracy needs no check on this machine
            (fp16 on a GPU, bf16 where the processor has it, else fp32).
        num_threads: CPU threads; 0 leaves the choice to the engine.

    Raises:
        EngineUnavailableError: not on this machine.
        EngineError: the engine cannot run the bundle.
        BundleError: the model's channels do not fit the bundle's taxonomy.
    """
    if name == 'auto':
        engine = _fastest(bundle, precision, num_threads)
    elif name in ENGINES:
        engine = ENGINES[name](bundle, precision, num_threads)
    else:
        raise EngineError(f'got engine {name!r}, expected auto or one of {sorted(ENGINES)}')
    _check_channels(engine, bundle)
    if name != 'auto':
        duration_ms = warm_up(engine, bundle.manifest.input.size)
        log.info('engine %s: %.1f ms at %s', engine.info, duration_ms, bundle.manifest.input.size)
    if engine.info.device == 'cpu' and has_nvidia_gpu():
        log.warning(
            'this machine has an NVIDIA GPU, but %s runs on the CPU; fix: install an engine that '
            'uses it',
            engine.info,
        )
    return engine


def _create(engine_class: Any, bundle: Bundle, precision: str, num_threads: int) -> Engine:
    """Make an engine; for 'auto' the first of its precisions that works here."""
    supported = engine_class.precisions
    if precision != 'auto':
        if precision not in supported:
            raise EngineError(f'got precision {precision!r}, expected auto or one of {supported}')
        return engine_class(bundle, precision, num_threads)
    refused = []
    for candidate in supported:
        if candidate == 'int8':  # its accuracy must have been checked: only when asked for
            continue
        try:
            return engine_class(bundle, candidate, num_threads)
        except EngineUnavailableError as error:
            refused.append(f'{candidate}: {error}')
    raise EngineUnavailableError('; '.join(refused))


def _fastest(bundle: Bundle, precision: str, num_threads: int) -> Engine:
    timed: list[tuple[float, Engine]] = []
    refused: list[str] = []
    for name in ENGINES:
        if name == 'torch' and timed and not _torch_has_gpu():
            continue
        try:
            engine = ENGINES[name](bundle, precision, num_threads)
        except EngineError as error:
            refused.append(f'{name}: {error}')
            continue
        timed.append((warm_up(engine, bundle.manifest.input.size), engine))
    if not timed:
        raise EngineUnavailableError('no engine runs on this machine: ' + '; '.join(refused))
    timed.sort(key=lambda item: item[0])
    figures = ', '.join(f'{engine.info} {duration:.1f} ms' for duration, engine in timed)
    log.info('engine auto chose %s as the fastest: %s', timed[0][1].info.name, figures)
    for reason in refused:
        log.info('engine not used: %s', reason)
    for _, engine in timed[1:]:
        engine.close()
    return timed[0][1]


def _torch_has_gpu() -> bool:
    if not has_nvidia_gpu():
        return False
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _check_channels(engine: Engine, bundle: Bundle) -> None:
    got, expected = engine.info.num_classes, bundle.taxonomy.num_classes
    if got and got != expected:
        raise BundleError(
            f'{bundle.path}: the model outputs {got} classes, but its taxonomy '
            f'{bundle.taxonomy.name} has {expected}; fix: export with the training taxonomy'
        )
