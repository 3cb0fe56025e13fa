"""FlashInternImage: a convolutional backbone whose spatial operator is DCNv4.

Xiong et al., "Efficient Deformable ConvNets", CVPR 2024, after InternImage (Wang et al., CVPR
2023). Modules are named as in OpenGVLab/DCNv4 (MIT), so that its weights load: the numbers in
``norm1.1`` are the norm's place between the changes of layout, which are modules there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from offroad_seg_core.models.dcnv4 import DCNv4
from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports

CHANNELS_PER_GROUP = 16
MLP_RATIO = 4
NORM_EPS = 1e-6
NAME = 'flash_intern_image_'
PUBLISHER = 'OpenGVLab/DCNv4'  # on the Hugging Face hub, MIT


@dataclass(frozen=True)
class Variant:
    """What distinguishes the published sizes.

    Attributes:
        channels: Of the first stage; each stage has twice those of the one before.
        depths: Blocks of the stages.
        offset_scale: See ``dcnv4``.
        post_norm: Norms after the operators instead of before.
        layer_scale: First value of the factors of the residual branches in segmentation; None:
            no such factors.
        dw_kernel_size: See ``DCNv4``.
        has_all_biases: Also in the last layers of operator and MLP.
        weights: Files of published weights by name.
    """

    channels: int
    depths: tuple[int, int, int, int]
    offset_scale: float
    post_norm: bool
    layer_scale: float | None
    dw_kernel_size: int | None
    has_all_biases: bool
    weights: dict[str, str]


VARIANTS: dict[str, Variant] = {
    't': Variant(
        64, (4, 4, 18, 4), 1.0, False, None, None, False,
        {'imagenet': 'flash_intern_image_t_1k_224.pth'},
    ),
    's': Variant(
        80, (4, 4, 21, 4), 1.0, True, 1e-5, 3, False,
        {'imagenet': 'flash_intern_image_s_1k_224.pth'},
    ),
    'b': Variant(
        112, (4, 4, 21, 4), 0.5, True, 1e-5, 3, False,
        {'imagenet': 'flash_intern_image_b_1k_224.pth'},
    ),
    'l': Variant(
        160, (5, 5, 22, 5), 2.0, True, 1.0, 3, True,
        {
            'imagenet': 'flash_intern_image_l_22kto1k_384.pth',
            'imagenet22k': 'flash_intern_image_l_22k_384.pth',
            'ade20k': 'mask2former_flash_internimage_l_640_160k_ade20k_ss.pth',
        },
    ),
}  # fmt: skip


class _ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class _ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


def _norm(channels: int) -> nn.LayerNorm:
    return nn.LayerNorm(channels, eps=NORM_EPS)


class _Stem(nn.Module):
    """Map images ``(N, 3, H, W)`` to ``(N, H / 4, W / 4, C)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1)
        self.norm1 = nn.Sequential(_ChannelsLast(), _norm(half), _ChannelsFirst())
        self.conv2 = nn.Conv2d(half, channels, 3, stride=2, padding=1)
        self.norm2 = nn.Sequential(_ChannelsLast(), _norm(channels))

    def forward(self, images: Tensor) -> Tensor:
        return self.norm2(self.conv2(nn.functional.gelu(self.norm1(self.conv1(images)))))


