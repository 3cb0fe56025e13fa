"""Another normalization in place of batch norm.

Batch norm carries the statistics of the places it was trained on; group norm (Wu and He, ECCV
2018) computes them anew for every image, and with one group it is layer norm (Ba et al., arXiv
1607.06450) over channels and pixels.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal['batch', 'group', 'layer']
CHANNELS_PER_GROUP = 16


def replace_batch_norm(model: nn.Module, norm: Norm) -> nn.Module:
    """Put another normalization in the place of every batch norm, with fresh weights, in place.

    Groups have 16 channels, or as many as divide the channels if 16 do not.

    Raises:
        ValueError: No such normalization.
    """
    if norm not in ('batch', 'group', 'layer'):
        raise ValueError(f'norm is {norm!r}, expected batch, group or layer')
    if norm == 'batch':
        return model
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _like(child, norm))
    return model


def _like(batch_norm: nn.BatchNorm2d, norm: Norm) -> nn.GroupNorm:
    channels = batch_norm.num_features
    groups = channels // CHANNELS_PER_GROUP if norm == 'group' else 1
    while channels % max(groups, 1):
        groups -= 1
    return nn.GroupNorm(max(groups, 1), channels, eps=batch_norm.eps)
