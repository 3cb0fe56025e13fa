"""Where a result comes from: code, machine, versions."""

from __future__ import annotations

from functools import cache
import hashlib
from importlib import metadata
import json
from pathlib import Path
import platform
import subprocess
from typing import Any

from offroad_seg_core.config import dump_config

_PACKAGES = (
    'torch',
    'lightning',
    'numpy',
    'opencv-python-headless',
    'onnxruntime',
    'openvino',
    'onnxruntime-gpu',
    'tensorrt',
    'tensorrt-rtx',
    'cuda-bindings',
    'segmentation-models-pytorch',
    'ros-rclpy',
    'ros-fastrtps',
)


def git_commit() -> str:
    """Return the commit of this code, with ``-dirty`` for changed files; '' outside of git."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ''
    return result.stdout.strip() if result.returncode == 0 else ''


def config_sha256(config: Any) -> str:
    """Return the hex SHA-256 of a configuration's content."""
    text = json.dumps(dump_config(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {'python': platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def cpu_flags() -> frozenset[str]:
    """Return the features that the kernel reports for the processor; empty where it does not."""
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith(('flags', 'Features')):  # x86, ARM
            return frozenset(line.partition(':')[2].split())
    return frozenset()


def computes_bf16() -> bool:
    """Tell whether the processor has bfloat16 arithmetic."""
    return bool(cpu_flags() & {'avx512_bf16', 'amx_bf16', 'bf16'})


@cache
def cpu_name() -> str:
    """Return the processor's name as the kernel reports it, or its kind."""
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        return platform.machine()
    names = [line for line in text.splitlines() if line.startswith(('model name', 'Model'))]
    return names[0].partition(':')[2].strip() if names else platform.machine()
