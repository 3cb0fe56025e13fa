"""Layers of a student that shall look like layers of its teachers."""

from __future__ import annotations

from collections.abc import Sequence
import re
from typing import Any

import torch
from torch import Tensor, nn

from offroad_seg_core.config import ConfigError
from offroad_seg_core.distillation.config import FeatureConfig, TeacherConfig
from offroad_seg_core.distillation.losses import channel_wise_divergence, feature_distance
from offroad_seg_core.distillation.networks import Network, normalized, open_network
from offroad_seg_core.training.validation import upsample


class LayerTap:
    """Keeps what a layer returned last.

    Args:
        network: Has the layer.
        name: Of a module of it; with ``[i]`` at its end if the module returns several tensors.
        owner: Whose it is, for errors.

    Raises:
        ConfigError: There is no such module.
    """

    def __init__(self, network: nn.Module, name: str, owner: str) -> None:
        match = re.fullmatch(r'([^\[\]]+)(?:\[(-?\d+)\])?', name)
        path, index = match.groups() if match else (name, None)
        try:
            module = network.get_submodule(path)
        except AttributeError:
            known = [key for key, _ in network.named_modules() if key and key.count('.') < 2]
            raise ConfigError(
                f'distillation.features: {owner} has no layer {name!r}; expected one such as '
                f'{", ".join(known[:40])}'
            ) from None
        self._name = f'{owner}: layer {name!r}'
        self._index = None if index is None else int(index)
        self._value: Tensor | None = None
        module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._index is not None:
            if not isinstance(output, Sequence) or not -len(output) <= self._index < len(output):
                count = len(output) if isinstance(output, Sequence) else 1
                raise ConfigError(f'{self._name} returns {count} tensors; name another one')
            output = output[self._index]
        if not isinstance(output, Tensor) or output.ndim != 4:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ConfigError(
                f'{self._name} returns {got}, expected features (N, C, h, w); name another layer, '
                'or one of several outputs by [index]'
            )
        self._value = output

    def take(self) -> Tensor:
        """Return the features, ``(N, C, h, w)``, and forget them."""
        assert self._value is not None  # the network has run
        value, self._value = self._value, None
        return value


class FeatureMatching(nn.Module):
    """Compares a student's features, behind 1x1 convolutions, with those of its teachers.

    The convolutions are trained with the student and are no part of it: neither its averaged
    weights nor an exported bundle has them. The teachers are no part of this module's weights.

    Args:
        config: The pairs of layers.
        teachers: Those that the pairs name by number.
        student: The network in training; hooks are added to it.

    Raises:
        ConfigError: A layer does not exist.
        CheckpointError, BundleError: A teacher cannot be read, or has no float32 weights.
    """

    def __init__(
        self,
        config: Sequence[FeatureConfig],
        teachers: Sequence[TeacherConfig],
        student: nn.Module,
    ) -> None:
        super().__init__()
        self._config = tuple(config)
        # A dict, so that they are neither trained nor saved with the student.
        self._teachers: dict[int, tuple[nn.Module, Network]] = {}
        for number in sorted({entry.teacher for entry in config}):
            network = open_network(teachers[number].path)
            self._teachers[number] = network.module(), network
        self._taps = [
            (
                LayerTap(student, entry.student_layer, 'the student'),
                LayerTap(
                    self._teachers[entry.teacher][0],
                    entry.teacher_layer,
                    f'teacher {teachers[entry.teacher].path}',
                ),
            )
            for entry in config
        ]
        self.projectors = nn.ModuleList(
            nn.Conv2d(own, other, 1) for own, other in self._channels(student)
        )

    def _channels(self, student: nn.Module) -> list[tuple[int, int]]:
        """Return the channels of each pair of layers."""
        for network in [student, *(module for module, _ in self._teachers.values())]:
            was_training = network.training
            device = next(network.parameters()).device
            side = 4 * int(network.input_multiple)  # type: ignore[arg-type]
            with torch.no_grad():
                network.eval()(torch.zeros(1, 3, side, side, device=device))
            network.train(was_training)
        return [(own.take().shape[1], other.take().shape[1]) for own, other in self._taps]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the loss of each pair by name, after the student has seen the same images.

        Args:
            images: ``(N, H, W, 3)`` uint8 RGB.
        """
        with torch.no_grad():
            for module, network in self._teachers.values():
                module.to(images.device)
                ordered = images if network.spec.color_order == 'rgb' else images.flip(-1)
                module(normalized(ordered, network.spec))
        losses = {}
        with torch.autocast(images.device.type, enabled=False):
            for number, (entry, (own, other), projector) in enumerate(
                zip(self._config, self._taps, self.projectors, strict=True)
            ):
                teacher = other.take().float()
                student = upsample(projector(own.take().float()), teacher.shape[-2:])
                losses[f'features_{number}'] = _distance(entry, student, teacher)
        return losses

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the sum of the losses by their weights."""
        values = zip(self._config, losses.values(), strict=True)
        return torch.stack([entry.weight * value for entry, value in values]).sum()


def _distance(entry: FeatureConfig, student: Tensor, teacher: Tensor) -> Tensor:
    if entry.loss == 'mse':
        return feature_distance(student, teacher)
    everywhere = torch.ones_like(teacher[:, 0], dtype=torch.bool)
    return channel_wise_divergence(student, teacher, everywhere)
