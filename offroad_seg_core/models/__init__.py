"""Every model by name. Importing this package imports torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from offroad_seg_core.models.channels import ChannelPlan, resize_channels
from offroad_seg_core.models.ddrnet import ddrnet23, ddrnet23_slim
from offroad_seg_core.models.light_fpn import LightFPN
from offroad_seg_core.models.normalization import Norm, replace_batch_norm
from offroad_seg_core.models.published import PUBLISHED
from offroad_seg_core.models.teachers import TEACHERS

# Each builder takes num_classes and keyword options, and returns a module that maps normalised
# images (N, 3, H, W) to logits at `stride`, accepts sizes that are multiples of `input_multiple`
# and names in `classifiers` the weights that depend on the class set. What published weights are
# for is its `encoder`, of the name `encoder_name`. In training the result may be a tuple of the
# logits and those of auxiliary heads, or QueryPredictions.
MODELS: dict[str, Callable[..., nn.Module]] = {
    'ddrnet23_slim': ddrnet23_slim,
    'ddrnet23': ddrnet23,
    'convnext_tiny_fpn': LightFPN,
    **PUBLISHED,
    **TEACHERS,
}


def create_model(
    name: str,
    num_classes: int,
    *,
    norm: Norm = 'batch',
    channels: ChannelPlan | None = None,
    **options: Any,
) -> nn.Module:
    """Build a model with fresh weights.

    Args:
        name: A key of ``MODELS``.
        num_classes: Channels of the logits.
        norm: What stands in the place of batch norms; see ``replace_batch_norm``.
        channels: Of a pruned network, see ``resize_channels``; None for the full one.
        options: What the builder accepts, e.g. ``auxiliary=False``.

    Raises:
        ValueError: No model of that name, it does not know an option, or the channels are not
            its own.
    """
    if name not in MODELS:
        raise ValueError(f'no model is named {name!r}; expected one of {", ".join(MODELS)}')
    try:
        model = replace_batch_norm(MODELS[name](num_classes, **options), norm)
        return resize_channels(model, channels or {})
    except TypeError as error:
        if 'keyword argument' not in str(error):
            raise
        raise ValueError(f'model {name!r}: {error}; got options {sorted(options)}') from error
