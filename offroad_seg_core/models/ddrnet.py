"""DDRNet: a dual-resolution network for real-time segmentation.

Written from the description in Hong et al., "Deep Dual-resolution Networks for Real-time and
Accurate Semantic Segmentation of Road Scenes", arXiv 2101.06085 (2021), figures 3 to 5.

Two branches run side by side after stride 8: the detail branch keeps stride 8, the context
branch goes down to stride 64. They exchange features twice. The module names say so, and they
are also the names of the weights in exported models: renaming one breaks shipped bundles.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from offroad_seg_core.models.contract import check_images
from offroad_seg_core.models.dappm import DAPPM, norm_relu_conv


def conv_norm(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> list:
    """Return a bias-free convolution that keeps the size (up to its stride) and its norm."""
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)]


class Residual(nn.Module):
    """Add a block's result to its input, which is projected where the shapes differ.

    The sum is returned before its activation: both branches use it twice, and each user applies
    the ReLU itself.
    """

    def __init__(self, layers: list[nn.Module], channels: tuple[int, int], stride: int) -> None:
        super().__init__()
        in_channels, out_channels = channels
        self.layers = nn.Sequential(*layers)
        projects = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Sequential(
            *(conv_norm(in_channels, out_channels, 1, stride) if projects else [])
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C_in, H, W)`` to ``(N, C_out, ceil(H / stride), ceil(W / stride))``."""
        return self.layers(x) + self.shortcut(x)


def basic_stage(in_channels: int, out_channels: int, stride: int, num_blocks: int) -> nn.Module:
    """Return residual blocks of two 3x3 convolutions, with ReLUs between the blocks."""
    stage: list[nn.Module] = []
    for index in range(num_blocks):
        source = out_channels if index else in_channels
        step = 1 if index else stride
        layers = [
            *conv_norm(source, out_channels, 3, step),
            nn.ReLU(inplace=True),
            *conv_norm(out_channels, out_channels, 3),
        ]
        stage += [nn.ReLU()] if index else []
        stage.append(Residual(layers, (source, out_channels), step))
    return nn.Sequential(*stage)


def bottleneck(in_channels: int, width: int, stride: int) -> nn.Module:
    """Return one 1x1, 3x3, 1x1 residual block with ``2 * width`` output channels."""
    layers = [
        *conv_norm(in_channels, width, 1),
        nn.ReLU(inplace=True),
        *conv_norm(width, width, 3, stride),
        nn.ReLU(inplace=True),
        *conv_norm(width, 2 * width, 1),
    ]
    return Residual(layers, (in_channels, 2 * width), stride)


def segmentation_head(in_channels: int, head_channels: int, num_classes: int) -> nn.Sequential:
    """Return the head: 3x3 to ``head_channels``, then the 1x1 classifier (its last module)."""
    classifier = norm_relu_conv(head_channels, num_classes, 1, bias=True)
    return nn.Sequential(*norm_relu_conv(in_channels, head_channels, 3), *classifier)


