"""Under which licences the weights of a run are: its own, and those of what it learned from."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.models.pretrained import UNKNOWN_LICENSE, restricted_license
from offroad_seg_core.training.checkpoint import Checkpoint, load_checkpoint

OWN_LICENSE = 'Apache-2.0'


def inherited_licenses(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the other licences that the weights come under, by whatever the run learned from.

    That is ``model.weights``, ``init_checkpoint`` and the teachers of a distillation, whose own
    beginnings count as well.

    Args:
        checkpoint: Of ``training/train.py``.

    Returns:
        SPDX identifier → where it is from and what to know. Empty where nothing restricts them.

    Raises:
        CheckpointError, BundleError: What the run learned from is there and cannot be read.
    """
    found: dict[str, str] = {}
    config = checkpoint.config
    weights = config.model.weights
    teachers = () if config.distillation is None else config.distillation.teachers
    if weights is not None:
        encoder = cast(str, checkpoint.build().encoder_name)
        restricted = restricted_license(encoder, weights)
        if restricted is not None:
            identifier, remark = restricted
            found[identifier] = f'weights {weights!r} of {encoder}: {remark}'
    for source in (config.init_checkpoint, *(teacher.path for teacher in teachers)):
        if source is not None:
            found.update(_licenses_at(source))
    return found


def _licenses_at(source: Path) -> dict[str, str]:
    if not source.exists():
        return {
            UNKNOWN_LICENSE: f'{source}: the run learned from it, and it is not there any more'
        }
    if not source.is_dir():
        return inherited_licenses(load_checkpoint(source))
    identifier = Bundle.load(source).manifest.provenance.get('license', UNKNOWN_LICENSE)
    return {} if identifier == OWN_LICENSE else {identifier: f'of the bundle {source}'}


def check_license(checkpoint: Checkpoint, license_name: str | None) -> None:
    """Refuse to pass weights on under this package's licence where others hold for them.

    Args:
        checkpoint: Of ``training/train.py``.
        license_name: What its user states; None for nothing.

    Raises:
        ValueError: Nothing is stated and something restricts the weights.
    """
    inherited = {} if license_name else inherited_licenses(checkpoint)
    if inherited:
        reasons = '; '.join(f'{name}: {reason}' for name, reason in inherited.items())
        raise ValueError(
            f'{checkpoint.path}: its weights are not simply under {OWN_LICENSE}: {reasons}; say '
            f'under what they are passed on, such as --license {" AND ".join(inherited)!r}'
        )
