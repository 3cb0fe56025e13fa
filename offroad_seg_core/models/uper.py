"""UPerNet: pyramid pooling and a feature pyramid on any backbone of four levels.

Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018, with the settings
that FlashInternImage was published with; the auxiliary head is that of PSPNet (Zhao et al., 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from offroad_seg_core.models.contract import check_images

POOL_SCALES = (1, 2, 3, 6)
AUXILIARY_LEVEL = 2


class UPerHead(nn.Module):
    """Merge four feature maps into logits at the first one's stride.

    Args:
        in_channels: Of the feature maps, highest resolution first.
        num_classes: Channels of the logits.
        channels: Width of the head.
        dropout: Share of channels that are zeroed before the classifier in training.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        channels: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        *lower, deepest = in_channels
        self.pooled = nn.ModuleList(_conv(deepest, channels, 1) for _ in POOL_SCALES)
        self.bottleneck = _conv(deepest + len(POOL_SCALES) * channels, channels, 3)
        self.laterals = nn.ModuleList(_conv(count, channels, 1) for count in lower)
        self.smooth = nn.ModuleList(_conv(channels, channels, 3) for _ in lower)
        self.fuse = _conv(len(in_channels) * channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.apply(_initialize)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return ``(N, num_classes, H, W)`` logits in the size of the first feature map."""
        *lower, deepest = features
        levels = [lateral(x) for lateral, x in zip(self.laterals, lower, strict=True)]
        levels.append(self._pyramid_pooling(deepest))
        for index in range(len(levels) - 2, -1, -1):
            levels[index] = levels[index] + _resize_to(levels[index + 1], levels[index])
        smoothed = [smooth(x) for smooth, x in zip(self.smooth, levels[:-1], strict=True)]
        maps = [_resize_to(x, levels[0]) for x in (*smoothed, levels[-1])]
        return self.classifier(self.dropout(self.fuse(torch.cat(maps, 1))))

    def _pyramid_pooling(self, x: Tensor) -> Tensor:
        pooled = [
            _resize_to(conv(pool(x, scale)), x)
            for conv, scale in zip(self.pooled, POOL_SCALES, strict=True)
        ]
        return self.bottleneck(torch.cat([x, *pooled], 1))


class FCNHead(nn.Module):
    """Classify one feature map; a second source of gradients in training.

    Args:
        in_channels: Of the feature map.
        num_classes: Channels of the logits.
        channels: Width of the head.
        dropout: As in ``UPerHead``.
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, channels: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.conv = _conv(in_channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, num_classes, H, W)`` logits."""
        return self.classifier(self.dropout(self.conv(x)))


class UPerNet(nn.Module):
    """A backbone with ``UPerHead`` and, in training, ``FCNHead`` on its third level.

    Args:
        backbone: Maps images to four feature maps at strides 4 to 32; tells their ``channels``,
            its ``input_multiple``, its ``name`` and its ``encoder``.
        num_classes: Channels of the logits.
        head_channels: Width of the head.
        dropout: Share of channels that are zeroed before the classifiers in training.
        auxiliary: Build the second head, which only training uses.

    Raises:
        ValueError: Too few classes.
    """

    stride = 4

    def __init__(
        self,
        backbone: Any,
        num_classes: int,
        *,
        head_channels: int = 512,
        dropout: float = 0.1,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f'num_classes is {num_classes}, expected 2 or more')
        self.backbone = backbone
        self.input_multiple: int = backbone.input_multiple
        self.encoder_name: str = backbone.name
        self.head = UPerHead(
            backbone.channels, num_classes, channels=head_channels, dropout=dropout
        )
        self.auxiliary_head = (
            FCNHead(backbone.channels[AUXILIARY_LEVEL], num_classes, dropout=dropout)
            if auxiliary
            else None
        )

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are for."""
        return self.backbone.encoder

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Name the state-dict prefixes of the layers that depend on the class set."""
        auxiliary = ('auxiliary_head.classifier.',) if self.auxiliary_head is not None else ()
        return ('head.classifier.', *auxiliary)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits at stride 4; in training with the auxiliary head, also its own.

        Args:
            images: Normalised, ``(N, 3, H, W)`` float, H and W multiples of ``input_multiple``.

        Returns:
            ``(N, C, H / 4, W / 4)`` logits; or these and ``(N, C, H / 16, W / 16)``.

        Raises:
            ValueError: H or W does not fit, or training with a single image (the globally pooled
                level has one value a channel then, which batch norm cannot normalise).
        """
        check_images(images, self.input_multiple)
        if self.head.training and len(images) == 1:
            raise ValueError(
                'got a batch of 1 image in training mode, expected 2 or more: the global pooling '
                'leaves one value per channel, which batch norm cannot normalise; raise the '
                'batch size, or call eval() on the head'
            )
        features = self.backbone(images)
        logits = self.head(features)
        if self.training and self.auxiliary_head is not None:
            return logits, self.auxiliary_head(features[AUXILIARY_LEVEL])
        return logits


def pool(x: Tensor, scale: int) -> Tensor:
    """Average ``(N, C, H, W)`` over ``scale`` x ``scale`` cells, as adaptive average pooling does.

    Cells may overlap by a pixel. As sums of products it can be exported for any size, which
    PyTorch's own cannot.
    """
    rows, columns = (_cells(size, scale, x) for size in x.shape[2:])
    areas = rows.sum(1).view(-1, 1) * columns.sum(1)
    return rows @ x @ columns.transpose(0, 1) / areas


def _cells(size: int, scale: int, like: Tensor) -> Tensor:
    """Return which pixels lie in which cell, ``(scale, size)`` of 0 and 1."""
    cell = torch.arange(scale, device=like.device).view(-1, 1)
    pixel = torch.arange(size, device=like.device)
    start, end = cell * size // scale, ((cell + 1) * size + scale - 1) // scale
    return ((pixel >= start) & (pixel < end)).to(like.dtype)


def _conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    padding = kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _resize_to(x: Tensor, reference: Tensor) -> Tensor:
    return functional.interpolate(
        x, size=reference.shape[-2:], mode='bilinear', align_corners=False
    )


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        if module.bias is None:
            nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        else:  # a classifier: small logits, so that no class is favoured
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
