"""Opens an engine so that nothing of it stays when that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.engines.base import (
    Engine,
    EngineError,
    EngineSettings,
    warm_up,
)

EngineFactory = Callable[[Bundle, EngineSettings], Engine]


@contextmanager
def as_engine_errors() -> Iterator[None]:
    """Make an EngineError of what libraries raise: no GPU memory is a RuntimeError of PyTorch."""
    try:
        yield
    except (EngineError, BundleError):
        raise
    except Exception as error:
        raise EngineError(f'{type(error).__name__}: {error}') from error


def open_engine(
    make: EngineFactory, bundle: Bundle, settings: EngineSettings, runs: int = 3
) -> tuple[Engine, float]:
    """Make an engine and warm it up; return it and its fastest run (ms), see warm_up.

    Raises:
        EngineError: it cannot be made, or does not run.
        BundleError: the bundle lacks what it needs.
    """
    with as_engine_errors(), ExitStack() as owned:
        engine = make(bundle, settings)
        owned.callback(engine.close)
        duration_ms = warm_up(engine, bundle.manifest.input.size, runs)
        owned.pop_all()
    return engine, duration_ms
