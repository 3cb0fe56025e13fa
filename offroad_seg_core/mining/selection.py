"""Choose the frames that teach most: hard for the model, and unlike each other.

Each signal ranks the frames, so that none drowns the others by its scale; the mean of the ranks
says how hard a frame is (Borda count). Frames are then taken one after another: each time the
one whose hardness, times its distance to the nearest frame that was taken, is largest. This is
farthest-first traversal (Gonzalez 1985; for active learning: Sener & Savarese, ICLR 2018) with
weights: uncertainty alone picks the same scene again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from offroad_seg_core.datasets.analysis.duplicates import MAX_DISTANCE
from offroad_seg_core.evaluation.counting import SHARE
from offroad_seg_core.mining.signals import FLICKER, IMAGE_HASH


def measure_signals(columns: Mapping[str, Any], has_reference: bool) -> dict[str, np.ndarray]:
    """Return what makes frames worth labelling, name -> ``(N,)`` float64; more is better.

    - uncertainty: one minus the mean confidence; pixels without a label have confidence 0 (least
      confidence: Lewis & Gale, SIGIR 1994),
    - disagreement: share of pixels that the reference calls something else (query by committee:
      Seung, Opper & Sompolinsky, COLT 1992),
    - rarity: mean over the pixels of -ln of their class's share in all frames, in nats,
    - flicker: see ``signals.flicker``.

    A signal that no frame has is left out; a frame that lacks one has nan there.

    Args:
        columns: Of a table with FrameSignals' columns; only frames with labels.
        has_reference: Whether the scores in the table are held against another model.
    """
    unlabeled = columns['unlabeled_share']
    confidence = np.where(unlabeled == 1, 0, columns['mean_confidence'] * (1 - unlabeled))
    signals = {'uncertainty': 1 - confidence}
    if has_reference and 'pixel_accuracy' in columns:
        signals['disagreement'] = 1 - columns['pixel_accuracy']
    shares = np.stack([values for name, values in columns.items() if name.startswith(SHARE)])
    means = shares.mean(axis=1)
    information = -np.log(means, where=means > 0, out=np.zeros_like(means))
    signals |= {'rarity': information @ shares, 'flicker': columns[FLICKER]}
    return {name: values for name, values in signals.items() if np.isfinite(values).any()}


def hardness(signals: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the mean rank of each frame over the signals, ``(N,)`` float64, 0 to 1.

    A frame that lacks a signal counts as average in it.
    """
    return np.mean([_ranks(values) for values in signals.values()], axis=0)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0, the smallest, to 1; the mean rank for equal values, 0.5 for nan."""
    ranks = np.full(len(values), 0.5)
    known = np.isfinite(values)
    _, places, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    if len(counts) > 1:
        mean_ranks = np.cumsum(counts) - (counts + 1) / 2
        ranks[known] = mean_ranks[places] / (known.sum() - 1)
    return ranks


def choose(scores: np.ndarray, hashes: np.ndarray, count: int) -> list[int]:
    """Return the places of the frames to label, the most wanted first.

    Frames that look the same as one that was taken are left out, so there may be fewer.

    Args:
        scores: How hard each frame is, ``(N,)``, 0 to 1.
        hashes: What it looks like, ``(N,)`` uint64, see ``perceptual_hash``.
        count: Most to return.
    """
    chosen: list[int] = []
    nearest = np.full(len(scores), 64)
    while len(chosen) < count:
        # Of frames with no hardness at all, the most unlike is still the best.
        by_worth = np.lexsort((-nearest, -scores * nearest))
        allowed = by_worth[nearest[by_worth] > MAX_DISTANCE]
        if not len(allowed):
            break
        chosen.append(int(allowed[0]))
        differing = (hashes ^ hashes[chosen[-1]]).view(np.uint8).reshape(-1, 8)
        nearest = np.minimum(nearest, np.unpackbits(differing, axis=1).sum(axis=1))
    return chosen


def hashes_of(columns: Mapping[str, Any]) -> np.ndarray:
    """Return the hashes of a table's frames, ``(N,)`` uint64."""
    return np.array([int(text, 16) for text in columns[IMAGE_HASH]], np.uint64)
