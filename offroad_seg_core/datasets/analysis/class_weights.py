"""How much each class counts in the loss, from how rare it is.

All schemes end the same way: the classes that occur get mean weight 1, so that the loss keeps its
size; classes that never occur get 1 (no pixel ever uses it, and it is finite). The weights thus
always add up to the number of classes, unless ``maximum`` cuts one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from offroad_seg_core.datasets.frames import FrameSet


@dataclass(frozen=True)
class ClassCounts:
    """How often each class occurs.

    Attributes:
        pixels: Pixels of each class, ``(C,)`` int64.
        present_pixels: Labelled pixels of all frames that hold the class, ``(C,)`` int64.
    """

    pixels: np.ndarray
    present_pixels: np.ndarray

    @classmethod
    def of(cls, counts: Iterable[np.ndarray], num_classes: int) -> ClassCounts:
        """Add up the pixel counts of frames, each ``(C,)`` integers."""
        pixels = np.zeros(num_classes, np.int64)
        present_pixels = np.zeros(num_classes, np.int64)
        for frame in counts:
            pixels += frame
            present_pixels += np.where(frame > 0, frame.sum(), 0)
        return cls(pixels, present_pixels)


def count_frames(frames: FrameSet, step: int = 4) -> Iterator[np.ndarray]:
    """Yield the pixels of each class, ``(C,)`` int64, on every ``step``-th row and column."""
    for index in range(len(frames)):
        label_map = frames.read(index)[1][::step, ::step]
        yield np.bincount(label_map.ravel(), minlength=256)[: frames.taxonomy.num_classes]


def class_weights(counts: ClassCounts, scheme: str, maximum: float = np.inf) -> np.ndarray:
    """Return one factor for each class.

    Args:
        counts: Of the training set.
        scheme: A key of ``SCHEMES``.
        maximum: Largest weight; it cuts after the scaling to mean 1.

    Returns:
        ``(C,)`` float64, positive and finite; 1 for classes that do not occur.

    Raises:
        ValueError: No scheme has this name.
    """
    if scheme not in SCHEMES:
        raise ValueError(
            f'class weights: got scheme {scheme!r}; expected one of {", ".join(SCHEMES)}'
        )
    weights = np.ones(counts.pixels.shape)
    present = counts.pixels > 0
    if present.any():
        pixels, present_pixels = counts.pixels[present], counts.present_pixels[present]
        raw = SCHEMES[scheme](pixels.astype(np.float64), present_pixels.astype(np.float64))
        weights[present] = np.minimum(raw / raw.mean(), maximum)
    return weights


def _enet(pixels: np.ndarray, present_pixels: np.ndarray) -> np.ndarray:
    """1 / log(1.02 + share): Paszke et al. 2016, ENet, section 5.2."""
    return 1 / np.log(1.02 + pixels / pixels.sum())


def _inverse(pixels: np.ndarray, present_pixels: np.ndarray) -> np.ndarray:
    return pixels.sum() / pixels


def _inverse_sqrt(pixels: np.ndarray, present_pixels: np.ndarray) -> np.ndarray:
    return np.sqrt(pixels.sum() / pixels)


def _median_frequency(pixels: np.ndarray, present_pixels: np.ndarray) -> np.ndarray:
    """Median frequency / frequency: Eigen & Fergus 2015, section 6.3.2.

    The frequency of a class is its share of the frames that hold it.
    """
    frequency = pixels / present_pixels
    return np.median(frequency) / frequency


def _effective_number(pixels: np.ndarray, present_pixels: np.ndarray) -> np.ndarray:
    """(1 - beta) / (1 - beta^n): Cui et al. 2019, Class-Balanced Loss, equations 2 and 6.

    beta is (N - 1) / N as there, N being the mean number of pixels of a class: then the weights
    do not depend on how many pixels were counted. A fixed beta such as 0.9999 is meant for
    images; on pixels, of which every class has more than 10,000, it makes all weights equal.
    """
    beta = 1 - 1 / max(pixels.mean(), 2)
    # expm1 and log1p: 1 - beta^n loses all digits where n / N is small.
    return (1 - beta) / -np.expm1(pixels * np.log1p(beta - 1))


# name -> function of (pixels, present_pixels) of the classes that occur, before the scaling.
SCHEMES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'enet': _enet,
    'inverse': _inverse,
    'inverse_sqrt': _inverse_sqrt,
    'median_frequency': _median_frequency,
    'effective_number': _effective_number,
}
