"""From a checkpoint to a model bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
import tempfile
from typing import Any

from torch import nn

from offroad_seg_core import provenance
from offroad_seg_core.config import dump_config
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.inference.bundle import Bundle, write_bundle
from offroad_seg_core.inference.export import Parity, export_onnx
from offroad_seg_core.models import create_model
from offroad_seg_core.training.bundle_frames import write_pictures
from offroad_seg_core.training.checkpoint import Checkpoint
from offroad_seg_core.training.weights_license import OWN_LICENSE, inherited_licenses

MODEL_FILE = 'model.onnx'


def export_checkpoint(
    checkpoint: Checkpoint,
    output: str | Path,
    license_name: str | None = None,
    input_size: tuple[int, int] | None = None,
    frames: FrameSet | None = None,
) -> Bundle:
    """Write the averaged model of a checkpoint as a bundle.

    Args:
        checkpoint: Of ``training/train.py``.
        output: The bundle's folder, replaced if it is a bundle.
        license_name: SPDX expression of the weights' licence, which may follow from their data;
            None: this package's, or those of what the run started from.
        input_size: (height, width) that the robot fits frames into; None: the training's. Smaller
            is faster and less accurate; the metrics in the manifest stay those of the training.
        frames: Whose pictures the bundle takes along, see bundle_frames.py.

    Raises:
        DatasetError: A picture cannot be read.
        ExportError: The exported file does not compute what the model does.
        BundleError: The folder is something else.
    """
    model, architecture = _model(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        files = {} if frames is None else write_pictures(frames, Path(folder))
        file = files[MODEL_FILE] = Path(folder) / MODEL_FILE
        parity = export_onnx(model, file)
        manifest = {
            'name': Path(output).name,
            'taxonomy': checkpoint.taxonomy.to_dict(),
            'input': _input_spec(checkpoint, model, input_size),
            'models': [{'precision': 'fp32', 'file': MODEL_FILE}],
            'outputs': {
                'kind': 'logits',
                'stride': model.stride,
                'num_classes': checkpoint.taxonomy.num_classes,
            },
            'architecture': architecture,
            'metrics': {
                'measured_at_input_size': list(checkpoint.config.model.input_size),
                **checkpoint.info['scores'],
            },
            'provenance': _provenance(checkpoint, parity, license_name, frames),
        }
        return write_bundle(output, manifest, files)


def _model(checkpoint: Checkpoint) -> tuple[nn.Module, dict[str, Any]]:
    """Return what runs on the robot, in eval mode, and its `architecture` in the manifest."""
    settings = checkpoint.config.model
    kwargs = {'num_classes': checkpoint.taxonomy.num_classes, **settings.options}
    if getattr(checkpoint.build(), 'auxiliary_head', None) is not None:  # for training alone
        kwargs['auxiliary'] = False
    model = create_model(settings.name, **kwargs)
    model.load_state_dict({name: checkpoint.weights[name] for name in model.state_dict()})
    return model.eval(), {'name': settings.name, 'kwargs': kwargs}


def _input_spec(
    checkpoint: Checkpoint, model: nn.Module, input_size: tuple[int, int] | None
) -> dict[str, Any]:
    settings = checkpoint.config.model
    return {
        'size': list(input_size or settings.input_size),
        'resize': settings.resize,
        'color_order': 'rgb',
        'mean': list(settings.mean),
        'std': list(settings.std),
        'stride': model.input_multiple,
    }


def _provenance(
    checkpoint: Checkpoint, parity: Parity, license_name: str | None, frames: FrameSet | None
) -> dict[str, Any]:
    report, files = asdict(parity), () if frames is None else frames.files
    return {
        'license': license_name or ' AND '.join(inherited_licenses(checkpoint)) or OWN_LICENSE,
        'training': {
            'config': dump_config(checkpoint.config),
            'checkpoint': checkpoint.path.name,
            **{key: value for key, value in checkpoint.info.items() if key != 'scores'},
        },
        'export': {
            'git_commit': provenance.git_commit(),
            'versions': provenance.versions(),
            'weights': 'averaged; stored as float16 where large, computed in float32',
            'parity': {**report, 'sizes': [list(size) for size in report['sizes']]},
        },
        'frames': [f'{file.environment}/{file.image.name}' for file in files],
    }
