"""Vision transformers of timm as backbones: a feature pyramid on them, and a linear head.

The pyramid is the simple one of Li et al., "Exploring Plain Vision Transformer Backbones for
Object Detection", ECCV 2022: four levels from the last feature map alone.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from offroad_seg_core.models.contract import check_images
from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports

PATCH_SIZE = 16  # of the pyramid: its levels then lie at strides 4 to 32


class ViTPyramid(nn.Module):
    """A vision transformer that gives feature maps at strides 4, 8, 16 and 32.

    Args:
        encoder: Name in timm, with patches of 16 px, such as vit_large_patch16_dinov3.
        channels: Of each level.
        drop_path_rate: Stochastic depth of the last block (Huang et al. 2016).
        checkpointing: Compute the blocks again in the backward pass instead of keeping them.

    Attributes:
        channels: Of the feature maps.
        num_layers: Blocks of the transformer.

    Raises:
        ValueError: No such transformer, or one with other patches.
    """

    input_multiple = 32

    def __init__(
        self,
        encoder: str,
        *,
        channels: int = 256,
        drop_path_rate: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.name = encoder
        self.encoder: Any = create_vit(encoder, drop_path_rate)
        if patch_size(self.encoder) != PATCH_SIZE:
            raise ValueError(
                f'encoder {encoder!r} has patches of {patch_size(self.encoder)} px, expected '
                f'{PATCH_SIZE}: its feature pyramid would not lie at strides 4 to 32'
            )
        self.encoder.set_grad_checkpointing(checkpointing)
        self.num_layers = len(self.encoder.blocks)
        self.channels = (channels,) * 4
        width: int = self.encoder.embed_dim
        self.levels = nn.ModuleList(
            nn.Sequential(*resize, *_projection(depth, channels))
            for resize, depth in _resizes(width)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return four ``(N, channels, H / s, W / s)`` maps of normalised ``(N, 3, H, W)`` images.

        H and W are multiples of 32.
        """
        x = last_features(self.encoder, images)
        return [level(x) for level in self.levels]

    def layer_id(self, name: str) -> int:
        """Return how deep a weight lies: 0 for patches and positions, then 1 for the first block.

        Norm and pyramid behind the blocks are one deeper than the last.
        """
        block = re.match(r'encoder\.blocks\.(\d+)\.', name)
        if block is not None:
            return int(block[1]) + 1
        return self.num_layers + 1 if name.startswith(('levels.', 'encoder.norm.')) else 0


class LinearViT(nn.Module):
    """A vision transformer and one linear layer: a logit for each patch.

    The baseline that desert challenges start from. Its borders are blurred, because a patch of
    14 px has one answer: thin trunks and logs are smaller than that.

    Args:
        num_classes: Channels of the logits.
        encoder: Name in timm.

    Raises:
        ValueError: Too few classes, or no such transformer.
    """

    classifiers = ('classifier.',)

    def __init__(self, num_classes: int, *, encoder: str = 'vit_small_patch14_dinov2') -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f'num_classes is {num_classes}, expected 2 or more')
        self.encoder_name = encoder
        self.encoder: Any = create_vit(encoder, 0.0)
        self.stride = self.input_multiple = patch_size(self.encoder)
        self.classifier = nn.Conv2d(self.encoder.embed_dim, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)  # small logits favour no class
        assert self.classifier.bias is not None
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised ``(N, 3, H, W)`` images to ``(N, C, H / stride, W / stride)`` logits.

        Raises:
            ValueError: H or W is not a multiple of the patches' size.
        """
        check_images(images, self.input_multiple)
        return self.classifier(last_features(self.encoder, images))


def create_vit(name: str, drop_path_rate: float) -> Any:
    """Return a transformer of timm with fresh weights and without its classifier.

    Raises:
        ValueError: There is none of that name.
    """
    ensure_torchvision_imports()
    import timm

    if not name.startswith('vit_') or not timm.is_model(name):
        raise ValueError(f"encoder {name!r} is none of timm.list_models('vit_*')")
    return timm.create_model(
        name, num_classes=0, dynamic_img_size=True, drop_path_rate=drop_path_rate
    )


def patch_size(encoder: Any) -> int:
    """Return the side of a patch in px."""
    return encoder.patch_embed.patch_size[0]


def last_features(encoder: Any, images: Tensor) -> Tensor:
    """Return the last block's normalised patches as a map, ``(N, D, H / patch, W / patch)``."""
    (features,) = encoder.forward_intermediates(
        images, indices=1, norm=True, intermediates_only=True
    )
    return features


def _resizes(width: int) -> list[tuple[list[nn.Module], int]]:
    """Return for each level what brings the map to its stride, and the channels behind that."""
    from timm.layers import LayerNorm2d

    half, quarter = width // 2, width // 4
    return [
        (
            [
                nn.ConvTranspose2d(width, half, 2, stride=2),
                LayerNorm2d(half),
                nn.GELU(),
                nn.ConvTranspose2d(half, quarter, 2, stride=2),
            ],
            quarter,
        ),
        ([nn.ConvTranspose2d(width, half, 2, stride=2)], half),
        ([], width),
        ([nn.MaxPool2d(2)], width),
    ]


def _projection(in_channels: int, channels: int) -> list[nn.Module]:
    from timm.layers import LayerNorm2d

    return [
        nn.Conv2d(in_channels, channels, 1, bias=False),
        LayerNorm2d(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        LayerNorm2d(channels),
    ]