class DDRNet(nn.Module):
    """Segment images at stride 8.

    Args:
        num_classes: Channels of the logits, without the ignored label.
        planes: Width of the stem; the branches have multiples of it (32 in the slim version).
        spp_channels: Width inside the pyramid pooling of the context branch.
        head_channels: Width of the segmentation heads.
        auxiliary: Build the head on the detail branch that only training uses.
    """

    stride = 8
    input_multiple = 32

    def __init__(
        self,
        num_classes: int,
        *,
        planes: int = 32,
        spp_channels: int = 128,
        head_channels: int = 64,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f'num_classes is {num_classes}, expected 2 or more')
        detail = 2 * planes
        self.stem = nn.Sequential(
            *conv_norm(3, planes, 3, stride=2),
            nn.ReLU(inplace=True),
            *conv_norm(planes, planes, 3, stride=2),
            nn.ReLU(inplace=True),
            basic_stage(planes, planes, 1, 2),
            nn.ReLU(),
            basic_stage(planes, detail, 2, 2),
            nn.ReLU(),
        )
        self.context3 = basic_stage(detail, 4 * planes, 2, 2)
        self.context4 = basic_stage(4 * planes, 8 * planes, 2, 2)
        self.context5 = bottleneck(8 * planes, 8 * planes, stride=2)
        self.detail3 = basic_stage(detail, detail, 1, 2)
        self.detail4 = basic_stage(detail, detail, 1, 2)
        self.detail5 = bottleneck(detail, detail, stride=1)
        self.down3 = nn.Sequential(*conv_norm(detail, 4 * planes, 3, 2))
        self.down4 = nn.Sequential(
            *conv_norm(detail, 4 * planes, 3, 2),
            nn.ReLU(inplace=True),
            *conv_norm(4 * planes, 8 * planes, 3, 2),
        )
        self.up3 = nn.Sequential(*conv_norm(4 * planes, detail, 1))
        self.up4 = nn.Sequential(*conv_norm(8 * planes, detail, 1))
        self.pyramid = DAPPM(16 * planes, spp_channels, 4 * planes)
        self.head = segmentation_head(4 * planes, head_channels, num_classes)
        self.auxiliary_head = (
            segmentation_head(detail, head_channels, num_classes) if auxiliary else None
        )
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits at stride 8; in training mode with the auxiliary head, two of them.

        Args:
            images: Normalised images, ``(N, 3, H, W)`` float, H and W multiples of 32.

        Returns:
            ``(N, num_classes, H / 8, W / 8)`` logits; or ``(logits, auxiliary_logits)`` of that
            shape each while training with the auxiliary head.

        Raises:
            ValueError: H or W is not a multiple of 32, or training with a single image (the
                globally pooled branch has one value per channel then, which batch norm cannot
                normalise).
        """
        self._check(images)
        shared = self.stem(images)
        size = shared.shape[-2:]

        context = self.context3(shared)
        detail = self.detail3(shared)
        context, detail = (
            context + self.down3(functional.relu(detail)),
            detail + _resize(self.up3(functional.relu(context)), size),
        )
        after_stage3 = detail

        context = self.context4(functional.relu(context))
        detail = self.detail4(functional.relu(detail))
        context, detail = (
            context + self.down4(functional.relu(detail)),
            detail + _resize(self.up4(functional.relu(context)), size),
        )

        context = self.pyramid(self.context5(functional.relu(context)))
        logits = self.head(self.detail5(functional.relu(detail)) + _resize(context, size))
        if self.training and self.auxiliary_head is not None:
            return logits, self.auxiliary_head(after_stage3)
        return logits

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Name the state-dict prefixes of the layers that depend on the class set."""
        heads = ['head'] + ([] if self.auxiliary_head is None else ['auxiliary_head'])
        return tuple(f'{head}.{len(self.head) - 1}.' for head in heads)

    def _check(self, images: Tensor) -> None:
        check_images(images, self.input_multiple)
        if self.training and len(images) == 1:
            raise ValueError(
                'got a batch of 1 image in training mode, expected 2 or more: the global pooling '
                'leaves one value per channel, which batch norm cannot normalise; raise the '
                'batch size or call eval()'
            )


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(x, size=size, mode='bilinear', align_corners=False)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        if module.bias is not None:  # a classifier: small logits, so that no class is favoured
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def ddrnet23_slim(num_classes: int, **options: Any) -> DDRNet:
    """Return DDRNet-23-slim: planes 32, pyramid 128, head 64 (5.7 M parameters)."""
    return DDRNet(num_classes, planes=32, spp_channels=128, head_channels=64, **options)


def ddrnet23(num_classes: int, **options: Any) -> DDRNet:
    """Return DDRNet-23: planes 64, pyramid 128, head 128 (20 M parameters)."""
    return DDRNet(num_classes, planes=64, spp_channels=128, head_channels=128, **options)
