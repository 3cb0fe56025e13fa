"""Which settings of malloc are made, and that freed memory can be given back."""

import subprocess
import sys

import pytest

from offroad_seg_core import memory

OPTIONS = {-4: 0, -1: 2147483647, -2: 67108864, -8: 1}


@pytest.fixture
def made(monkeypatch):
    settings = {}

    def mallopt(option, value):
        settings[option] = value
        return 1

    for name in (*memory.malloc_variables({}), 'MALLOC_MMAP_THRESHOLD_'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(memory, '_libc', lambda name: mallopt)
    return settings


def test_all_settings_are_made(made):
    assert memory.keep_freed_memory()
    assert made == OPTIONS


@pytest.mark.parametrize(
    ('variable', 'option'),
    [
        ('MALLOC_MMAP_MAX_', -4),
        ('MALLOC_MMAP_THRESHOLD_', -4),
        ('MALLOC_TRIM_THRESHOLD_', -1),
        ('MALLOC_TOP_PAD_', -2),
        ('MALLOC_ARENA_MAX', -8),
    ],
)
def test_the_users_choice_stays(made, monkeypatch, variable, option):
    monkeypatch.setenv(variable, '2')
    assert memory.keep_freed_memory()
    assert made == {key: value for key, value in OPTIONS.items() if key != option}


def test_freed_memory_stays_until_it_is_released():
    code = """
import os
import numpy as np
from offroad_seg_core.memory import keep_freed_memory, release_freed_memory

def resident_mib():
    pages = int(open('/proc/self/statm').read().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') >> 20

assert keep_freed_memory()
before = resident_mib()
blocks = [np.ones(1 << 24, np.uint8) for _ in range(8)]
del blocks
assert resident_mib() - before >= 120, resident_mib() - before
assert release_freed_memory()
assert resident_mib() - before <= 20, resident_mib() - before
"""
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
