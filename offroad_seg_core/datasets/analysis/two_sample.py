"""How far apart two sets of pictures are, when neighbouring pictures resemble one another.

The distance is the energy coefficient of Székely & Rizzo ("Energy statistics", 2013)::

    (2 E|X-Y| - E|X-X'| - E|Y-Y'|) / (2 E|X-Y|)

over the Euclidean distances |.| of feature vectors: 0 when both sets look the same, 1 when each
is a single look of its own. It needs no bins, no kernel and no trained network.

Frames of a drive are not independent, so nothing here treats them one by one. They are cut into
blocks of consecutive frames, twice as long as neighbours resemble one another, and

- frames of one block or of two neighbouring ones are never compared within a set (a U-statistic
  over blocks: equal sets give 0 on average, which may come out slightly below),
- the confidence interval resamples whole blocks (block bootstrap, Künsch 1989): where the
  distance would lie had other stretches of the same drives been recorded. It knows nothing of
  other drives, days or places;
- the p-value deals whole blocks out to the two sets anew (permutation test): how often sets
  without a difference would be at least as far apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_FRAMES = 8
"""A set with fewer has no distance: there would be too few blocks to resample."""

_MAX_FRAMES = 1500  # of a set; evenly spaced ones stand for more
_MIN_BLOCKS = 8
_MAX_BLOCKS = 250  # of a set; more cost time and tell nothing new
# Of the mean distance of two frames of the set; frames that far apart count as unrelated.
_UNRELATED = 0.95
# Measured on autoregressive sequences without a difference: with blocks of one length 10 to 19 %
# of the p-values are below 0.05, with two lengths 5 to 8 %.
_LENGTHS_PER_BLOCK = 2
_NUM_RESAMPLES = 999
_INTERVAL_PERCENT = (2.5, 97.5)


@dataclass(frozen=True)
class SetDistance:
    """The distance of two sets of frames, and what to hold it against.

    Attributes:
        value: Energy coefficient, at most 1; about 0 for sets that look the same.
        low: Lower end of its 95 % interval.
        high: Upper end.
        chance: 95 % of random partitions of the frames are less far apart.
        p_value: Share of random partitions at least as far apart, 0.001 to 1.
        within_a: Distance of the first half of set a from its second, the yardstick for drift.
        within_b: The same of set b.
        block_length: Consecutive frames (of those used) that were kept together.
        num_blocks: Blocks of a and of b.
    """

    value: float
    low: float
    high: float
    chance: float
    p_value: float
    within_a: float
    within_b: float
    block_length: int
    num_blocks: tuple[int, int]


def set_distance(
    a: np.ndarray, b: np.ndarray, seed: int = 0, block_length: int | None = None
) -> SetDistance | None:
    """Return the distance of two sets of frames; None if one has fewer than MIN_FRAMES.

    Args:
        a: Features of the frames in the order of recording, ``(N, F)``, finite. Of more than
            1500 frames, evenly spaced ones are used.
        b: The same of the other set, ``(M, F)``.
        seed: Of the resampling; the result is a function of the arguments.
        block_length: Frames in a block; None: twice the ``correlation_length``. At most an
            eighth of the smaller set.

    Raises:
        ValueError: The arrays do not fit each other.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f'features: got {a.shape} and {b.shape}; expected (N, F) and (M, F) with one F; '
            'describe both sets by the same function'
        )
    if min(len(a), len(b)) < MIN_FRAMES:
        return None
    a, b = _thin(a), _thin(b)
    if block_length is None:
        correlated = max(correlation_length(a), correlation_length(b))
        block_length = _LENGTHS_PER_BLOCK * correlated if correlated > 1 else 1
    length = _fit_length(block_length, len(a), len(b))
    blocks = _Blocks.of(a, b, length)
    rng = np.random.default_rng(seed)
    in_a = np.arange(len(blocks.sums)) < blocks.num_a
    value = blocks.coefficients(in_a[None], ~in_a[None])[0]
    low, high = np.percentile(_bootstrap(blocks, rng), _INTERVAL_PERCENT)
    partitions = rng.permuted(np.tile(in_a, (_NUM_RESAMPLES, 1)), axis=1)
    dealt = blocks.coefficients(partitions, ~partitions)
    # The small slack keeps rounding from telling equal partitions apart.
    extreme = int((dealt >= value - 1e-12).sum())
    return SetDistance(
        value=float(value),
        low=float(low),
        high=float(high),
        chance=float(np.percentile(dealt, 95)),
        p_value=(1 + extreme) / (1 + _NUM_RESAMPLES),
        within_a=blocks.between_halves(0, blocks.num_a),
        within_b=blocks.between_halves(blocks.num_a, len(blocks.sums)),
        block_length=length,
        num_blocks=(blocks.num_a, len(blocks.sums) - blocks.num_a),
    )


