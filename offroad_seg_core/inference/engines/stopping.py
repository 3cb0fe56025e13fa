"""Stops what other threads may wait minutes for: builds, and the builds of other processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import subprocess
import threading

from offroad_seg_core.inference.engines.base import EngineStoppedError

_stopped = threading.Event()
_lock = threading.Lock()
_builds: set[subprocess.Popen] = set()


@contextmanager
def builds_stopped() -> Iterator[None]:
    """End the builds of this process; none begins while this lasts.

    The threads that wait for one, or ask for one, get an EngineStoppedError: join them inside.
    """
    with _lock:
        _stopped.set()
        for child in _builds:
            child.kill()
    try:
        yield
    finally:
        _stopped.clear()


def check_not_stopped() -> None:
    """Raise EngineStoppedError while builds are stopped."""
    if _stopped.is_set():
        raise EngineStoppedError('stopped before the engine was there')


@contextmanager
def stoppable(child: subprocess.Popen) -> Iterator[None]:
    """Let builds_stopped kill this process, also when it came first."""
    with _lock:
        _builds.add(child)
        if _stopped.is_set():
            child.kill()
    try:
        yield
    finally:
        with _lock:
            _builds.discard(child)
