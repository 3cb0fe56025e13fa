"""What every model promises: checked in one place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class QueryPredictions:
    """What a network that predicts whole masks returns in training, instead of logits of pixels.

    Attributes:
        class_logits: For each of its stages, ``(N, Q, C + 1)`` float for Q queries; the last
            class is that of queries that show nothing.
        mask_logits: For each stage, ``(N, Q, h, w)`` float; a mask is where they are above 0.
    """

    class_logits: tuple[Tensor, ...]
    mask_logits: tuple[Tensor, ...]


def check_images(images: Tensor, multiple: int) -> None:
    """Refuse ``(N, 3, H, W)`` images whose height or width is no multiple of ``multiple``.

    Raises:
        ValueError: With the next size that fits.
    """
    if torch.compiler.is_exporting():  # sizes are symbols there
        return
    height, width = images.shape[-2:]
    if height % multiple or width % multiple:
        padded = tuple(-(-size // multiple) * multiple for size in (height, width))
        raise ValueError(
            f'image size ({height}, {width}) is not divisible by {multiple}, so that the '
            f'branches would not line up; pad or resize to {padded}'
        )
