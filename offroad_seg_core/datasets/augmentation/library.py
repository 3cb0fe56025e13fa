"""Which transforms a pipeline may name, and which of their options it sets itself."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import albumentations
import cv2

from offroad_seg_core.config import ConfigError
from offroad_seg_core.datasets.augmentation import conditions, geometry, mmseg, style_transforms

CONTAINERS = {name: getattr(albumentations, name) for name in ('OneOf', 'SomeOf', 'Sequential')}

# Their holes are part of the picture, so the labels below them stay, unless fill_mask is 255.
DROPOUTS = ('CoarseDropout', 'Erasing', 'GridDropout')

_PAIRED_NAMES = (
    *('Affine', 'Perspective', 'Rotate', 'SafeRotate', 'ShiftScaleRotate'),
    *('ElasticTransform', 'GridDistortion', 'OpticalDistortion'),
    *('ThinPlateSpline', 'HorizontalFlip', 'VerticalFlip', 'Transpose', 'RandomRotate90', 'D4'),
    *('CenterCrop', 'Crop', 'CropAndPad', 'CropNonEmptyMaskIfExists', 'RandomCrop'),
    *('RandomCropFromBorders', 'RandomResizedCrop', 'RandomSizedCrop', 'Pad', 'PadIfNeeded'),
    *('Resize', 'RandomScale', 'LongestMaxSize', 'SmallestMaxSize', 'NoOp', *DROPOUTS),
)
PAIRED = {name: getattr(albumentations, name) for name in _PAIRED_NAMES} | {
    cls.__name__: cls for cls in (geometry.RandomZoom, geometry.ClassBalancedCrop)
}

# Name -> what to do instead.
REFUSED = {
    'Normalize': 'leave it out: the network normalises',
    'ToFloat': 'leave it out: images stay uint8, the network normalises',
    'FromFloat': 'leave it out: images stay uint8',
    'ToTensorV2': 'leave it out: the loader makes tensors',
    'ToRGB': 'leave it out: images are RGB',
    'FDA': 'use FourierAdaptation with target: a folder',
    'HistogramMatching': 'use HistogramTransfer with target: a folder',
    'PixelDistributionAdaptation': 'use ReinhardTransfer with target: a folder',
    'PiecewiseAffine': 'use ElasticTransform, which is ten times as fast',
    'Lambda': 'a configuration holds no code',
}

IMAGE_ONLY = {
    name: cls
    for name, cls in vars(albumentations).items()
    if inspect.isclass(cls)
    and issubclass(cls, albumentations.ImageOnlyTransform)
    and cls is not albumentations.ImageOnlyTransform
    and name not in (*REFUSED, 'TextImage')
} | {
    cls.__name__: cls
    for cls in (
        mmseg.PhotometricDistortion,
        conditions.DustHaze,
        conditions.LensSpots,
        conditions.LowLight,
        conditions.SunGlare,
        *style_transforms.STYLE_TRANSFORMS,
    )
}

TRANSFORMS: dict[str, type] = {**CONTAINERS, **PAIRED, **IMAGE_ONLY}


def options_of(name: str) -> list[str]:
    """List the options that a configuration may give to a transform."""
    forced = forced_options(name, (0, 0, 0))
    parameters = inspect.signature(TRANSFORMS[name]).parameters
    return sorted(option for option in parameters if option not in forced)


def forced_options(name: str, mean: tuple[int, int, int]) -> dict[str, Any]:
    """Return the options that keep labels exact, whatever the transform.

    Args:
        name: A key of ``TRANSFORMS``.
        mean: RGB of what is outside the frame.
    """
    if name not in PAIRED or name in DROPOUTS:
        return {}
    wanted = {
        'mask_interpolation': _nearest(TRANSFORMS[name]),
        'fill_mask': 255,
        'fill': mean,
        'border_mode': cv2.BORDER_CONSTANT,
    }
    parameters = inspect.signature(TRANSFORMS[name]).parameters
    return {option: value for option, value in wanted.items() if option in parameters}


def find(name: object, where: str) -> type:
    """Return a transform's class.

    Raises:
        ConfigError: A pipeline may not name it.
    """
    if isinstance(name, str) and name in TRANSFORMS:
        return TRANSFORMS[name]
    if name in REFUSED:
        raise ConfigError(f'{where}: {name} does not belong here; {REFUSED[str(name)]}')
    if isinstance(name, str) and hasattr(albumentations, name):
        raise ConfigError(f'{where}: {name} cannot keep an image and its labels together')
    close = difflib.get_close_matches(str(name), TRANSFORMS, n=1)
    hint = f'did you mean {close[0]!r}?' if close else f'known are {", ".join(sorted(TRANSFORMS))}'
    raise ConfigError(f'{where}: no transform is named {name!r}; {hint}')


def _nearest(cls: type) -> int:
    """Return the nearest neighbour that lies where bilinear interpolation has its pixels.

    Of cv2.resize that is INTER_NEAREST_EXACT; INTER_NEAREST is up to half a pixel off. Warps
    know only INTER_NEAREST, which is exact there.
    """
    schema = getattr(cls, 'InitSchema', None)
    field = schema.model_fields.get('mask_interpolation') if schema else None
    allowed = getattr(field.annotation, '__args__', ()) if field else ()
    return cv2.INTER_NEAREST_EXACT if cv2.INTER_NEAREST_EXACT in allowed else cv2.INTER_NEAREST
