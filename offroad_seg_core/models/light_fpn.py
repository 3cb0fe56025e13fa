"""A classification encoder with a light feature pyramid: the accurate kind of student.

Every level of the encoder becomes ``width`` channels and is added to the upsampled level below
it (Lin et al., "Feature Pyramid Networks", CVPR 2017); the levels are then brought to stride 4
and summed, as in Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019, but with one
depthwise separable convolution a level. With ConvNeXt-tiny the pyramid is 1 % of the parameters.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from offroad_seg_core.models.contract import check_images
from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports


class LightFPN(nn.Module):
    """Segment images at stride 4 with any encoder of timm that has strides 4 to 32.

    Args:
        num_classes: Channels of the logits.
        encoder: Name in timm.
        width: Channels of the pyramid.
        drop_path_rate: Stochastic depth of the encoder's last block (Huang et al. 2016); the
            blocks before it have proportionally less.
        dropout: Share of pyramid channels that are zeroed before the classifier in training.

    Raises:
        ValueError: Too few classes, or an encoder with other strides.
    """

    stride = 4
    input_multiple = 32
    classifiers = ('classifier.',)

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = 'convnext_tiny',
        width: int = 128,
        drop_path_rate: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f'num_classes is {num_classes}, expected 2 or more')
        self.encoder_name = encoder
        self.encoder: Any = _create_encoder(encoder, drop_path_rate)
        channels = self.encoder.feature_info.channels()
        self.laterals = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.smooth = nn.ModuleList(_separable(width) for _ in channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)  # small logits favour no class
        assert self.classifier.bias is not None
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised ``(N, 3, H, W)`` images to ``(N, C, H / 4, W / 4)`` logits.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        check_images(images, self.input_multiple)
        features = self.encoder(images)
        levels = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for index in range(len(levels) - 2, -1, -1):
            levels[index] = levels[index] + _resize_to(levels[index + 1], levels[index])
        merged = self.smooth[0](levels[0])
        for smooth, level in zip(list(self.smooth)[1:], levels[1:], strict=True):
            merged = merged + _resize_to(smooth(level), merged)
        return self.classifier(self.dropout(merged))


def _create_encoder(name: str, drop_path_rate: float) -> Any:
    ensure_torchvision_imports()
    import timm

    try:
        encoder: Any = timm.create_model(
            name, features_only=True, pretrained=False, drop_path_rate=drop_path_rate
        )
    except RuntimeError as error:
        raise ValueError(f'encoder {name!r}: {error}; see timm.list_models()') from error
    strides = encoder.feature_info.reduction()
    if strides[-4:] != [4, 8, 16, 32] or len(strides) > 5:
        raise ValueError(f'encoder {name!r} has strides {strides}; expected 4, 8, 16 and 32')
    if len(strides) == 5:  # ResNet-like encoders also hand out stride 2
        encoder = timm.create_model(
            name, features_only=True, pretrained=False, drop_path_rate=drop_path_rate,
            out_indices=(1, 2, 3, 4),
        )  # fmt: skip
    return encoder


def _separable(width: int) -> nn.Sequential:
    """Return a depthwise 3x3 and a 1x1 convolution; the group norm works at any batch size."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.GroupNorm(16, width),
        nn.GELU(),
    )


def _resize_to(x: Tensor, reference: Tensor) -> Tensor:
    return functional.interpolate(
        x, size=reference.shape[-2:], mode='bilinear', align_corners=False
    )
