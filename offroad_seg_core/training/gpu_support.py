"""Whether this build of PyTorch has machine code for a GPU, and which build has."""

from __future__ import annotations

from dataclasses import dataclass
import re

import torch

from offroad_seg_core.training.failures import TrainingError

Capability = tuple[int, int]  # NVIDIA's compute capability, such as (12, 0)


@dataclass(frozen=True)
class _Build:
    """What to install for GPUs up to a compute capability."""

    newest: Capability
    torch: str
    index: str


# Builds of PyTorch 2.7 and later; those before 12.8 lack Blackwell (10.0 to 12.1), those from
# 12.8 on lack everything older than Turing (7.5): github.com/pytorch/pytorch/issues/172352
_BUILDS = (
    _Build((7, 4), 'torch>=2.7,<2.15', 'cu126'),
    _Build((9, 9), 'torch>=2.7', 'cu126'),
    _Build((10, 9), 'torch>=2.7', 'cu128'),
    _Build((11, 9), 'torch>=2.9', 'cu130'),
    _Build((12, 9), 'torch>=2.7', 'cu128'),
)
_NIGHTLY = _Build((999, 0), 'torch --pre', 'nightly/cu130')


def check_gpus() -> None:
    """Refuse GPUs that this build of PyTorch cannot compute on, before anything runs on them.

    Raises:
        TrainingError: Which build to install.
    """
    if not torch.cuda.is_available() or torch.version.cuda is None:
        return
    for index in range(torch.cuda.device_count()):
        message = missing_code(
            torch.cuda.get_device_name(index),
            torch.cuda.get_device_capability(index),
            torch.cuda.get_arch_list(),
            torch.__version__,
        )
        if message is not None:
            raise TrainingError(message)


def missing_code(
    name: str, capability: Capability, architectures: list[str], version: str
) -> str | None:
    """Return why a build cannot compute on a GPU and which one can; None if this one can.

    Machine code (sm_xy) runs on GPUs of its own major version and at least its minor one;
    intermediate code (compute_xy) is compiled at the start for anything newer. (CUDA C++
    Programming Guide, "Application Compatibility".)

    Args:
        name: Of the GPU.
        capability: Of the GPU.
        architectures: What the build has code for, such as ``['sm_90', 'compute_90']``.
        version: Of the build.
    """
    if any(_runs_on(architecture, capability) for architecture in architectures):
        return None
    major, minor = capability
    build = next((item for item in _BUILDS if capability <= item.newest), _NIGHTLY)
    return (
        f'this build of PyTorch, {version}, has no code for {name} (sm_{major}{minor}), only for '
        f'{", ".join(architectures) or "none"}; install one that has: '
        f"'{build.torch}' and its torchvision, build {build.index} (the install page of PyTorch "
        'gives the command for it)'
    )


def _runs_on(architecture: str, capability: Capability) -> bool:
    match = re.fullmatch(r'(sm|compute)_(\d+)(\d)([af]?)', architecture)
    if match is None:
        return False
    kind, major, minor, suffix = match.groups()
    built = (int(major), int(minor))
    if suffix == 'a':  # runs on this very one only
        return built == capability
    if kind == 'compute':
        return built <= capability
    return built[0] == capability[0] and built <= capability
