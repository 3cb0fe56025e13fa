"""Memory settings for training on a CPU."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Make this process reuse freed tensors' memory; return whether the system could.

    A training step allocates and frees the same few hundred megabytes of activations. glibc gives
    each large block back to the kernel, which clears its pages again at the next step: 2.0 s
    instead of 0.5 s a step on a virtual machine with two cores. The price is that the process
    stays as large as it has ever been.
    """
    if not sys.platform.startswith('linux'):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, -1),
        (_M_TOP_PAD, 1 << 26),
        (_M_ARENA_MAX, 1),
    )
    return all(mallopt(option, value) == 1 for option, value in settings)
