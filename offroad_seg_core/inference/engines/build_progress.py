"""How far a build is, from the phases within phases that TensorRT's IProgressMonitor tells."""

from __future__ import annotations

from dataclasses import dataclass
import logging
import threading
import time

from offroad_seg_core.inference.engines.base import Report

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


class ProgressLog:
    """Writes a line of progress every ten seconds."""

    def __init__(self) -> None:
        self._started = self._told = time.monotonic()

    def __call__(self, share: float, phase: str) -> None:
        """Take news of the build; see Report."""
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = now
            elapsed_s = now - self._started
            log.info('building engine: %.0f %% after %.0f s (%s)', share * 100, elapsed_s, phase)


@dataclass
class _Phase:
    parent: str | None
    num_steps: int
    done: float = 0.0
    """Steps that ended."""


class BuildProgress:
    """Turns phases into one share that never falls; its methods may come from several threads.

    A phase within another is a part of the parent's current step. How long a step takes is not
    known: the share is a sign of life, no forecast.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0
        self._lock = threading.Lock()

    def start(self, phase: str, parent: str | None, num_steps: int) -> None:
        """Begin a phase of so many steps, inside of `parent` if that is running."""
        with self._lock:
            self._phases[phase] = _Phase(parent, max(1, num_steps))
            self._tell(phase)

    def step(self, phase: str, step: int) -> None:
        """End step number `step` (from 0) of a phase."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase].done = step + 1
                self._tell(phase)

    def finish(self, phase: str) -> None:
        """End a phase, whether all its steps were told or not."""
        with self._lock:
            if phase not in self._phases:
                return
            self._phases[phase].done = self._phases[phase].num_steps
            self._tell(phase)
            del self._phases[phase]

    def _tell(self, phase: str) -> None:
        inner, name = 0.0, phase
        while name in self._phases:
            entry = self._phases[name]
            # A child that is done has not yet ended its parent's step.
            inner = min(1.0, (entry.done + inner) / entry.num_steps)
            name = entry.parent or ''
        self._share = max(self._share, inner)
        self._report(self._share, phase)
