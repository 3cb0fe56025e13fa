"""Pretrained encoder weights: by name from the hub, or from a file.

Nothing is downloaded unless a configuration names the weights. Files are read as safetensors or
with ``weights_only=True``; what was and what was not loaded is listed, and the file's hash logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import logging
from pathlib import Path
import pickle
from typing import Any, cast

import torch
from torch import Tensor, nn

from offroad_seg_core.files import sha256_of
from offroad_seg_core.models import flash_intern_image
from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports

log = logging.getLogger(__name__)

FILE_SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin', '.ckpt')
# What files of other projects wrap weights in.
_CONTAINERS = ('state_dict', 'model_state_dict', 'model', 'params_ema', 'model_ema')
_PREFIXES = ('module.', 'model.', 'network.', 'encoder.', 'backbone.', 'segformer.')
# (part of the encoder's name, name of the weights or '' for all, SPDX identifier, what to know)
_LICENCES = (
    ('', 'swsl', 'CC-BY-NC-4.0', 'not for commercial use (Facebook, semi-weakly supervised)'),
    ('', 'ssl', 'CC-BY-NC-4.0', 'not for commercial use (Facebook, semi-supervised)'),
    ('mit_b', '', 'LicenseRef-NVIDIA-SegFormer', 'not for commercial use'),
    ('dinov3', '', 'LicenseRef-Meta-DINOv3', 'read its terms before use'),
)
UNKNOWN_LICENSE = 'NOASSERTION'
"""What SPDX calls a licence that nobody has stated."""


class WeightsError(ValueError):
    """Weights that cannot be had or do not fit."""


@dataclass(frozen=True)
class LoadReport:
    """What became of a file of weights.

    Attributes:
        path: The file.
        sha256: Of its bytes.
        loaded: Names of the encoder's weights that it filled.
        missing: Names of those that it did not.
        unused: Names in the file that the encoder does not have, such as its old classifier.
    """

    path: Path
    sha256: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_encoder_weights(model: nn.Module, weights: str) -> LoadReport:
    """Fill a model's encoder; the decoder and the classifier keep their fresh weights.

    A model with ``load_head_weights`` also fills its head, where the file is of such a network.

    Args:
        model: With an ``encoder`` and its ``encoder_name`` in segmentation-models-pytorch or
            timm, or one of this package; changed in place.
        weights: The path of a file, or a name such as ``imagenet`` or ``swsl``.

    Raises:
        WeightsError: The model has no encoder, the name is unknown, the file cannot be had or
            read, or it is of another architecture.
    """
    if not hasattr(model, 'encoder'):
        raise WeightsError(
            f'weights {weights!r}: {type(model).__name__} has no encoder with published weights; '
            'start it from a checkpoint with init_checkpoint'
        )
    encoder, encoder_name = cast(nn.Module, model.encoder), cast(str, model.encoder_name)
    path = Path(weights) if _is_file(weights) else _from_hub(encoder_name, weights)
    everything, own = read_weights(path), encoder.state_dict()
    state = _matching(everything, own, path, cast(float, getattr(encoder, 'required_share', 0.5)))
    wrong = sorted(name for name in state if name in own and state[name].shape != own[name].shape)
    if wrong:
        name = wrong[0]
        raise WeightsError(
            f'{path}: {len(wrong)} weights have another shape, the first is {name}: got '
            f'{tuple(state[name].shape)}, expected {tuple(own[name].shape)} of {encoder_name}'
        )
    fitting = {name: value for name, value in state.items() if name in own}
    encoder.load_state_dict(fitting, strict=False)
    # Counters of batch norm steps are no weights; old files lack them.
    needed = {name for name in own if not name.endswith('num_batches_tracked')}
    report = LoadReport(
        path,
        sha256_of(path),
        tuple(fitting),
        tuple(sorted(needed - fitting.keys())),
        tuple(sorted(state.keys() - own.keys())),
    )
    _tell(report, encoder_name, weights)
    if hasattr(model, 'load_head_weights'):
        _load_head(model, everything, path)
    return report


def restricted_license(encoder_name: str, weights: str) -> tuple[str, str] | None:
    """Return SPDX identifier and a remark of weights that are not free to use as this package is.

    None where nothing is known to restrict them. Of a file nothing is known but its encoder.

    Args:
        encoder_name: See ``load_encoder_weights``.
        weights: Their name, or the path of a file.
    """
    for part, name, identifier, remark in _LICENCES:
        if part in encoder_name and name in ('', weights):
            return identifier, remark
    if _is_file(weights):
        return UNKNOWN_LICENSE, 'nothing says under which licence that file is'
    return None


def _is_file(weights: str) -> bool:
    return weights.endswith(FILE_SUFFIXES) or Path(weights).exists()


def _load_head(model: Any, everything: Mapping[str, Tensor], path: Path) -> None:
    try:
        names = model.load_head_weights(everything)
    except ValueError as error:
        raise WeightsError(f'{path}: {error}') from error
    log.info('%s: %d weights of the head loaded', path, len(names['loaded']))
    for what in ('missing', 'unused'):
        if names['loaded'] and names[what]:
            log.warning('%s: %s in the head: %s', path, what, ', '.join(names[what]))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of weights, out of whatever it wraps them in.

    Raises:
        WeightsError: The file is missing, damaged, or needs code to be run to be read.
    """
    if not path.is_file():
        raise WeightsError(f'{path}: no such file; expected one of {", ".join(FILE_SUFFIXES)}')
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f'{path}: holds more than weights, and reading it would run its code: {error}; '
            'convert it to safetensors on a machine that may run it'
        ) from error
    except Exception as error:  # what a damaged file makes the two readers raise is open-ended
        raise WeightsError(f'{path}: cannot be read as weights: {error}') from error
    for key in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = (
        {name: value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not tensors:
        raise WeightsError(f'{path}: holds no named tensors; expected a state dict')
    return tensors


def _matching(
    state: dict[str, Tensor], own: Mapping[str, Any], path: Path, required_share: float
) -> dict[str, Tensor]:
    """Return the file's weights under the encoder's names: prefixes of other projects cut off."""
    best, hits = state, sum(name in own for name in state)
    candidates = [state]
    for _ in range(3):  # e.g. module.encoder.
        candidates = [
            {name[len(prefix) :]: value for name, value in candidate.items()
             if name.startswith(prefix)}
            for candidate in candidates
            for prefix in _PREFIXES
        ]  # fmt: skip
        candidates = [candidate for candidate in candidates if candidate]
        for candidate in candidates:
            count = sum(name in own for name in candidate)
            if count > hits:
                best, hits = candidate, count
    if hits < required_share * len(own):
        raise WeightsError(
            f'{path}: only {hits} of {len(own)} weights of the encoder are in it, expected '
            f'{required_share:.0%} or more; it holds such as {next(iter(state))}; give a file of '
            'this encoder'
        )
    return best


def _from_hub(encoder_name: str, weights: str) -> Path:
    repository, revision, file = _hub_address(encoder_name, weights)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # offline, blocked, moved: each HTTP library has its own errors
        url = f'https://huggingface.co/{repository}/resolve/{revision or "main"}/{file}'
        raise WeightsError(
            f'weights {weights!r} of {encoder_name} could not be downloaded '
            f'({type(error).__name__}); fix: download {url} where there is a network, copy it '
            'here and give its path as model.weights'
        ) from error


def _hub_address(encoder_name: str, weights: str) -> tuple[str, str | None, str]:
    """Return repository, revision and file name of named weights."""
    own = flash_intern_image.published_weights(encoder_name)
    if own is not None:
        if weights not in own:
            raise WeightsError(
                f'no weights of {encoder_name} are named {weights!r}; expected one of '
                f'{", ".join(own)}, or a path'
            )
        return flash_intern_image.PUBLISHER, None, own[weights]
    ensure_torchvision_imports()
    from segmentation_models_pytorch.encoders import encoders

    if encoder_name in encoders:
        settings = encoders[encoder_name]['pretrained_settings']
        if weights not in settings:
            raise WeightsError(
                f'no weights of {encoder_name} are named {weights!r}; expected one of '
                f'{", ".join(settings)}, or a path'
            )
        return settings[weights]['repo_id'], settings[weights]['revision'], 'model.safetensors'
    import timm

    tagged = encoder_name if weights == 'imagenet' else f'{encoder_name}.{weights}'
    try:
        config = timm.get_pretrained_cfg(tagged, allow_unregistered=False)
    except RuntimeError:
        config = None
    if config is None or not config.hf_hub_id:
        known = timm.list_pretrained(f'{encoder_name}.*')
        raise WeightsError(
            f'no weights of {encoder_name} are named {weights!r}; expected imagenet or the part '
            f'behind the dot of {", ".join(known) or "(there are none)"}'
        )
    return config.hf_hub_id, None, 'model.safetensors'


def _tell(report: LoadReport, encoder_name: str, weights: str) -> None:
    log.info(
        '%s: %d encoder weights loaded, %d missing, %d unused; sha256 %s',
        report.path, len(report.loaded), len(report.missing), len(report.unused), report.sha256,
    )  # fmt: skip
    for what, names in (('missing, kept fresh', report.missing), ('unused', report.unused)):
        if names:
            log.warning('%s: %s: %s', report.path, what, ', '.join(names))
    license_name = restricted_license(encoder_name, weights)
    if license_name is not None:
        log.warning('licence of the weights of %s: %s: %s', encoder_name, *license_name)
