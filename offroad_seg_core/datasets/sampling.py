"""How often each frame is drawn: evenly, or more often where it shows rare classes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass as plain_dataclass
import os
from typing import Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.masks import DatasetError


@dataclass(frozen=True, config=STRICT)
class SamplingConfig:
    """Which frames are drawn more often, and which are varied more.

    Attributes:
        kind: ``uniform``: every frame once an epoch. ``rare_class``: a frame is drawn in inverse
            proportion to the share of the frames that show its rarest class. ``repeat_factor``:
            max(1, sqrt(threshold / share)) of its rarest class (Gupta et al., LVIS, 2019, 4.1);
            gentler, and frames of common classes stay equal.
        max_boost: No frame is drawn more often than this, against one of common classes.
        threshold: A class that fewer than this share of the frames show is rare. LVIS has
            thousands of classes and takes 0.001; with ten, 0.3 is of that kind.
        classes: Names of the classes that count; empty for all.
        min_pixels: A frame shows a class from this many pixels on. Where most frames show a few
            pixels of everything, only a larger number tells them apart.
        rare_strength: Frames that show a rare class are augmented this much more strongly; 1 is
            as all others.
    """

    kind: Literal['uniform', 'rare_class', 'repeat_factor'] = 'uniform'
    max_boost: float = Field(default=10.0, ge=1)
    threshold: float = Field(default=0.3, gt=0, le=1)
    classes: tuple[str, ...] = ()
    min_pixels: int = Field(default=64, ge=1)
    rare_strength: float = Field(default=1.0, ge=1, le=10)

    @property
    def needs_counts(self) -> bool:
        """Whether the label maps must be read before training."""
        return self.kind != 'uniform' or self.rare_strength != 1


@plain_dataclass(frozen=True)
class SamplingPlan:
    """What a configuration means for the frames of one set.

    Attributes:
        weights: ``(N,)`` float64, how often each frame is drawn against the others; None for
            every frame once an epoch.
        is_rare: ``(N,)`` bool, the frames that show a rare class; None if it does not matter.
    """

    weights: np.ndarray | None = None
    is_rare: np.ndarray | None = None


def plan_sampling(frames: FrameSet, config: SamplingConfig) -> SamplingPlan:
    """Return how the frames are to be drawn; read their label maps if that depends on them.

    The frames' own weights, the shares of a mixed set's sources, are multiplied by the boosts.

    Raises:
        DatasetError: A class is not of the taxonomy, or a label file cannot be read.
    """
    considered = _considered(config.classes, frames.taxonomy.names)
    source_weights = np.asarray(frames.weights, np.float64)
    weights, is_rare = source_weights, None
    if config.needs_counts:
        presence = (class_counts(frames) >= config.min_pixels) & considered
        shares = class_shares(presence, source_weights)
        weights = source_weights * frame_boosts(presence, shares, config)
        if config.rare_strength != 1:
            is_rare = (presence & (shares < config.threshold)).any(axis=1)
    is_even = np.allclose(weights, weights[0], rtol=1e-9)
    return SamplingPlan(None if is_even else weights, is_rare)


def class_counts(frames: FrameSet, step: int = 1) -> np.ndarray:
    """Count the pixels of each class in each frame, ``(N, C)`` int64; pictures are not read.

    Args:
        frames: ``N`` frames of a taxonomy of ``C`` classes.
        step: Look at every ``step``-th row and column; each pixel then stands for step².
    """
    num_classes = frames.taxonomy.num_classes

    def count(index: int) -> np.ndarray:
        label = frames.files[index].label
        if label is None:  # drawn like a frame of common classes
            return np.zeros(num_classes, np.int64)
        label_map = frames.reader_of(index).read(label)[::step, ::step]
        return np.bincount(label_map.ravel(), minlength=num_classes)[:num_classes]

    # Threads suffice: decoding, which is most of it, runs without the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(count, range(len(frames))))) * step**2


def class_shares(presence: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the share of the drawn frames that show each class, ``(C,)`` float64.

    Args:
        presence: ``(N, C)`` bool.
        weights: ``(N,)`` not negative, how often each frame is drawn.
    """
    return weights @ presence / weights.sum()


def frame_boosts(presence: np.ndarray, shares: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """Return how much more often each frame is drawn, ``(N,)`` float64 of 1 to ``max_boost``.

    The rarest class of a frame decides; a frame that shows no class that counts has 1.

    Args:
        presence: ``(N, C)`` bool, the classes that each frame shows and that count.
        shares: ``(C,)`` share of the frames that show each class.
        config: The rule and its bound.
    """
    if config.kind == 'uniform':
        return np.ones(len(presence))
    shares = np.maximum(shares, 1e-12)  # of a class that no frame shows: it boosts none
    boosts = 1 / shares if config.kind == 'rare_class' else np.sqrt(config.threshold / shares)
    boosts = np.clip(boosts, 1, config.max_boost)
    return np.max(np.where(presence, boosts, 1.0), axis=1)


def draw_epoch(weights: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw as many frames as there are, each as often as its weight says to within one.

    Frame i is expected ``N w_i / sum(w)`` times. It is drawn the whole part of that for certain;
    what is left is drawn systematically: one random offset, then equal steps along the
    cumulative sum of the fractions (Kitagawa 1996). Independent draws, as by a weighted random
    sampler, would leave out a third of the frames by chance.

    Args:
        weights: ``(N,)`` not negative, one positive at least.
        rng: Decides the order and the fractions.

    Returns:
        Frames ``(N,)`` int64 in random order, and for each the number, from 0, of its earlier
        draws in this epoch.
    """
    num_frames = len(weights)
    expected = expected_draws(weights)
    certain = np.floor(expected).astype(np.int64)
    # Systematic draws favour neighbours apart from each other: in a random order that is harmless.
    order = rng.permutation(num_frames)
    fractions = np.cumsum((expected - certain)[order])
    num_left = num_frames - certain.sum()
    # The sum is num_left but for rounding, which must neither lose a draw nor invent one.
    scale = num_left / fractions[-1] if num_left else 0.0
    ends = np.where(fractions >= fractions[-1], num_left, fractions * scale)
    drawn = np.floor(np.minimum(ends, num_left) + rng.random()).astype(np.int64)
    counts = certain
    counts[order] += np.diff(drawn, prepend=0)
    frames = np.repeat(np.arange(num_frames), counts)
    repeats = np.arange(num_frames) - np.repeat(np.cumsum(counts) - counts, counts)
    shuffled = rng.permutation(num_frames)
    return frames[shuffled], repeats[shuffled]


def expected_draws(weights: np.ndarray) -> np.ndarray:
    """Return how often each frame is expected in an epoch, ``(N,)`` float64 of sum N."""
    return len(weights) * (weights / weights.sum())


def _considered(classes: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return which classes count, ``(C,)`` bool."""
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise DatasetError(
            f'sampling.classes: got {", ".join(unknown)}; expected names of the taxonomy: '
            f'{", ".join(names)}'
        )
    return np.array([not classes or name in classes for name in names])
