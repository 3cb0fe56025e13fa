"""What happened to one camera's frames: counters that add up, and windows of timings."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
import threading
import time

import numpy as np

WINDOW_FRAMES = 200
RATE_WINDOW_S = 3.0


@dataclass
class Counters:
    """Frames since activation or the last clock jump.

    Always: received = processed + dropped_stale + dropped_busy + failed + skipped_idle + waiting.
    """

    received: int = 0
    processed: int = 0
    dropped_stale: int = 0
    """Older than `max_age_ms` when their turn came."""
    dropped_busy: int = 0
    """Replaced by a newer frame before their turn came."""
    failed: int = 0
    """Unreadable, or the engine failed."""
    skipped_idle: int = 0
    """Nobody subscribed to an image, or `enabled` is false."""
    waiting: int = 0
    """Next in line or in work."""
    lost_in_transport: int = 0
    """Reported lost by the middleware; these were never received."""
    resets: int = 0
    """How often the counters started anew."""

    def since(self, before: Counters) -> Counters:
        """Return what was counted after `before`, or after the reset that came in between."""
        if self.resets != before.resets:
            return self
        return Counters(
            **{
                entry.name: getattr(self, entry.name) - getattr(before, entry.name)
                for entry in fields(self)
            }
        )


OUTCOMES = ('processed', 'dropped_stale', 'dropped_busy', 'failed', 'skipped_idle')


@dataclass(frozen=True)
class FrameTimes:
    """One processed frame's times, ms on a steady clock."""

    latency_ms: float
    """From the receipt to the return of the last publish."""
    convert_ms: float
    """Message to pixels."""
    preprocess_ms: float
    engine_ms: float
    decode_ms: float
    publish_ms: float
    """Drawing and publishing all outputs."""


@dataclass(frozen=True)
class FrameFacts:
    """What the last processed frame was like."""

    input_size: tuple[int, int] = (0, 0)
    encoding: str = ''
    output_size: tuple[int, int] = (0, 0)
    passes: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A consistent copy of the statistics."""

    counters: Counters
    fps_in: float
    fps_out: float
    times: dict[str, tuple[float, float]]
    """Field of FrameTimes → (p50, p95)."""
    facts: FrameFacts
    last_error: str
    seconds_since_frame: float
    seconds_stalled: float
    """For how long frames have been waiting, or in work, and none came to its end; 0: none is."""


@dataclass
class _Rate:
    stamps_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def add(self, now_s: float) -> None:
        self.stamps_s.append(now_s)

    def per_second(self, now_s: float) -> float:
        recent = [stamp for stamp in self.stamps_s if now_s - stamp <= RATE_WINDOW_S]
        if len(recent) < 2:
            return 0.0
        # The silence up to now counts once it is longer than a usual gap.
        gap = (recent[-1] - recent[0]) / (len(recent) - 1)
        silence = max(0.0, now_s - recent[-1] - gap)
        return (len(recent) - 1) / (recent[-1] - recent[0] + silence + 1e-9)


class CameraStatistics:
    """Thread-safe: frames come in on the executor's thread and end on the worker's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters = Counters()
        self._clear()

    def _clear(self) -> None:
        waiting, resets = self._counters.waiting, self._counters.resets + 1
        self._counters = Counters(received=waiting, waiting=waiting, resets=resets)
        self._in, self._out = _Rate(), _Rate()
        self._times: deque[FrameTimes] = deque(maxlen=WINDOW_FRAMES)
        self._facts = FrameFacts()
        self._last_error = ''
        self._last_receipt_s = time.monotonic()
        self._stalled_since_s: float | None = self._last_receipt_s if waiting else None

    def reset(self) -> None:
        """Start anew; frames that wait or are in work count as received."""
        with self._lock:
            self._clear()

    def receive(self) -> None:
        """Count a frame that came in and now waits."""
        with self._lock:
            self._last_receipt_s = time.monotonic()
            if not self._counters.waiting:
                self._stalled_since_s = self._last_receipt_s
            self._counters.received += 1
            self._counters.waiting += 1
            self._in.add(self._last_receipt_s)

    def finish(self, outcome: str, error: str = '') -> None:
        """Count a waiting frame's end; `outcome` is one of OUTCOMES other than processed."""
        with self._lock:
            self._end(outcome)
            if error:
                self._last_error = error

    def finish_processed(self, times: FrameTimes, facts: FrameFacts) -> None:
        """Count a waiting frame whose outputs were published."""
        with self._lock:
            self._end('processed')
            self._times.append(times)
            self._facts = facts
            self._out.add(time.monotonic())

    def lose(self, count: int) -> None:
        """Count frames that the middleware reported lost."""
        with self._lock:
            self._counters.lost_in_transport += count

    def _end(self, outcome: str) -> None:
        self._counters.waiting -= 1
        if not self._counters.waiting:
            self._stalled_since_s = None
        elif outcome != 'dropped_busy':  # whose place in the line another frame takes
            self._stalled_since_s = time.monotonic()
        setattr(self._counters, outcome, getattr(self._counters, outcome) + 1)

    def snapshot(self) -> Snapshot:
        """Return everything at this moment."""
        with self._lock:
            now_s = time.monotonic()
            counters = replace(self._counters)
            rates = self._in.per_second(now_s), self._out.per_second(now_s)
            times = tuple(self._times)
            facts, last_error = self._facts, self._last_error
            silence_s = now_s - self._last_receipt_s
            since_s = self._stalled_since_s
            stalled_s = 0.0 if since_s is None else now_s - since_s
        percentiles = {
            entry.name: _percentiles(getattr(item, entry.name) for item in times)
            for entry in fields(FrameTimes)
        }
        return Snapshot(counters, *rates, percentiles, facts, last_error, silence_s, stalled_s)


def _percentiles(values: Iterable[float]) -> tuple[float, float]:
    array = np.fromiter(values, np.float64)
    if not array.size:
        return float('nan'), float('nan')
    p50, p95 = np.percentile(array, (50, 95))
    return float(p50), float(p95)
