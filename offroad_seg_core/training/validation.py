"""Measure a model on whole frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.metrics.meter import SegmentationMeter


def confusion_matrices(
    model: Callable[[Tensor], Tensor], frames: Iterable[dict[str, Any]], num_classes: int
) -> dict[str, ConfusionMatrix]:
    """Return one confusion matrix an environment, at the labels' own resolution.

    Args:
        model: Maps ``(1, H, W, 3)`` uint8 RGB to logits at its stride.
        frames: See ``ValidationViews``.
        num_classes: Of the taxonomy.
    """
    matrices: dict[str, ConfusionMatrix] = {}
    for frame in frames:
        matrix = matrices.setdefault(frame['environment'], ConfusionMatrix(num_classes))
        matrix.update(predict(model, frame).cpu().numpy(), frame['target'])
    return matrices


def measure(
    model: Callable[[Tensor], Tensor], frames: Iterable[dict[str, Any]], meter: SegmentationMeter
) -> None:
    """Add every score of whole frames to ``meter``, at the labels' own resolution.

    Args:
        model: Maps ``(1, H, W, 3)`` uint8 RGB to logits at its stride.
        frames: See ``ValidationViews``; one with a ``name`` keeps it in the scores of images.
        meter: Of the model's taxonomy.
    """
    for frame in frames:
        confidence, label_map = full_logits(model, frame).softmax(dim=1).max(dim=1)
        meter.update(
            label_map[0].to(torch.uint8).cpu().numpy(),
            frame['target'],
            confidence[0].cpu().numpy(),
            frame['environment'],
            frame.get('name', ''),
        )


def predict(model: Callable[[Tensor], Tensor], frame: dict[str, Any]) -> Tensor:
    """Return the label map of one frame at the size of its target, ``(H, W)`` uint8."""
    return full_logits(model, frame).argmax(dim=1)[0].to(torch.uint8)


def full_logits(model: Callable[[Tensor], Tensor], frame: dict[str, Any]) -> Tensor:
    """Return the logits of one frame at the size of its target, ``(1, C, H, W)`` float32."""
    image = frame['image'].unsqueeze(0)
    logits = upsample(model(image), image.shape[1:3])
    height, width = frame['content_size']
    return upsample(logits[..., :height, :width], frame['target'].shape)


def upsample(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize ``(N, C, h, w)`` logits to ``(N, C, *size)`` float32, bilinearly."""
    return functional.interpolate(
        logits.float(), size=tuple(size), mode='bilinear', align_corners=False
    )


def merged(matrices: Iterable[ConfusionMatrix]) -> ConfusionMatrix:
    """Return the matrix of all sets together; there is at least one."""
    return reduce(ConfusionMatrix.merge, matrices)
