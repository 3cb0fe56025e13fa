"""Paired transforms beside albumentations': zoom as the robot sees it, balanced crops."""

from __future__ import annotations

from typing import Any

import albumentations
from albumentations.core.transforms_interface import BaseTransformInitSchema
import cv2
import numpy as np
from pydantic import Field, model_validator

from offroad_seg_core.datasets.augmentation.views import fit_scale, largest_share


class RandomZoom(albumentations.DualTransform):
    """Resize by a random factor; 1 fits the frame into a given size, its aspect kept.

    MMSegmentation's RandomResize with ``scale=fit_size, ratio_range=scale_range``.

    Args:
        fit_size: (height, width) that factor 1 fits the frame into.
        scale_range: Smallest and largest factor, drawn uniformly.
        p: Chance that the factor is drawn; it is 1 otherwise.
    """

    class InitSchema(BaseTransformInitSchema):
        """What may be given."""

        fit_size: tuple[int, int]
        scale_range: tuple[float, float]

        @model_validator(mode='after')
        def _ordered(self) -> Any:
            low, high = self.scale_range
            if not 0 < low <= high:
                raise ValueError(f'got scale_range {self.scale_range}; expected 0 < low <= high')
            if min(self.fit_size) < 1:
                raise ValueError(f'got fit_size {self.fit_size}; expected pixels')
            return self

    def __init__(
        self,
        fit_size: tuple[int, int],
        scale_range: tuple[float, float] = (0.5, 2.0),
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.fit_size = fit_size
        self.scale_range = scale_range

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the size to resize to."""
        size = params['shape'][:2]
        factor = fit_scale(size, self.fit_size) * self.py_random.uniform(*self.scale_range)
        return {'target_size': tuple(max(1, round(side * factor)) for side in size)}

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Resize an image."""
        height, width = params['target_size']
        shrinks = height < img.shape[0]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(img, (width, height), interpolation=interpolation)

    def apply_to_mask(self, mask: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Resize a label map."""
        height, width = params['target_size']
        return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


class ClassBalancedCrop(albumentations.DualTransform):
    """Crop at random, again while one class covers too much: MMSegmentation's cat_max_ratio.

    Args:
        size: (height, width) of the crop; of a smaller frame all is kept.
        max_class_share: Largest share of one class among the labelled pixels.
        tries: How often the place is drawn at most.
        p: Chance that the frame is cropped.
    """

    class InitSchema(BaseTransformInitSchema):
        """What may be given."""

        size: tuple[int, int]
        max_class_share: float = Field(gt=0, le=1)
        tries: int = Field(ge=1)

    def __init__(
        self,
        size: tuple[int, int],
        max_class_share: float = 0.75,
        tries: int = 10,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.size = size
        self.max_class_share = max_class_share
        self.tries = tries

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the window."""
        labels = data['mask']
        for _ in range(self.tries):
            window = self._draw(labels.shape)
            if largest_share(labels[window]) <= self.max_class_share:
                break
        return {'window': window}

    def _draw(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        starts = [
            self.py_random.randint(0, max(0, side - crop))
            for side, crop in zip(shape, self.size, strict=True)
        ]
        rows, columns = (
            slice(start, start + crop) for start, crop in zip(starts, self.size, strict=True)
        )
        return rows, columns

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Cut the window out."""
        return img[params['window']]
