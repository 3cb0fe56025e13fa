"""Choose the frames that teach most: hard for the model, and between them like all hard frames.

Each signal ranks the frames, so that none drowns the others by its scale; the mean of the ranks
says how hard a frame is (Borda count). Frames are then taken one after another: each time the
one that is hard itself and brings most hard frames nearer to one that was taken. That is greedy
facility location (Nemhauser, Wolsey & Fisher 1978; for active learning: Wei, Iyer & Bilmes, ICML
2015), with hardness as weight. The hardest frames alone are outliers and look alike; few labels
teach more where they stand for many frames (Hacohen, Dekel & Weinshall, ICML 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
import heapq
from typing import Any

import numpy as np

from offroad_seg_core.datasets.analysis.duplicates import MAX_DISTANCE
from offroad_seg_core.evaluation.counting import SHARE
from offroad_seg_core.mining.signals import FLICKER, IMAGE_FEATURES, IMAGE_HASH, features_of

_MAX_COVERED = 20_000
_AT_ONCE = 256


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


def choose(scores: np.ndarray, hashes: np.ndarray, looks: np.ndarray, count: int) -> list[int]:
    """Return the places of the frames to label, the most wanted first.

    Frames that look the same as one that was taken are left out, so there may be fewer.

    Args:
        scores: How hard each frame is, ``(N,)``, 0 to 1.
        hashes: Which frames look the same, ``(N,)`` uint64, see ``perceptual_hash``.
        looks: How much they look alike, ``(N, F)``, see ``looks_of``.
        count: Most to return.
    """
    looks = looks.astype(np.float32)
    every = -(-len(looks) // _MAX_COVERED)  # of more, a part stands for all
    covered, weights = looks[::every], scores[::every].astype(np.float32)
    # So far from what was taken as two frames that are drawn at random.
    far = np.full(len(covered), np.sqrt(2 * looks.var(axis=0).sum()), np.float32)
    gains = np.concatenate([
        _gains(looks[first : first + _AT_ONCE], covered, far, weights)
        for first in range(0, len(looks), _AT_ONCE)
    ])  # fmt: skip
    # Gains only shrink, so old ones are bounds (lazy greedy: Minoux 1978).
    bounds = list(zip(-gains * scores, -scores, range(len(scores)), strict=True))
    heapq.heapify(bounds)
    chosen: list[int] = []
    while bounds and len(chosen) < count:
        _, least, place = heapq.heappop(bounds)
        if chosen and _distances(hashes[place], hashes[chosen]).min() <= MAX_DISTANCE:
            continue
        gain = float(_gains(looks[place : place + 1], covered, far, weights)[0])
        entry = (-gain * scores[place], least, place)
        if bounds and entry > bounds[0]:
            heapq.heappush(bounds, entry)
            continue
        chosen.append(place)
        far = np.minimum(far, np.linalg.norm(covered - looks[place], axis=1))
    return chosen


def _gains(
    looks: np.ndarray, covered: np.ndarray, far: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return how much nearer each frame brings all that are covered, ``(n,)``, weighted."""
    squares = np.square(looks).sum(axis=1)[:, None] + np.square(covered).sum(axis=1)
    distances = np.sqrt(np.maximum(squares - 2 * looks @ covered.T, 0))
    return np.maximum(far - distances, 0) @ weights


def _distances(image_hash: np.uint64, hashes: np.ndarray) -> np.ndarray:
    """Return in how many bits hashes differ from one."""
    differing = (hashes ^ image_hash).view(np.uint8).reshape(-1, 8)
    return np.unpackbits(differing, axis=1).sum(axis=1)


def looks_of(columns: Mapping[str, Any]) -> np.ndarray:
    """Return what a table's frames look like, to camera and model, ``(N, F)`` float32.

    Euclidean distances between rows are at most 1 for the pictures (see ``describe_image``) and 1
    for the shares of their classes (Hellinger), together the root of both squares.
    """
    shares = [values for name, values in columns.items() if name.startswith(SHARE)]
    classes = np.sqrt(np.stack(shares, axis=1) / 2)
    return np.hstack([features_of(columns[IMAGE_FEATURES]), classes]).astype(np.float32)


def hashes_of(columns: Mapping[str, Any]) -> np.ndarray:
    """Return the hashes of a table's frames, ``(N,)`` uint64."""
    return np.array([int(text, 16) for text in columns[IMAGE_HASH]], np.uint64)