class _Downsample(nn.Module):
    """Map ``(N, H, W, C)`` to ``(N, H / 2, W / 2, 2 C)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = nn.Sequential(_ChannelsLast(), _norm(2 * channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)))


class _MLP(nn.Module):
    def __init__(self, channels: int, last_bias: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, MLP_RATIO * channels)
        self.fc2 = nn.Linear(MLP_RATIO * channels, channels, bias=last_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class _Block(nn.Module):
    """Two residual branches, DCNv4 and MLP, on ``(N, H, W, C)``."""

    def __init__(self, channels: int, variant: Variant, drop_path: float) -> None:
        super().__init__()
        self.channels = channels
        self.post_norm = variant.post_norm
        self.norm1 = nn.Sequential(_norm(channels))
        self.dcn = DCNv4(
            channels,
            channels // CHANNELS_PER_GROUP,
            offset_scale=variant.offset_scale,
            dw_kernel_size=variant.dw_kernel_size,
            output_bias=variant.has_all_biases,
        )
        self.norm2 = nn.Sequential(_norm(channels))
        self.mlp = _MLP(channels, variant.has_all_biases)
        self.drop_path = _drop_path(drop_path)
        if variant.layer_scale is None:
            self.register_parameter('gamma1', None)
            self.register_parameter('gamma2', None)
        else:
            self.gamma1 = nn.Parameter(torch.full((channels,), variant.layer_scale))
            self.gamma2 = nn.Parameter(torch.full((channels,), variant.layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._branch(x, self.dcn, self.norm1, self.gamma1)
        return x + self._branch(x, self.mlp, self.norm2, self.gamma2)

    def _branch(
        self, x: Tensor, operator: nn.Module, norm: nn.Module, factor: Tensor | None
    ) -> Tensor:
        change = norm(operator(x)) if self.post_norm else operator(norm(x))
        return self.drop_path(change if factor is None else factor * change)


class _Stage(nn.Module):
    def __init__(self, blocks: list[_Block], norm: nn.Module | None, downsample: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.downsample = _Downsample(blocks[0].channels) if downsample else None


class FlashInternImage(nn.Module):
    """The backbone: feature maps at strides 4, 8, 16 and 32.

    Args:
        size: A key of ``VARIANTS``.
        drop_path_rate: Stochastic depth of the last block (Huang et al. 2016), less in the ones
            before it.
        checkpointing: Keep only the input of each block for the backward pass and compute the
            rest again: less memory, more time.

    Attributes:
        channels: Of the feature maps.
        num_layers: Blocks of all stages.

    Raises:
        ValueError: No variant of that size.
    """

    input_multiple = 32
    required_share = 0.95  # of its weights that a file must hold

    def __init__(
        self, size: str, *, drop_path_rate: float = 0.0, checkpointing: bool = False
    ) -> None:
        super().__init__()
        if size not in VARIANTS:
            raise ValueError(
                f'FlashInternImage has no size {size!r}; expected one of {", ".join(VARIANTS)}'
            )
        variant = VARIANTS[size]
        self.name = f'{NAME}{size}'
        self.checkpointing = checkpointing
        self.depths = variant.depths
        self.num_layers = sum(variant.depths)
        self.channels = tuple(variant.channels * 2**stage for stage in range(4))
        rates = [
            drop_path_rate * index / (self.num_layers - 1) for index in range(self.num_layers)
        ]
        self.patch_embed = _Stem(variant.channels)
        self.levels = nn.ModuleList()
        for stage, (channels, depth) in enumerate(zip(self.channels, self.depths, strict=True)):
            first = sum(self.depths[:stage])
            blocks = [_Block(channels, variant, rate) for rate in rates[first : first + depth]]
            norm = None if variant.post_norm else nn.Sequential(_norm(channels))
            self.levels.append(_Stage(blocks, norm, downsample=stage < 3))
        self.apply(_initialize)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are for: all of it."""
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return four feature maps of normalised ``(N, 3, H, W)`` images, H and W multiples of 32.

        Returns:
            ``(N, C_i, H / s_i, W / s_i)`` with the strides s_i, channels last in memory.
        """
        x = self.patch_embed(images)
        features = []
        stages: Any = self.levels
        for stage in stages:
            for block in stage.blocks:
                x = self._run(block, x)
            x = x if stage.norm is None else stage.norm(x)
            features.append(x.permute(0, 3, 1, 2))
            x = x if stage.downsample is None else stage.downsample(x)
        return features

    def _run(self, block: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)  # type: ignore[return-value]
        return block(x)

    def layer_id(self, name: str) -> int:
        """Return how deep a weight lies: 0 for the stem, then 1 for the first block and so on.

        Norm and downsampling behind a stage count like the block that follows.
        """
        match = re.match(r'levels\.(\d)\.(?:blocks\.(\d+)\.)?', name)
        if match is None:
            return 0
        stage, block = int(match[1]), match[2]
        if block is None:
            return sum(self.depths[: stage + 1]) + 1
        return sum(self.depths[:stage]) + int(block) + 1


def published_weights(encoder_name: str) -> dict[str, str] | None:
    """Return the files of a backbone's weights by name; None for a backbone of others."""
    size = encoder_name.removeprefix(NAME)
    return VARIANTS[size].weights if size != encoder_name else None


def _drop_path(rate: float) -> nn.Module:
    if rate == 0:
        return nn.Identity()
    ensure_torchvision_imports()
    from timm.layers import DropPath

    return DropPath(rate)


def _initialize(module: Any) -> None:
    """Set first weights as published; convolutions keep PyTorch's.

    The published truncation of the normal distribution is at 100 standard deviations.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, DCNv4):  # after its linear layers, which apply() visits first
        module.reset_parameters()
