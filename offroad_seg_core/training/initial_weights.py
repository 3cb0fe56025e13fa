"""A fresh network takes its first weights from one that was trained before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
import logging
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.models.channels import AUXILIARY_HEAD
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_core.training.checkpoint import CheckpointError, load_checkpoint
from offroad_seg_core.training.config import TrainConfig

log = logging.getLogger(__name__)


class _Source(NamedTuple):
    network: str
    options: Mapping[str, Any]
    taxonomy: Taxonomy
    weights: Mapping[str, Tensor]
    is_bundle: bool

    def __str__(self) -> str:
        options = {key: value for key, value in self.options.items() if key != 'channels'}
        pruned = 'pruned ' if self.options.get('channels') else ''
        return f'{pruned}{self.network} {options}'


def with_channels_of_start(config: TrainConfig, *, resume: bool) -> TrainConfig:
    """Return the run of a network as narrow as the pruned one that it starts from.

    Args:
        config: The run; left as it is where ``model.options`` says which channels it has, or its
            start is another model or not pruned.
        resume: Take the channels from the run's own checkpoint: its start may be gone since.

    Raises:
        CheckpointError, BundleError: What it starts from cannot be read.
    """
    settings, start = config.model, config.init_checkpoint
    if start is None or 'channels' in settings.options:
        return config
    if resume:
        start = config.folder / 'last.ckpt'
        if not start.exists():
            return config
    source = _open(start)
    channels = source.options.get('channels')
    if not channels or source.network != settings.name:
        return config
    log.info('%s is a pruned network: as narrow is the one that starts from it', start)
    options = {**settings.options, 'channels': channels}
    return replace(config, model=replace(settings, options=options))


def initialize_from(model: nn.Module, path: str | Path, taxonomy: Taxonomy) -> list[str]:
    """Copy the averaged weights of a checkpoint, or those of a bundle, into a fresh model.

    The classifier is copied only if both were made for the same classes in the same order; its
    rows mean other things otherwise, even where the counts agree. A bundle has no auxiliary head;
    that of the model stays new.

    Args:
        model: Changed in place.
        path: A checkpoint of ``training/train.py``, or the folder of a model bundle.
        taxonomy: The classes of ``model``.

    Returns:
        Names of the weights that were not loaded.

    Raises:
        CheckpointError: The architectures differ, or the checkpoint cannot be read.
        BundleError: The bundle is without float32 weights, or cannot be read.
    """
    source = _open(Path(path))
    same_classes = source.taxonomy.names == taxonomy.names
    state = model.state_dict()
    fresh: tuple[str, ...] = (AUXILIARY_HEAD,) if source.is_bundle else ()
    if not same_classes:
        fresh += cast(tuple[str, ...], model.classifiers)
    skipped = [key for key in state if key.startswith(fresh)] if fresh else []
    wrong = sorted(
        name
        for name in state.keys() | source.weights.keys()
        if name not in skipped
        and (
            name not in state
            or name not in source.weights
            or state[name].shape != source.weights[name].shape
        )
    )
    if wrong:
        raise CheckpointError(
            f'{path}: is a {source}; {len(wrong)} weights do not fit this model, the first is '
            f'{wrong[0]}; set the same model.name and model.options'
        )
    model.load_state_dict({**source.weights, **{name: state[name] for name in skipped}})
    log.info('%s: %d weights loaded', path, len(state) - len(skipped))
    if skipped:
        reason = f'trained on {source.taxonomy.name}, not {taxonomy.name}'
        reason = 'a bundle without the auxiliary head' if same_classes else reason
        log.warning('%s: %s: new weights for %s', path, reason, ', '.join(skipped))
    return skipped


def _open(path: Path) -> _Source:
    if not path.is_dir():
        checkpoint = load_checkpoint(path)
        model, weights = checkpoint.config.model, checkpoint.weights
        return _Source(model.name, model.options, checkpoint.taxonomy, weights, is_bundle=False)
    from offroad_seg_core.inference.bundle_weights import network_of  # imports onnx

    bundle = Bundle.load(path)
    weights = network_of(bundle).state_dict()
    network = bundle.manifest.architecture
    assert network is not None  # by network_of
    return _Source(network.name, network.kwargs, bundle.taxonomy, weights, is_bundle=True)
