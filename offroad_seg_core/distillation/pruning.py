"""Make a trained network smaller: fewer channels, or zeros among its weights.

Channels are removed where that leaves every sum and concatenation whole: DepGraph (Fang et al.,
"DepGraph: Towards Any Structural Pruning", CVPR 2023) groups the layers that must lose the same
channels, and of each group those go whose weights, over all its layers, have the smallest
Euclidean norm. The result has smaller tensors and is faster on every engine; its channel plan is
an option of the model (``models/channels.py``), so that it trains, exports and loads like any.

Single weights are set to zero by their size (Han et al., NeurIPS 2015). Their tensors stay as
large as they were, and engines for dense tensors take as long as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import math
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn.utils import prune

from offroad_seg_core.models import create_model
from offroad_seg_core.models.channels import channel_plan
from offroad_seg_core.training.checkpoint import Checkpoint
from offroad_seg_core.training.config import TrainConfig

ROUND_TO = 8
"""Channels that are left are multiples of this, as vector and matrix units want them."""
FINE_TUNING_SHARE = 0.25
"""Of the steps and of the learning rate of the training before."""


class PruningError(ValueError):
    """A network cannot be pruned as asked."""


def prune_channels(checkpoint: Checkpoint, share: float) -> Checkpoint:
    """Remove channels of a trained network.

    Args:
        checkpoint: Its averaged model is pruned; may be pruned already.
        share: Of the channels of each group of layers that go, above 0 and below 1; some more,
            so that multiples of ROUND_TO are left. The classifier's outputs and the image's
            channels stay.

    Returns:
        The checkpoint of the smaller network, not trained any further, with its channel plan in
        the options of its model.

    Raises:
        PruningError: The share is out of range, or the network has layers that the method does
            not understand.
    """
    _check_share(share)
    model = checkpoint.build()
    images = torch.randn(2, 3, *(4 * cast(int, model.input_multiple),) * 2)
    try:
        _remove_channels(model, images, share)
        with torch.inference_mode():
            expected = _outputs(model, images)
    except Exception as error:  # the library raises a dozen unrelated types
        raise PruningError(
            f'{checkpoint.path}: the channels of {checkpoint.config.model.name} cannot be pruned '
            f'({type(error).__name__}: {error}); attention is not understood: prune a network of '
            'convolutions'
        ) from error
    settings = checkpoint.config.model
    options = {key: value for key, value in settings.options.items() if key != 'channels'}
    num_classes = checkpoint.taxonomy.num_classes
    plan = channel_plan(model, create_model(settings.name, num_classes, **options))
    options['channels'] = plan
    config = replace(checkpoint.config, model=replace(settings, options=options))
    pruned = _changed(checkpoint, model, config)
    with torch.inference_mode():
        rebuilt = _outputs(pruned.build(), images)
    if not all(map(torch.equal, rebuilt, expected)):
        raise PruningError(
            f'{checkpoint.path}: the network differs when it is built from its plan'
        )
    return pruned


def zero_weights(checkpoint: Checkpoint, share: float, parts: Sequence[str] = ()) -> Checkpoint:
    """Set the smallest weights of convolutions and linear layers to zero.

    Args:
        checkpoint: Its averaged model is changed.
        share: Of the weights of all parts together, above 0 and below 1.
        parts: Names of modules, such as ``head``; by default everything outside of the encoder.

    Raises:
        PruningError: The share is out of range, a part is not there or has no such layer, or no
            part is named for a network that does not say which of it is the encoder.
    """
    _check_share(share)
    model = checkpoint.build()
    layers = _layers(model, parts)
    if not layers:
        raise PruningError(f'got the parts {list(parts)}, expected some with convolutions')
    prune.global_unstructured(
        [(layer, 'weight') for layer in layers], prune.L1Unstructured, amount=share
    )
    for layer in layers:
        prune.remove(layer, 'weight')
    return _changed(checkpoint, model, checkpoint.config)


def _changed(checkpoint: Checkpoint, model: nn.Module, config: TrainConfig) -> Checkpoint:
    """Return a checkpoint of changed weights, which nothing is known of yet."""
    info = {**checkpoint.info, 'scores': {}, 'miou_present': math.nan}
    return replace(checkpoint, config=config, weights=model.state_dict(), info=info)


def fine_tuning(pruned: Checkpoint, path: Path, name: str) -> TrainConfig:
    """Return the training that goes on with a network whose channels were pruned.

    It is the training of the network before, shorter and at a lower learning rate.

    Args:
        pruned: See prune_channels.
        path: Where it is saved.
        name: Of the run.
    """
    config = pruned.config
    steps = max(1, round(config.optimizer.max_steps * FINE_TUNING_SHARE))
    optimizer = replace(
        config.optimizer,
        max_steps=steps,
        learning_rate=config.optimizer.learning_rate * FINE_TUNING_SHARE,
        warmup_steps=min(config.optimizer.warmup_steps, steps // 10),
        freeze_encoder_steps=0,
    )
    return replace(
        config,
        name=name,
        model=replace(config.model, weights=None),
        optimizer=optimizer,
        validate_every=min(config.validate_every, steps),
        init_checkpoint=path,
    )


def _remove_channels(model: nn.Module, images: torch.Tensor, share: float) -> None:
    import torch_pruning

    prefixes = cast(tuple[str, ...], model.classifiers)
    pruner = torch_pruning.pruner.BasePruner(
        model,
        images,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=[model.get_submodule(prefix.rstrip('.')) for prefix in prefixes],
        round_to=ROUND_TO,
        forward_fn=_outputs,
    )
    pruner.step()


def _outputs(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return all outputs, also of heads that answer in training alone; norms keep their values."""
    model.eval()
    model.training = True  # of the whole, not of its layers
    outputs = model(images)
    model.training = False
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise PruningError(f'got a share of {share}, expected above 0 and below 1')


def _layers(model: nn.Module, parts: Sequence[str]) -> list[nn.Module]:
    """Return the layers with weights in parts of a network, or outside of its encoder."""
    modules = dict(model.named_modules())
    if parts:
        wrong = [part for part in parts if part not in modules]
        if wrong:
            raise PruningError(f'got the parts {wrong}, expected modules such as {_names(model)}')
        inside = [module for part in parts for module in modules[part].modules()]
    elif hasattr(model, 'encoder'):
        encoder = set(cast(nn.Module, model.encoder).modules())
        inside = [module for module in modules.values() if module not in encoder]
    else:
        raise PruningError(
            'the network does not say which part is its encoder; fix: name the parts to prune '
            f'(of a DDRNet pyramid and head) out of {_names(model)}'
        )
    layers = [module for module in inside if isinstance(module, nn.Conv2d | nn.Linear)]
    return list(dict.fromkeys(layers))


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children()]
