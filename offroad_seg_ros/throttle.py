"""Say the same thing only now and then.

rclpy's own throttling counts by line of code; here several cameras share one line.
"""

from __future__ import annotations

import threading
import time


class Throttle:
    """Allows each key once a period. Thread-safe."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._lock = threading.Lock()
        self._allowed_s: dict[str, float] = {}

    def allows(self, key: str) -> bool:
        """Return whether the key was not allowed during the last period; it is now."""
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._allowed_s.get(key, -float('inf')) < self._period_s:
                return False
            if len(self._allowed_s) > 100:  # keys made of changing texts
                self._allowed_s.clear()
            self._allowed_s[key] = now_s
            return True
