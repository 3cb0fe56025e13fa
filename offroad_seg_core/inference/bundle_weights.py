"""The PyTorch network that a bundle was exported from."""

from __future__ import annotations

import torch
from torch import nn

from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.export import state_dict_from_onnx
from offroad_seg_core.models import create_model


def network_of(bundle: Bundle) -> nn.Module:
    """Return a bundle's network with its weights, in eval mode.

    Raises:
        BundleError: It has no float32 weights, or does not name its architecture.
    """
    architecture = bundle.manifest.architecture
    if architecture is None or 'fp32' not in bundle.precisions:
        raise BundleError(
            f'{bundle.path}: has precisions {list(bundle.precisions)} and architecture '
            f'{architecture}, but PyTorch needs the float32 weights of a named architecture; '
            'fix: take the checkpoint it was made from'
        )
    with torch.random.fork_rng(devices=[]):  # its first, random weights are none of ours
        module = create_model(architecture.name, **architecture.kwargs)
    weights = state_dict_from_onnx(bundle.model_file('fp32'))
    missing, unexpected = module.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.endswith('num_batches_tracked')]
    if missing or unexpected:
        raise BundleError(
            f'{bundle.path}: its weights do not fit {architecture}: missing {missing[:3]}, '
            f'unexpected {unexpected[:3]}; fix: export the bundle again'
        )
    return module.eval()
