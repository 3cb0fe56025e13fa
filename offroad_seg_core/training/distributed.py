"""Training in several processes: one a device, on one machine or on several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import os
import subprocess
from typing import Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
import torch
from torch import Tensor, distributed, nn

from offroad_seg_core.config import STRICT, ConfigError
from offroad_seg_core.losses.world import world_size
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix

# What torchrun and SLURM's srun tell each process they start: how many there are.
_LAUNCHERS = {'WORLD_SIZE': 'torchrun', 'SLURM_STEP_NUM_TASKS': 'srun'}
# Where they, or the process that started this one, say which this is.
_RANKS = ('RANK', 'NODE_RANK', 'LOCAL_RANK', 'SLURM_PROCID')


@dataclass(frozen=True, config=STRICT)
class DistributedConfig:
    """How many processes train together; each has a device and a batch of its own.

    The weights are moved by the gradient of the loss of all batches as one: with a third of the
    ``loader.batch_size``, three processes train like one. Only Lovász' ranking, the least share
    of pixels that OHEM keeps and the partners of ``mix`` stay within each process.

    The processes of one machine start each other. Processes that torchrun or SLURM's srun has
    started are used as they are; on several machines without either, start the same command on
    each, with MASTER_ADDR, MASTER_PORT and NODE_RANK set.

    Attributes:
        devices: Processes on each machine: as many of its GPUs, or on the CPU.
        num_nodes: Machines.
        strategy: The second is slower and for networks of which parts do not take part in every
            step.
        sync_batchnorm: Batch norms use the statistics of all processes' batches; for small
            batches on several GPUs.
    """

    devices: int = Field(default=1, ge=1)
    num_nodes: int = Field(default=1, ge=1)
    strategy: Literal['ddp', 'ddp_find_unused_parameters_true'] = 'ddp'
    sync_batchnorm: bool = False

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.devices * self.num_nodes


def trainer_options(
    config: DistributedConfig, environment: Mapping[str, str], some_wait: bool = False
) -> dict[str, Any]:
    """Return the arguments of ``lightning.Trainer`` that say where it runs.

    Args:
        config: What is wanted.
        environment: Variables of this process.
        some_wait: Whether some weights have no gradients at first: then the processes must find
            out in each step which have, whatever ``config.strategy`` is.

    Raises:
        ConfigError: This machine lacks the devices, or a launcher started another number of
            processes.
    """
    has_gpus = torch.cuda.is_available()
    if config.sync_batchnorm and not has_gpus:
        raise ConfigError(
            'distributed.sync_batchnorm is true, but there is no CUDA GPU, and PyTorch has it for '
            'nothing else; set it to false, or take a model without batch norms, such as '
            'convnext_tiny_fpn'
        )
    if has_gpus and config.devices > torch.cuda.device_count():
        raise ConfigError(
            f'distributed.devices is {config.devices}, but this machine has '
            f'{torch.cuda.device_count()} CUDA GPUs that can be seen; set it to that or less'
        )
    for variable, launcher in _LAUNCHERS.items():
        count = int(environment.get(variable, 1))
        if count not in (1, config.world_size):
            raise ConfigError(
                f'{launcher} started {count} processes ({variable}), but distributed.devices x '
                f'num_nodes is {config.devices} x {config.num_nodes}; make them equal'
            )
    strategy = 'ddp_find_unused_parameters_true' if some_wait else config.strategy
    return {
        'devices': config.devices,
        'num_nodes': config.num_nodes,
        'strategy': strategy if config.world_size > 1 else 'auto',
        'sync_batchnorm': config.sync_batchnorm,
    }


def is_first_process() -> bool:
    """Return whether this is the process that writes files; true before any are started."""
    return all(os.environ.get(name, '0') == '0' for name in _RANKS)


def end_started_processes(trainer: Any, patience_s: float = 5.0) -> None:
    """End the processes that this one has started, if it leaves and they do not.

    They may wait for it: where it could not write a checkpoint, for example. One that has trained
    to the end parts from the others, or gloo's threads may abort it ("terminate called without an
    active exception"); one that failed would wait there for what others have not answered.
    """
    if distributed.is_available() and distributed.is_initialized() and trainer.state.finished:
        distributed.destroy_process_group()
    for process in getattr(trainer.strategy.launcher, 'procs', []):
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether the flag is set in any process; all must ask."""
    if world_size() == 1:
        return flag
    count = torch.tensor(int(flag), device=device)
    distributed.all_reduce(count)
    return bool(count)


def all_equal_buffers(module: nn.Module) -> None:
    """Give every process the first one's buffers, such as the statistics of batch norms."""
    if world_size() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)


def gathered(value: Any) -> list[Any]:
    """Return every process' value, in their order; all must ask."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def summed_matrices(
    matrices: Mapping[str, ConfusionMatrix], num_classes: int, device: torch.device
) -> dict[str, ConfusionMatrix]:
    """Add up confusion matrices of the same name over all processes, exactly.

    Args:
        matrices: Those of this process; others may have other names.
        num_classes: Of each of them.
        device: Where this process computes.
    """
    if world_size() == 1:
        return dict(matrices)
    names = sorted(set().union(*gathered(sorted(matrices))))
    empty = ConfusionMatrix(num_classes)
    counts = _stacked([matrices.get(name, empty).counts for name in names]).to(device)
    distributed.all_reduce(counts)
    totals = {}
    for name, values in zip(names, counts.cpu().numpy(), strict=True):
        totals[name] = ConfusionMatrix(num_classes)
        totals[name].counts = values
    return totals


def _stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
