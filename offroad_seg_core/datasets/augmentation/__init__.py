"""How training frames are varied, by kind: ``views`` (fast, the default) or ``pipeline``."""

from __future__ import annotations

from collections.abc import Mapping
import os
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Discriminator, Tag

from offroad_seg_core.datasets.augmentation.pipeline import Pipeline, PipelineConfig
from offroad_seg_core.datasets.augmentation.views import RandomViews, ViewsConfig
from offroad_seg_core.inference.manifest import InputSpec

# albumentations asks a server for its newest version when it is imported. This package is imported
# before every module that imports it.
os.environ['NO_ALBUMENTATIONS_UPDATE'] = '1'


class Augmentation(Protocol):
    """Makes a random view of a labelled frame; every random choice is drawn from ``rng``."""

    def __call__(
        self, image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return an image ``(*crop_size, 3)`` RGB and a label map ``crop_size``, both uint8.

        Args:
            image: ``(H, W, 3)`` uint8 RGB; not written to.
            label_map: ``(H, W)`` uint8 ids or 255; not written to.
            rng: Source of every random choice.
        """
        ...


class TracedAugmentation(Augmentation, Protocol):
    """One that can say where the pixels of its views are from."""

    def trace(
        self, image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the view that a call would, and its origins.

        The origins are ``(*crop_size, 2)`` float32, the (x, y) in pixels of the frame of each
        pixel of the view; nan where it shows nothing of the frame.
        """
        ...


def _kind(config: Any) -> Any:
    if isinstance(config, Mapping):
        return config.get('kind', 'views')
    return getattr(config, 'kind', None)


# Configurations and checkpoints from before there was a choice name no kind.
AugmentConfig = Annotated[
    Annotated[ViewsConfig, Tag('views')] | Annotated[PipelineConfig, Tag('pipeline')],
    Discriminator(
        _kind,
        custom_error_type='augmentation_kind',
        custom_error_message='expected kind: views (the default) or kind: pipeline',
    ),
]


def create_augmentation(
    config: ViewsConfig | PipelineConfig,
    crop_size: tuple[int, int],
    spec: InputSpec,
    strength: float = 1.0,
) -> TracedAugmentation:
    """Build what makes views of frames.

    Args:
        config: Which kind, and what may vary.
        crop_size: (height, width) of a view.
        spec: The network's input on the robot: its size (zoom 1) and its mean colour (padding).
        strength: 1 is as configured; above, frames vary more: a pipeline's probabilities p become
            ``1 - (1 - p) ** strength``, a view's photometric bounds grow by this factor up to 2.
    """
    if strength < 0:
        raise ValueError(f'augmentation strength: got {strength}; expected 0 or more, 1 as usual')
    if isinstance(config, PipelineConfig):
        return Pipeline(config, crop_size, spec, strength)
    return RandomViews(config, crop_size, spec, strength)
