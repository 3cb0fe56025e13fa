"""Pictures that are there twice, and near-copies across splits: what a model learned by heart.

Near-copies are found by their perceptual hashes, then looked at: a hash of 64 bits is sometimes
equal for different pictures when there are very many.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from offroad_seg_core.datasets.analysis.facts import ImageFacts
from offroad_seg_core.datasets.frames import FrameFiles
from offroad_seg_core.datasets.masks import read_image

MAX_DISTANCE = 6
"""Bits in which the hashes of near-copies differ at most; unrelated ones differ in 14 or more."""

_NUM_BANDS, _BAND_BITS = 4, 16
_CANDIDATES_AT_ONCE = 1 << 21
_LOOK_PX = 64
_MIN_CORRELATION = 0.9


@dataclass(frozen=True)
class Pair:
    """Two pictures that look the same.

    Attributes:
        first: A picture.
        second: Another, of another group.
        groups: (split, environment) of both.
        distance: Bits in which their hashes differ.
    """

    first: Path
    second: Path
    groups: tuple[tuple[str, str], tuple[str, str]]
    distance: int

    @property
    def is_leak(self) -> bool:
        """Whether the two are in different splits (otherwise in different environments)."""
        return self.groups[0][0] != self.groups[1][0]


class ImageIndex:
    """Hashes of all pictures: 24 bytes each, and a reference to its path."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._groups: dict[tuple[str, str], int] = {}
        self._group_of = array('q')
        self._hashes = array('Q')
        self._contents = array('Q')

    def add(self, files: FrameFiles, split: str, facts: ImageFacts) -> None:
        """Add a picture."""
        group = (split, files.environment)
        self._paths.append(files.image)
        self._group_of.append(self._groups.setdefault(group, len(self._groups)))
        self._hashes.append(facts.image_hash)
        self._contents.append(int.from_bytes(facts.content_hash[:8], 'little'))

    def duplicates(self) -> list[list[Path]]:
        """Return the groups of files with equal content, each in the order of adding."""
        contents = np.array(self._contents, np.uint64)
        order = np.argsort(contents, kind='stable')
        cuts = np.flatnonzero(np.diff(contents[order])) + 1
        runs = [run for run in np.split(order, cuts) if len(run) > 1]
        found = [list(dict.fromkeys(self._paths[place] for place in run)) for run in runs]
        return sorted(paths for paths in found if len(paths) > 1)

    def near_copies(self, max_pairs: int = 1000) -> tuple[list[Pair], int]:
        """Return near-copies in different groups: of each picture the nearest ones.

        One in its own split and one in another, so that the first does not hide a leak.

        Args:
            max_pairs: Most pairs to look at: both pictures are read again.

        Returns:
            The pairs that look the same, and how many more have similar hashes.
        """
        hashes = np.array(self._hashes, np.uint64)
        groups = np.array(self._group_of, np.int64)
        # Once for each hash of a group: a thousand black frames would make a million pairs.
        once = np.unique(np.stack([hashes, groups.astype(np.uint64)]), axis=1, return_index=True)[
            1
        ]
        first, second, distance = near_pairs(hashes[once], groups[once])
        names = list(self._groups)
        split_of = np.unique([split for split, _ in names], return_inverse=True)[1]
        is_leak = split_of[groups[once[first]]] != split_of[groups[once[second]]]
        places = _nearest(once[first], once[second], distance, is_leak)
        pairs = [
            Pair(
                self._paths[first],
                self._paths[second],
                (names[groups[first]], names[groups[second]]),
                distance,
            )
            for first, second, distance in places
        ]
        # Leaks first: they are what most needs to be looked at.
        pairs.sort(key=lambda pair: (not pair.is_leak, pair.distance, pair.first))
        kept = pairs[:max_pairs]
        with ThreadPoolExecutor() as pool:
            alike = list(pool.map(_look_the_same, kept))
        found = [pair for pair, is_alike in zip(kept, alike, strict=True) if is_alike]
        return found, len(pairs) - len(kept)


