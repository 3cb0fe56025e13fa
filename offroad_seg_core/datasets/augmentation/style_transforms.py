"""Style transfer towards a folder of unlabelled frames, as albumentations transforms.

What is needed of the target frames is measured when a transform is made and stays in memory; a
picture is given the style of one of them, drawn at random.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import albumentations
from albumentations.core.transforms_interface import BaseTransformInitSchema
import numpy as np
from pydantic import Field, model_validator

from offroad_seg_core.config import ConfigError
from offroad_seg_core.datasets.augmentation import style
from offroad_seg_core.datasets.masks import DatasetError, read_image

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
# Higher frequencies than beta takes of a frame of this size are not stored.
_LARGEST_SIDE_PX = 1080


def list_targets(folder: Path, max_targets: int) -> list[Path]:
    """List at most so many images of a folder and those inside it, evenly spaced by name.

    Raises:
        ConfigError: There are none.
    """
    paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        state = 'no images' if folder.is_dir() else 'no folder'
        wanted = ', '.join(IMAGE_SUFFIXES)
        raise ConfigError(f'target: got {folder}, {state}; expected a folder with {wanted} files')
    if len(paths) <= max_targets:
        return paths
    places = np.linspace(0, len(paths) - 1, max_targets).round().astype(int)
    return [paths[place] for place in places]


class _StyleSchema(BaseTransformInitSchema):
    """What every transfer may be given."""

    target: Path
    max_targets: int = Field(ge=1)


class _BlendSchema(_StyleSchema):
    blend_range: tuple[float, float]

    @model_validator(mode='after')
    def _ordered(self) -> Any:
        low, high = self.blend_range
        if not 0 <= low <= high <= 1:
            raise ValueError(f'got blend_range {self.blend_range}; expected 0 <= low <= high <= 1')
        return self


class _StyleTransfer(albumentations.ImageOnlyTransform):
    """One target a picture, and how far to go towards it."""

    def __init__(self, target: Path, max_targets: int, p: float) -> None:
        super().__init__(p=p)
        self.target = target
        self.max_targets = max_targets
        self._range = (1.0, 1.0)
        self._styles: list[np.ndarray] = []

    def _measure_all(self) -> None:
        for path in list_targets(Path(self.target), self.max_targets):
            try:
                self._styles.append(self._measure(read_image(path)))
            except DatasetError as error:
                raise ConfigError(f'target: {error}') from error

    def get_params(self) -> dict[str, Any]:
        """Draw a target frame and how far to go."""
        return {
            'style': self._styles[int(self.random_generator.integers(len(self._styles)))],
            'amount': float(self.random_generator.uniform(*self._range)),
        }

    def _measure(self, image: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class FourierAdaptation(_StyleTransfer):
    """Take the target's low-frequency amplitudes. See ``style.adapt_fourier``.

    Args:
        target: Folder of frames.
        beta_range: Half the band's width relative to the shorter side. The paper has 0.01, 0.05
            and 0.09. Where the two pictures are laid out differently, coloured clouds show at
            0.01 already, and halos around trees from 0.02 on.
        max_targets: How many of the frames are used at most.
        p: Chance of a transfer.
    """

    class InitSchema(_StyleSchema):
        """What may be given."""

        beta_range: tuple[float, float]

        @model_validator(mode='after')
        def _ordered(self) -> Any:
            low, high = self.beta_range
            if not 0 <= low <= high <= 0.5:
                got = f'got beta_range {self.beta_range}'
                raise ValueError(f'{got}; expected 0 <= low <= high <= 0.5')
            return self

    def __init__(
        self,
        target: Path,
        beta_range: tuple[float, float] = (0.0, 0.01),
        max_targets: int = 64,
        p: float = 0.5,
    ) -> None:
        super().__init__(target, max_targets, p)
        self.beta_range = self._range = beta_range
        self._measure_all()

    def _measure(self, image: np.ndarray) -> np.ndarray:
        highest = (min(image.shape[:2]) - 1) // 2
        cycles = min(int(self.beta_range[1] * _LARGEST_SIDE_PX), highest)
        return style.measure_amplitudes(image, cycles)

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Transfer."""
        return style.adapt_fourier(img, params['style'], params['amount'])


class _Blended(_StyleTransfer):
    def __init__(
        self, target: Path, blend_range: tuple[float, float], max_targets: int, p: float
    ) -> None:
        super().__init__(target, max_targets, p)
        self.blend_range = self._range = blend_range
        self._measure_all()


class ReinhardTransfer(_Blended):
    """Take the target's mean and deviation of CIELAB. See ``style.transfer_reinhard``.

    Args:
        target: Folder of frames.
        blend_range: How far to go, 0 to 1.
        max_targets: How many of the frames are used at most.
        p: Chance of a transfer.
    """

    class InitSchema(_BlendSchema):
        """What may be given."""

    def __init__(
        self,
        target: Path,
        blend_range: tuple[float, float] = (0.3, 1.0),
        max_targets: int = 64,
        p: float = 0.5,
    ) -> None:
        super().__init__(target, blend_range, max_targets, p)

    def _measure(self, image: np.ndarray) -> np.ndarray:
        return style.measure_lab(image)

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Transfer."""
        return style.transfer_reinhard(img, params['style'], params['amount'])


class HistogramTransfer(_Blended):
    """Take the target's histograms of R, G and B. See ``style.transfer_histogram``.

    Args:
        target: Folder of frames.
        blend_range: How far to go, 0 to 1. Each channel goes by itself, so that near 1 there are
            colours that neither place has.
        max_targets: How many of the frames are used at most.
        p: Chance of a transfer.
    """

    class InitSchema(_BlendSchema):
        """What may be given."""

    def __init__(
        self,
        target: Path,
        blend_range: tuple[float, float] = (0.2, 0.7),
        max_targets: int = 64,
        p: float = 0.5,
    ) -> None:
        super().__init__(target, blend_range, max_targets, p)

    def _measure(self, image: np.ndarray) -> np.ndarray:
        return style.measure_cdf(image)

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Transfer."""
        return style.transfer_histogram(img, params['style'], params['amount'])


class AdaINTransfer(_Blended):
    """Take the target's mean and deviation at each scale. See ``style.transfer_bands``.

    Args:
        target: Folder of frames.
        blend_range: How far to go, 0 to 1.
        levels: Bands of the pyramid, each half as fine as the one before.
        max_targets: How many of the frames are used at most.
        p: Chance of a transfer.
    """

    class InitSchema(_BlendSchema):
        """What may be given."""

        levels: int = Field(ge=1, le=6)

    def __init__(
        self,
        target: Path,
        blend_range: tuple[float, float] = (0.3, 1.0),
        levels: int = 4,
        max_targets: int = 64,
        p: float = 0.5,
    ) -> None:
        self.levels = levels
        super().__init__(target, blend_range, max_targets, p)

    def _measure(self, image: np.ndarray) -> np.ndarray:
        return style.measure_bands(image, self.levels)

    def apply(self, img: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        """Transfer."""
        return style.transfer_bands(img, params['style'], params['amount'])


STYLE_TRANSFORMS = (FourierAdaptation, ReinhardTransfer, HistogramTransfer, AdaINTransfer)
