"""Trained networks, whether a checkpoint or a model bundle holds their weights."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from offroad_seg_core.files import sha256_of
from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.engines import create_engine
from offroad_seg_core.inference.manifest import MANIFEST_NAME, InputSpec
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_core.training.checkpoint import load_checkpoint


class Network(Protocol):
    """A trained network, wherever its weights are kept."""

    @property
    def spec(self) -> InputSpec:
        """What it wants to see."""
        ...

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of its logits."""
        ...

    @property
    def sha256(self) -> str:
        """Of its file."""
        ...

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return ``(N, C, h, w)`` float32 for ``(N, H, W, 3)`` uint8 in the order of ``spec``."""
        ...

    def module(self) -> nn.Module:
        """Return the network with its weights, in eval mode."""
        ...


def open_network(path: Path) -> Network:
    """Open a checkpoint of training/train.py or the folder of a model bundle.

    Raises:
        CheckpointError, BundleError: It cannot be read, or does not end in logits.
    """
    return _OfBundle(path) if path.is_dir() else _OfCheckpoint(path)


class _OfCheckpoint:
    """Runs in PyTorch, on the GPU if there is one."""

    def __init__(self, path: Path) -> None:
        self._checkpoint = load_checkpoint(path)
        self.taxonomy = self._checkpoint.taxonomy
        self.sha256 = sha256_of(path)
        self._device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')

    @cached_property
    def spec(self) -> InputSpec:
        stride: Any = self._module.input_multiple
        return self._checkpoint.config.model.input_spec(stride)

    @cached_property
    def _module(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):  # its first, random weights are none of ours
            module: Any = self._checkpoint.build()
        return module.to(self._device, memory_format=torch.channels_last).requires_grad_(False)

    def module(self) -> nn.Module:
        return self._module

    def logits(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self._device)
            return self._module(normalized(batch, self.spec)).float().cpu().numpy()


class _OfBundle:
    """Runs in the fastest engine of this machine, in float32."""

    def __init__(self, path: Path) -> None:
        self._bundle = Bundle.load(path)
        manifest = self._bundle.manifest
        if manifest.outputs.kind == 'labels':
            raise BundleError(
                f'{path}: outputs labels, but a teacher must give the probability of every class; '
                'fix: take a bundle that gives logits, or the checkpoint it was made from'
            )
        self.spec = manifest.input
        self.taxonomy = self._bundle.taxonomy
        self.sha256 = sha256_of(path / MANIFEST_NAME)  # which holds those of all other files

    @cached_property
    def _engine(self) -> Any:
        return create_engine(self._bundle, precision='fp32')

    def module(self) -> nn.Module:
        from offroad_seg_core.inference.bundle_weights import network_of  # imports onnx

        return network_of(self._bundle).requires_grad_(False)

    def logits(self, images: np.ndarray) -> np.ndarray:
        return self._engine.run(images).logits


def normalized(images: Tensor, spec: InputSpec) -> Tensor:
    """Turn ``(N, H, W, 3)`` uint8 into ``(N, 3, H, W)`` float32 as a network wants it."""
    mean, std = (torch.tensor(v, device=images.device) for v in (spec.mean, spec.std))
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
