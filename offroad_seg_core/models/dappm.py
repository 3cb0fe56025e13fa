"""Deep aggregation pyramid pooling, the context module of DDRNet (arXiv 2101.06085, figure 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

POOLS = ((5, 2), (9, 4), (17, 8))  # kernel and stride; a global pool follows


def norm_relu_conv(
    in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = False
) -> list[nn.Module]:
    """Return batch norm, ReLU and a convolution that keeps the size, in this order."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
    return [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), conv]


class DAPPM(nn.Module):
    """Mix features pooled over growing windows, each one refined with the one before it."""

    def __init__(self, in_channels: int, channels: int, out_channels: int) -> None:
        super().__init__()
        pools: list[nn.Module] = [nn.Identity()]
        pools += [nn.AvgPool2d(kernel, stride, kernel // 2) for kernel, stride in POOLS]
        pools += [nn.AdaptiveAvgPool2d(1)]
        self.scales = nn.ModuleList(
            nn.Sequential(pool, *norm_relu_conv(in_channels, channels, 1)) for pool in pools
        )
        self.refine = nn.ModuleList(
            nn.Sequential(*norm_relu_conv(channels, channels, 3)) for _ in pools[1:]
        )
        self.compress = nn.Sequential(*norm_relu_conv(len(pools) * channels, out_channels, 1))
        self.shortcut = nn.Sequential(*norm_relu_conv(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``; any H and W."""
        size = x.shape[-2:]
        levels = [self.scales[0](x)]
        for scale, refine in zip(self.scales[1:], self.refine, strict=True):
            pooled = functional.interpolate(
                scale(x), size=size, mode='bilinear', align_corners=False
            )
            levels.append(refine(pooled + levels[-1]))
        return self.compress(torch.cat(levels, dim=1)) + self.shortcut(x)
