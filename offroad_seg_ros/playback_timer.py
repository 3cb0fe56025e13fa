"""Bag time that runs at a rate, stops and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import threading
import time


class PlaybackTimer:
    """Nanoseconds of bag time since the start; callable from several threads.

    Args:
        rate: bag seconds per second, above 0.
        paused: start standing still.
        now_ns: steady clock, nanoseconds.
    """

    def __init__(
        self,
        rate: float = 1.0,
        paused: bool = False,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._rate, self._paused, self._now_ns = rate, paused, now_ns
        self._is_held, self._lock = False, threading.Lock()
        self._elapsed_ns, self._since_ns = 0.0, now_ns()

    def restart(self) -> None:
        """Go back to zero; a pause stays a pause."""
        with self._lock:
            self._elapsed_ns, self._since_ns = 0.0, self._now_ns()

    @property
    def paused(self) -> bool:
        """Whether time stands still."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        with self._changing():
            self._paused = paused

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let time stand still in the block, whether it is paused or not."""
        with self._changing():
            self._is_held = True
        try:
            yield
        finally:
            with self._changing():
                self._is_held = False

    def elapsed_ns(self) -> int:
        """Return the bag time passed since the start or the last restart."""
        with self._lock:
            return int(self._read()[0])

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            self._elapsed_ns, self._since_ns = self._read()
            yield

    def _read(self) -> tuple[float, int]:
        now = self._now_ns()
        is_still = self._paused or self._is_held
        passed = 0.0 if is_still else (now - self._since_ns) * self._rate
        return self._elapsed_ns + passed, now
