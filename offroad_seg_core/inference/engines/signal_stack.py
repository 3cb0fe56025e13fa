"""Keep a library from leaving a stack for signal handlers behind that it has already freed.

OpenVINO's CPU plugin (seen in 2026.4) gives the calling thread an alternate signal stack when it
compiles and when it infers, and unmaps it when the model is freed without taking it back. The next
signal with a Python handler, Ctrl-C for one, is then delivered to freed memory and kills the
process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import ctypes
import functools
import sys
from typing import Any


class _Stack(ctypes.Structure):
    """stack_t of <signal.h>."""

    _fields_ = (
        ('pointer', ctypes.c_void_p),
        ('flags', ctypes.c_int),
        ('size', ctypes.c_size_t),
    )


@contextmanager
def own_signal_stack() -> Iterator[None]:
    """Give the thread the signal stack back that it had before the block."""
    sigaltstack = _sigaltstack()
    if sigaltstack is None:
        yield
        return
    before = _Stack()
    sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(before), None)


@functools.cache
def _sigaltstack() -> Any:
    return getattr(ctypes.CDLL(None), 'sigaltstack', None) if sys.platform == 'linux' else None