def near_pairs(
    hashes: np.ndarray, groups: np.ndarray, max_distance: int = MAX_DISTANCE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of similar hashes in different groups.

    The hash is cut into 4 bands of 16 bits. Of at most 7 differing bits, one band has at most
    one: so only hashes are compared that agree in a band but for one bit (multi-index hashing:
    Norouzi, Punjani & Fleet, CVPR 2012).

    Args:
        hashes: ``(N,)`` uint64.
        groups: ``(N,)`` integers.
        max_distance: Most bits that differ, at most 7.

    Returns:
        Places i and j, i < j, and distances of the pairs, each ``(P,)`` int64, ascending.
    """
    if max_distance >= 2 * _NUM_BANDS:
        raise ValueError(f'max_distance: got {max_distance}; expected at most 7')
    flips = [0, *(1 << bit for bit in range(_BAND_BITS))]
    found = [np.empty(0, np.int64)]
    for band in range(_NUM_BANDS):
        keys = _band(hashes, band)
        order = np.argsort(keys, kind='stable')
        ends = np.searchsorted(keys[order], np.arange((1 << _BAND_BITS) + 1))
        for flip in flips:
            wanted = keys ^ flip
            first, stop = ends[wanted], ends[wanted + 1]
            for i, j in _candidates(order, first, stop):
                near = (i < j) & (groups[i] != groups[j])
                i, j = i[near], j[near]
                near = _distance(hashes[i], hashes[j]) <= max_distance
                found.append(i[near] * len(hashes) + j[near])
    i, j = np.divmod(np.unique(np.concatenate(found)), max(1, len(hashes)))
    return i, j, _distance(hashes[i], hashes[j])


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the number of differing bits of each two hashes, ``(N,)`` int64."""
    # NumPy counts bits itself since 2.0 only.
    bits = np.unpackbits((a ^ b).view(np.uint8).reshape(-1, 8), axis=1)
    return bits.sum(axis=1, dtype=np.int64)


def _band(hashes: np.ndarray, band: int) -> np.ndarray:
    """Return 16 bits of each hash, ``(N,)`` int64.

    Every fourth bit: the low frequencies, which most outdoor pictures share, lie side by side.
    """
    bits = np.unpackbits(hashes.astype('>u8').view(np.uint8).reshape(-1, 8), axis=1)
    weights = 1 << np.arange(_BAND_BITS)
    return bits[:, band::_NUM_BANDS].astype(np.int64) @ weights


def _candidates(
    order: np.ndarray, first: np.ndarray, stop: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places i with each place of ``order[first[i]:stop[i]]``, some millions at once."""
    lengths = stop - first
    total = np.concatenate(([0], np.cumsum(lengths)))
    start = 0
    while start < len(lengths):
        room = total[start] + _CANDIDATES_AT_ONCE
        end = max(start + 1, int(np.searchsorted(total, room, side='right')) - 1)
        part = lengths[start:end]
        i = np.repeat(np.arange(start, end), part)
        # Counts 0, 1, 2, ... anew for each i.
        within = np.arange(total[start], total[end]) - np.repeat(total[start:end], part)
        yield i, order[np.repeat(first[start:end], part) + within]
        start = end


def _nearest(
    first: np.ndarray, second: np.ndarray, distance: np.ndarray, is_leak: np.ndarray
) -> list[tuple[int, int, int]]:
    """Keep of each second place the nearest first one that is a leak, and that is none."""
    order = np.lexsort((first, distance, second))
    _, kept = np.unique(2 * second[order] + is_leak[order], return_index=True)
    chosen = order[kept]
    return np.stack([first, second, distance], axis=1)[chosen].tolist()


def _look_the_same(pair: Pair) -> bool:
    a, b = _thumbnail(pair.first), _thumbnail(pair.second)
    return float((a * b).sum()) >= _MIN_CORRELATION


def _thumbnail(path: Path) -> np.ndarray:
    """Return a small grey picture of mean 0 and norm 1; of norm 0 if it shows nothing."""
    gray = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_LOOK_PX, _LOOK_PX), interpolation=cv2.INTER_AREA)
    centred = small.astype(np.float64) - small.mean()
    norm = float(np.linalg.norm(centred))
    # Below one grey level there is only noise: black frames are no copies of each other.
    return centred / norm if norm > _LOOK_PX else np.zeros_like(centred)
