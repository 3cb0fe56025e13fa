"""Augmentation by a list of named transforms: albumentations' and those of this package."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT, ConfigError
from offroad_seg_core.datasets.augmentation.presets import load_preset
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.taxonomy import IGNORE_INDEX

# A view that is still larger than the crop is cut at random, a smaller one padded at random.
_FIT = (
    {
        'name': 'PadIfNeeded',
        'min_height': 'crop_height',
        'min_width': 'crop_width',
        'position': 'random',
    },
    {'name': 'RandomCrop', 'height': 'crop_height', 'width': 'crop_width'},
)


@dataclass(frozen=True, config=STRICT)
class PipelineConfig:
    """A preset, a list of transforms, or a list that runs before a preset.

    Each transform is ``{name: ..., p: ..., option: value}``; ``OneOf``, ``SomeOf`` and
    ``Sequential`` hold ``transforms``. The words crop_size, crop_height, crop_width, crop_aspect
    (width over height) and input_size stand for the sizes in use. Labels are always resampled by
    nearest neighbour; what comes from outside the frame is ignored, in the mean colour. Images
    stay uint8: the network normalises.

    Attributes:
        kind: Names this kind of augmentation.
        preset: One of ``presets/``.
        transforms: In order.
    """

    kind: Literal['pipeline']
    preset: str | None = None
    transforms: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Check every name and option."""
        if self.preset is None and not self.transforms:
            raise ValueError('got neither preset nor transforms; expected at least one of the two')
        building = _import_building()
        building.check(self.transforms, 'transforms')
        if self.preset is not None:
            building.check(load_preset(self.preset), f'preset {self.preset}')

    @property
    def entries(self) -> tuple[dict[str, Any], ...]:
        """All transforms in the order they run."""
        preset = () if self.preset is None else load_preset(self.preset)
        return (*self.transforms, *preset)


class Pipeline:
    """Views by a pipeline.

    Args:
        config: Which transforms.
        crop_size: (height, width) of a view.
        spec: The network's input on the robot: its size and its mean colour.
        strength: A transform of probability p runs with ``1 - (1 - p) ** strength``.
    """

    def __init__(
        self,
        config: PipelineConfig,
        crop_size: tuple[int, int],
        spec: InputSpec,
        strength: float = 1.0,
    ) -> None:
        building = _import_building()
        self._crop_size = tuple(crop_size)
        self._mean = np.clip(np.round(spec.mean), 0, 255).astype(np.uint8)
        mean = (int(self._mean[0]), int(self._mean[1]), int(self._mean[2]))
        surroundings = building.Surroundings(crop_size, spec.size, mean)
        self._compose = building.compose((*config.entries, *_FIT), surroundings, strength)

    def __call__(
        self, image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a view; the same ``rng`` state gives the same view in every process.

        Args:
            image: ``(H, W, 3)`` uint8 RGB; not written to.
            label_map: ``(H, W)`` uint8 ids or 255; not written to.
            rng: Source of every random choice.

        Returns:
            Image ``(*crop_size, 3)`` and label map ``crop_size``, both uint8, in memory of
            their own.

        Raises:
            ValueError: A shape or type differs from the above.
        """
        view, labels, _ = self._run(image, label_map, rng)
        return view, labels

    def trace(
        self, image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the same view and where its pixels are from; see ``TracedAugmentation``.

        The origin of a pixel is that of its label: the centre of the nearest pixel of the frame.
        """
        height, width = label_map.shape
        pixels = np.meshgrid(np.arange(width), np.arange(height))
        origins = np.stack(pixels, axis=-1).astype(np.float32)
        view, labels, result = self._run(image, label_map, rng, origins=origins)
        traced = result['origins'].copy()
        traced[result['outside'].astype(bool)] = np.nan
        return view, labels, traced

    def _run(
        self,
        image: np.ndarray,
        label_map: np.ndarray,
        rng: np.random.Generator,
        **further: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Return image and label map of a view, and all that came out of the transforms."""
        _expect('image', image, (*label_map.shape, 3))
        _expect('label_map', label_map, label_map.shape[:2])
        _share_generator(self._compose, rng, random.Random(int(rng.integers(2**63))))
        outside = np.zeros(label_map.shape, np.uint8)
        result = self._compose(image=image, mask=label_map, outside=outside, **further)
        view, labels = _own(result['image'], image), _own(result['mask'], label_map)
        _expect('view', view, (*self._crop_size, 3))
        _expect('labels of the view', labels, self._crop_size)
        beyond = result['outside'].astype(bool)
        if beyond.any():  # colour transforms have changed the padding, too
            view[beyond] = self._mean
            labels[beyond] = IGNORE_INDEX
        return view, labels, result


def _share_generator(
    transform: Any, generator: np.random.Generator, py_random: random.Random
) -> None:
    """Let a tree of transforms draw from one stream.

    ``Compose.set_random_seed`` would give every transform the same seed: all would compare the
    same first number with their probabilities, so that what flips is also what is darkened.
    """
    transform.random_generator = generator
    transform.py_random = py_random
    for child in getattr(transform, 'transforms', ()):
        _share_generator(child, generator, py_random)


def _own(result: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return the result in memory that it does not share with a (cached) frame."""
    return result.copy() if np.may_share_memory(result, source) else np.ascontiguousarray(result)


def _expect(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.uint8:
        got = f'{array.shape} {array.dtype}'
        raise ValueError(f'{name}: got {got}; expected {shape} uint8')


def _import_building() -> ModuleType:
    """Import albumentations only when a pipeline is asked for: it takes two seconds."""
    try:
        from offroad_seg_core.datasets.augmentation import building
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'kind: pipeline needs {error.name}, which is not installed; install '
            'requirements/train.txt or use kind: views'
        ) from error
    return building
