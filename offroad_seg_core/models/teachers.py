"""Large networks, too slow for robots: backbones with UPerNet's and Mask2Former's heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from offroad_seg_core.models.flash_intern_image import FlashInternImage
from offroad_seg_core.models.mask2former import Mask2Former
from offroad_seg_core.models.uper import UPerNet
from offroad_seg_core.models.vit import LinearViT, ViTPyramid


def upernet_flash_intern_image(
    num_classes: int,
    *,
    size: str = 'l',
    drop_path_rate: float = 0.4,
    checkpointing: bool = False,
    **head: Any,
) -> UPerNet:
    """Return UPerNet on FlashInternImage.

    Args:
        num_classes: Channels of the logits.
        size: t, s, b or l: 29, 48, 95 or 219 million parameters of the backbone.
        drop_path_rate: See ``FlashInternImage``.
        checkpointing: Likewise.
        head: Options of ``UPerNet``.
    """
    backbone = FlashInternImage(size, drop_path_rate=drop_path_rate, checkpointing=checkpointing)
    return UPerNet(backbone, num_classes, **head)


def mask2former_flash_intern_image(
    num_classes: int,
    *,
    size: str = 'l',
    drop_path_rate: float = 0.5,
    checkpointing: bool = False,
    **head: Any,
) -> Mask2Former:
    """Return Mask2Former on FlashInternImage; arguments as above, ``head`` of ``Mask2Former``."""
    backbone = FlashInternImage(size, drop_path_rate=drop_path_rate, checkpointing=checkpointing)
    return Mask2Former(backbone, num_classes, **head)


def upernet_vit(
    num_classes: int,
    *,
    encoder: str = 'vit_large_patch16_dinov3',
    drop_path_rate: float = 0.3,
    checkpointing: bool = False,
    **head: Any,
) -> UPerNet:
    """Return UPerNet on a vision transformer of timm, see ``ViTPyramid``."""
    backbone = ViTPyramid(encoder, drop_path_rate=drop_path_rate, checkpointing=checkpointing)
    return UPerNet(backbone, num_classes, **head)


def mask2former_vit(
    num_classes: int,
    *,
    encoder: str = 'vit_large_patch16_dinov3',
    drop_path_rate: float = 0.3,
    checkpointing: bool = False,
    **head: Any,
) -> Mask2Former:
    """Return Mask2Former on a vision transformer of timm, see ``ViTPyramid``."""
    backbone = ViTPyramid(encoder, drop_path_rate=drop_path_rate, checkpointing=checkpointing)
    return Mask2Former(backbone, num_classes, **head)


TEACHERS: dict[str, Callable[..., nn.Module]] = {
    'upernet_flash_intern_image': upernet_flash_intern_image,
    'mask2former_flash_intern_image': mask2former_flash_intern_image,
    'upernet_vit': upernet_vit,
    'mask2former_vit': mask2former_vit,
    'linear_vit': LinearViT,
}
