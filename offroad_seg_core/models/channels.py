"""Networks with fewer channels than their builders give them: what structured pruning leaves.

A channel plan is plain data for configurations and manifests: the name of a weight -> its first
sizes (outputs, and for convolutions and linear layers inputs), for all weights that differ from
the full network's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

ChannelPlan = Mapping[str, Sequence[int]]
AUXILIARY_HEAD = 'auxiliary_head.'
"""Prefix of the weights that only training has, and bundles have not."""
_FOLLOWERS = ('bias', 'running_mean', 'running_var')  # have a value for each output of the weight


def channel_plan(model: nn.Module, full: nn.Module) -> dict[str, list[int]]:
    """Return what ``resize_channels`` needs to bring ``full`` to the sizes of ``model``."""
    sizes = {name: value.shape for name, value in full.state_dict().items()}
    return {
        name: list(value.shape[:2])
        for name, value in model.state_dict().items()
        if value.shape != sizes[name] and name.rpartition('.')[2] not in _FOLLOWERS
    }


def resize_channels(model: nn.Module, plan: ChannelPlan) -> nn.Module:
    """Cut a network's weights down to a plan, in place; the first channels stay.

    What the plan says of an auxiliary head is left out where the network is built without one.
    Classifiers keep their outputs, so that the network may have other classes than the pruned one.

    Raises:
        ValueError: A weight is not there, or not larger than the plan says.
    """
    has_auxiliary_head = getattr(model, AUXILIARY_HEAD[:-1], None) is not None
    classifiers = tuple(getattr(model, 'classifiers', ()))
    for name, sizes in plan.items():
        if name.startswith(AUXILIARY_HEAD) and not has_auxiliary_head:
            continue
        owner_name, _, leaf = name.rpartition('.')
        try:
            owner = model.get_submodule(owner_name)
            weight = getattr(owner, leaf)
        except AttributeError as error:
            raise ValueError(f'channels: the network has no weight {name!r}') from error
        full = tuple(weight.shape[: len(sizes)])
        if name.startswith(classifiers):
            sizes = full[:1] + tuple(sizes[1:])
        if len(full) != len(sizes) or any(
            not 1 <= size <= limit for size, limit in zip(sizes, full, strict=True)
        ):
            raise ValueError(f'channels: got {list(sizes)} for {name}, expected up to {full}')
        _cut(owner, leaf, sizes)
        if leaf == 'weight':
            for follower in _FOLLOWERS:
                if getattr(owner, follower, None) is not None:
                    _cut(owner, follower, sizes[:1])
            _tell(owner)
    return model


def _cut(owner: nn.Module, leaf: str, sizes: Sequence[int]) -> None:
    value = getattr(owner, leaf)
    kept = value.detach()[tuple(slice(size) for size in sizes)].clone()
    is_parameter = isinstance(value, nn.Parameter)
    setattr(owner, leaf, nn.Parameter(kept, value.requires_grad) if is_parameter else kept)


def _tell(module: Any) -> None:
    """Bring a layer's own idea of its sizes in line with its weight."""
    sizes = module.weight.shape
    if isinstance(module, nn.Conv2d):
        if module.groups == module.in_channels:  # depthwise
            module.groups = sizes[0]
        module.in_channels, module.out_channels = sizes[1] * module.groups, sizes[0]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = sizes
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(sizes)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = sizes[0]
    else:
        module.num_features = sizes[0]
