"""Checkpoints: weights with everything that is needed to use, resume or explain them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
import pickle
from typing import Any

import torch
from torch import Tensor, nn

from offroad_seg_core.config import dump_config, load_config
from offroad_seg_core.files import atomic_path
from offroad_seg_core.models import create_model
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_core.training.config import TrainConfig

KEY = 'offroad_seg'
FORMAT_VERSION = 1
_AVERAGE = 'average.'


class CheckpointError(ValueError):
    """A file is no checkpoint of this project, or does not fit its use."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file of ``training/train.py`` holds.

    Attributes:
        path: The file.
        config: The resolved configuration of the run.
        taxonomy: The classes it was trained on.
        info: ``git_commit``, ``config_sha256``, ``taxonomy_sha256``, ``step``, ``elapsed_s``,
            ``command``, and of the last validation ``miou_present`` (nan before the first) and
            ``scores`` (see ``SegmentationScores.to_dict``).
        weights: State dict of the averaged model.
    """

    path: Path
    config: TrainConfig
    taxonomy: Taxonomy
    info: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    def build(self) -> nn.Module:
        """Return the averaged model in eval mode."""
        settings = self.config.model
        model = create_model(settings.name, self.taxonomy.num_classes, **settings.options)
        model.load_state_dict(self.weights)
        return model.eval()

    def save(self, path: str | Path) -> None:
        """Write what ``load_checkpoint`` reads; a training cannot resume from it."""
        content = {
            KEY: {
                'format_version': FORMAT_VERSION,
                'config': dump_config(self.config),
                'taxonomy': self.taxonomy.to_dict(),
                'info': dict(self.info),
            },
            'state_dict': {f'{_AVERAGE}{name}': value for name, value in self.weights.items()},
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain values are unpickled.

    Raises:
        CheckpointError: The file is missing, damaged or not written by this project.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'{path}: no such file; expected a .ckpt of training/train.py')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError) as error:
        raise CheckpointError(f'{path}: cannot be read as a checkpoint: {error}') from error
    record = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(record, dict):
        raise CheckpointError(f'{path}: was not written by training/train.py (no {KEY!r} entry)')
    if record.get('format_version') != FORMAT_VERSION:
        raise CheckpointError(
            f'{path}: format version {record.get("format_version")}, expected {FORMAT_VERSION}; '
            'train again with this version'
        )
    missing = [key for key in ('config', 'taxonomy', 'info') if key not in record]
    missing += [key for key in ('state_dict',) if key not in content]
    if missing:
        raise CheckpointError(f'{path}: has no {", ".join(missing)}; take another, or train again')
    weights = {
        name.removeprefix(_AVERAGE): value
        for name, value in content['state_dict'].items()
        if name.startswith(_AVERAGE)
    }
    return Checkpoint(
        path,
        load_config(TrainConfig, record['config']),
        Taxonomy.from_dict(record['taxonomy'], str(path)),
        record['info'],
        weights,
    )
