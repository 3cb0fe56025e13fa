"""The networks of published systems, as segmentation-models-pytorch builds them.

The library upsamples logits inside its heads with aligned corners; here its upsampling is taken
off, so that every model gives logits at its own stride and they are resized in one place and one
way. Weights keep their names behind the prefix ``network.``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from offroad_seg_core.models.contract import check_images
from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports


class PublishedModel(nn.Module):
    """A network of segmentation-models-pytorch behind this package's contract.

    Args:
        architecture: Name of a class of the library.
        num_classes: Channels of the logits.
        stride: Input pixels a logit stands for.
        input_multiple: What heights and widths must be a multiple of.
        drop_path_rate: Stochastic depth of the encoder's last block (Huang et al. 2016), less in
            the ones before it; None keeps the library's. Mix Transformers only.
        options: The library's own, such as ``encoder_name`` or ``decoder_atrous_rates``.

    Raises:
        ValueError: Too few classes, an encoder that the library does not have, or drop path for
            an encoder without it.
    """

    classifiers = ('network.segmentation_head.0.',)

    def __init__(
        self,
        architecture: str,
        num_classes: int,
        stride: int,
        input_multiple: int = 32,
        drop_path_rate: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f'num_classes is {num_classes}, expected 2 or more')
        self.stride = stride
        self.input_multiple = input_multiple
        self.encoder_name: str = options['encoder_name']
        # Pretrained weights are loaded in one place for all models: models/pretrained.py.
        build = getattr(_library(), architecture)
        try:
            self.network = build(encoder_weights=None, classes=num_classes, **options)
        except KeyError as error:
            raise ValueError(str(error.args[0])) from error
        if drop_path_rate is not None:
            _set_drop_path(self.encoder, drop_path_rate)
        head: Any = self.network.segmentation_head
        head[1] = nn.Identity()

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are for."""
        return self.network.encoder  # type: ignore[return-value]

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised ``(N, 3, H, W)`` images to ``(N, C, H / stride, W / stride)`` logits.

        Raises:
            ValueError: H or W is not a multiple of ``input_multiple``.
        """
        check_images(images, self.input_multiple)
        network: Any = self.network
        return network.segmentation_head(network.decoder(network.encoder(images)))


def _set_drop_path(encoder: nn.Module, rate: float) -> None:
    layers: list[Any] = [m for m in encoder.modules() if type(m).__name__ == 'DropPath']
    if not layers:
        raise ValueError(f'drop_path_rate is {rate}, but the encoder has no drop path; remove it')
    for index, layer in enumerate(layers):
        layer.drop_prob = rate * index / max(1, len(layers) - 1)


def _library() -> Any:
    # Its import takes seconds and needs torchvision: only who asks for such a model pays.
    ensure_torchvision_imports()
    import segmentation_models_pytorch

    return segmentation_models_pytorch


def _segformer(num_classes: int, *, variant: str, **options: Any) -> PublishedModel:
    return PublishedModel('Segformer', num_classes, 4, encoder_name=f'mit_{variant}', **options)


def fpn(num_classes: int, *, encoder: str = 'resnext101_32x4d', **options: Any) -> PublishedModel:
    """Return an FPN (Kirillov et al. 2019); the default encoder is that of system B."""
    return PublishedModel('FPN', num_classes, 4, encoder_name=encoder, **options)


def deeplabv3plus(
    num_classes: int,
    *,
    encoder: str = 'resnet101',
    atrous_rates: tuple[int, int, int] = (12, 24, 36),
    **options: Any,
) -> PublishedModel:
    """Return DeepLabV3+ at output stride 16 (Chen et al. 2018).

    Args:
        num_classes: Channels of the logits.
        encoder: Name in the library.
        atrous_rates: Dilations of the pyramid; they do not show in the number of parameters.
        options: Further ones of the library.
    """
    return PublishedModel(
        'DeepLabV3Plus', num_classes, 4, encoder_name=encoder,
        decoder_atrous_rates=tuple(atrous_rates), **options,
    )  # fmt: skip


def deeplabv3(num_classes: int, *, encoder: str = 'resnet50', **options: Any) -> PublishedModel:
    """Return DeepLabV3 at output stride 8 (Chen et al. 2017)."""
    return PublishedModel(
        'DeepLabV3', num_classes, 8, input_multiple=8, encoder_name=encoder, **options
    )


def upernet(num_classes: int, *, encoder: str = 'resnet50', **options: Any) -> PublishedModel:
    """Return UPerNet (Xiao et al. 2018)."""
    return PublishedModel('UPerNet', num_classes, 4, encoder_name=encoder, **options)


def unet(num_classes: int, *, encoder: str = 'resnet34', **options: Any) -> PublishedModel:
    """Return a U-Net (Ronneberger et al. 2015) at full resolution."""
    return PublishedModel('Unet', num_classes, 1, encoder_name=encoder, **options)


PUBLISHED: dict[str, Callable[..., nn.Module]] = {
    'fpn': fpn,
    'deeplabv3plus': deeplabv3plus,
    'deeplabv3': deeplabv3,
    'upernet': upernet,
    'unet': unet,
    **{f'segformer_b{size}': partial(_segformer, variant=f'b{size}') for size in range(6)},
}
