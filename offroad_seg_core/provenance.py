"""Where a result comes from: code, machine, versions."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
import hashlib
from importlib import metadata
import json
from pathlib import Path
import platform
import subprocess
from typing import Any

import cv2
import numpy as np

from offroad_seg_core.config import dump_config

VERSION_OF = 'version of '
_OWN = 'offroad_seg_ros'  # one distribution with the core and the node
_DECODERS = ('simplejpeg', 'av')
_NETWORKS = ('torch', 'segmentation-models-pytorch', 'timm', 'transformers')
_PACKAGES = (
    _OWN,
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


@cache
def code_sha256() -> str:
    """Return the hex SHA-256 of the core's code, which differs between commits of one version.

    What editors leave beside it is none: hidden files and folders, links that lead nowhere.
    """
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob('*.py')):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith('.') for part in name.parts):
            content = path.read_bytes()
            digest.update(f'{name.as_posix()} {len(content)}\n'.encode() + content)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {'python': platform.python_version(), **_installed(_PACKAGES)}


def label_versions() -> dict[str, str]:
    """Return the versions of this package and of what decodes and resizes pictures.

    With those of the network's library, part of the identity of whatever is kept: labels of other
    versions may differ. The keys are ``version of <name>``.
    """
    found = {
        **_installed((_OWN, *_DECODERS)),
        'code': code_sha256()[:12],
        # As imported: on a robot they are the distribution's, of which pip may know nothing.
        'numpy': np.__version__,
        'opencv': cv2.__version__,
    }
    return _prefixed(found)


def network_versions() -> dict[str, str]:
    """Return the versions of PyTorch and of the packages that networks are from, likewise."""
    return _prefixed(_installed(_NETWORKS))


def _prefixed(found: dict[str, str]) -> dict[str, str]:
    return {f'{VERSION_OF}{name}': version for name, version in found.items()}


def _installed(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
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