def correlation_length(features: np.ndarray) -> int:
    """Return how many frames on a frame is about as different as any other of the set.

    That is the smallest lag whose mean distance reaches 95 % of the mean over all pairs; 1 for
    unordered pictures, at most an eighth of the frames.

    Args:
        features: ``(N, F)`` in the order of recording.
    """
    longest = max(1, len(features) // _MIN_BLOCKS)
    distances = _distances(features)
    # Each pair is in the matrix twice, each frame with itself once at distance 0.
    unrelated = _UNRELATED * distances.sum() / max(1, len(features) * (len(features) - 1))
    for lag in range(1, longest):
        if distances.diagonal(lag).mean() >= unrelated:
            return lag
    return longest


@dataclass(frozen=True)
class _Blocks:
    """Distances summed over pairs of blocks: enough for every resampling of whole blocks.

    Both matrices are 0 for a block with itself and with its neighbours in time: their frames
    resemble one another because they were recorded one after the other.
    """

    sums: np.ndarray  # (B, B) float64; blocks of a come first
    pairs: np.ndarray  # (B, B) float64, number of distances in each sum
    num_a: int

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, length: int) -> _Blocks:
        starts_a = np.arange(0, len(a), length)
        starts = np.concatenate([starts_a, len(a) + np.arange(0, len(b), length)])
        distances = _distances(np.concatenate([a, b]))
        sums = np.add.reduceat(np.add.reduceat(distances, starts, axis=0), starts, axis=1)
        sizes = np.diff(starts, append=len(distances)).astype(np.float64)
        place = np.arange(len(starts))
        of_a = place < len(starts_a)
        near = np.abs(place[:, None] - place) <= 1
        compared = ~near | (of_a[:, None] != of_a)
        return cls(sums * compared, np.outer(sizes, sizes) * compared, len(starts_a))

    def coefficients(self, in_a: np.ndarray, in_b: np.ndarray) -> np.ndarray:
        """Return the energy coefficient of each resampling, ``(R,)``.

        Args:
            in_a: How often each block is in the first set, ``(R, B)`` integers or bool.
            in_b: The same for the second set.
        """
        a, b = in_a.astype(np.float64), in_b.astype(np.float64)
        sums_a, sums_b, pairs_a, pairs_b = (w @ m for m in (self.sums, self.pairs) for w in (a, b))
        across = _ratio(sums_a * b, pairs_a * b)
        energy = 2 * across - _ratio(sums_a * a, pairs_a * a) - _ratio(sums_b * b, pairs_b * b)
        return np.divide(energy, 2 * across, out=np.zeros_like(energy), where=across > 0)

    def between_halves(self, start: int, stop: int) -> float:
        """Return the distance of the first half of the blocks start..stop from the second."""
        middle = (start + stop) // 2
        place = np.arange(len(self.sums))
        first, second = (place >= start) & (place < middle), (place >= middle) & (place < stop)
        return float(self.coefficients(first[None], second[None])[0])


def _bootstrap(blocks: _Blocks, rng: np.random.Generator) -> np.ndarray:
    """Return the coefficients of sets whose blocks were drawn with replacement, ``(R,)``."""
    num_b = len(blocks.sums) - blocks.num_a
    drawn = [
        rng.multinomial(count, np.full(count, 1 / count), size=_NUM_RESAMPLES)
        for count in (blocks.num_a, num_b)
    ]
    none_a, none_b = np.zeros_like(drawn[0]), np.zeros_like(drawn[1])
    return blocks.coefficients(np.hstack([drawn[0], none_b]), np.hstack([none_a, drawn[1]]))


def _ratio(sums: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the mean distance of each resampling; 0 where nothing was compared."""
    return sums.sum(axis=1) / np.maximum(pairs.sum(axis=1), 1)


def _fit_length(length: int, num_a: int, num_b: int) -> int:
    """Return the block length nearest to ``length`` that leaves enough blocks, not too many."""
    shortest = -(-max(num_a, num_b) // _MAX_BLOCKS)
    return min(max(length, shortest), min(num_a, num_b) // _MIN_BLOCKS)


def _thin(features: np.ndarray) -> np.ndarray:
    if len(features) <= _MAX_FRAMES:
        return features
    return features[np.linspace(0, len(features) - 1, _MAX_FRAMES).round().astype(np.intp)]


def _distances(features: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of every pair of rows, ``(N, N)`` float64."""
    features = features.astype(np.float64)
    squares = (features**2).sum(axis=1)
    gram = features @ features.T
    gram *= -2
    gram += squares[:, None]
    gram += squares
    np.fill_diagonal(gram, 0)
    return np.sqrt(np.maximum(gram, 0, out=gram), out=gram)
