"""What a picture looks like, as a short vector: its colours and edges, top, middle and bottom.

A picture is averaged down to 60x96 pixels and cut into vertical thirds, because sky and ground
differ in every drive. Each third has three histograms:

- lightness: CIELAB L*, 12 equal bins,
- chroma: CIELAB (a*, b*), 5x5 bins, narrow around grey where outdoor pictures have most pixels,
- edges: gradient magnitude x orientation (0 to 180 deg), 4x4 bins of the L* picture.

Each histogram sums to 1 and is replaced by its square root, so that the Euclidean distance
between two histograms is their Hellinger distance (Hellinger 1909; Arandjelovic & Zisserman,
"Three things everyone should know", CVPR 2012) and no large bin drowns the small ones. A common
factor brings the distance between two vectors to the root mean square of the nine Hellinger
distances: 0 for equal histograms, 1 for pictures that share no bin.
"""

from __future__ import annotations

import cv2
import numpy as np

FEATURE_VERSION = 1
"""Counts the changes of the vector's meaning, for caches."""

THIRDS = ('top', 'middle', 'bottom')
_SMALL_HW = (60, 96)  # Rows divide by three; ten times smaller than a common camera picture.
_NUM_LIGHTNESS = 12
# OpenCV stores a* and b* in 8 bits with grey at 128.
_CHROMA_EDGES = np.array([118, 125, 131, 140])
_NUM_CHROMA = len(_CHROMA_EDGES) + 1
# Change of L* (0 to 255) over two pixels of the small picture; below the first it is noise.
_MAGNITUDE_EDGES = np.array([6.0, 16.0, 40.0], np.float32)
_NUM_MAGNITUDES = len(_MAGNITUDE_EDGES) + 1
_NUM_ORIENTATIONS = 4
_SIZES = {
    'lightness': _NUM_LIGHTNESS,
    'chroma': _NUM_CHROMA**2,
    'edges': _NUM_MAGNITUDES * _NUM_ORIENTATIONS,
}

FEATURE_NAMES = tuple(
    f'{third}/{kind}/{position}'
    for kind, size in _SIZES.items()
    for third in THIRDS
    for position in range(size)
)
NUM_FEATURES = len(FEATURE_NAMES)
_NUM_BLOCKS = len(THIRDS) * len(_SIZES)
_THIRD_OF_PIXEL = np.repeat(np.arange(len(THIRDS)), _SMALL_HW[0] * _SMALL_HW[1] // len(THIRDS))
_LIGHTNESS_BIN = (np.arange(256) * _NUM_LIGHTNESS // 256).astype(np.int64)
_CHROMA_BIN = np.searchsorted(_CHROMA_EDGES, np.arange(256), side='right')


def describe_image(image: np.ndarray) -> np.ndarray:
    """Return the colour and edge histograms of a picture.

    Args:
        image: RGB ``(H, W, 3)`` uint8.

    Returns:
        ``(NUM_FEATURES,)`` float32, each in [0, 1/3], named by FEATURE_NAMES; Euclidean distances
        between two such vectors are in [0, 1].

    Raises:
        ValueError: The image has another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        got = f'{image.shape} {image.dtype}'
        raise ValueError(f'image: got {got}; expected RGB (H, W, 3) uint8; convert it first')
    lab = cv2.cvtColor(_shrink(image), cv2.COLOR_RGB2Lab)
    lightness, a, b = (lab[..., channel].ravel() for channel in range(3))
    bins = (
        _LIGHTNESS_BIN[lightness],
        _CHROMA_BIN[a] * _NUM_CHROMA + _CHROMA_BIN[b],
        _edge_bins(np.ascontiguousarray(lab[..., 0])),
    )
    counts = [
        np.bincount(_THIRD_OF_PIXEL * size + index, minlength=len(THIRDS) * size)
        for index, size in zip(bins, _SIZES.values(), strict=True)
    ]
    pixels_per_third = len(_THIRD_OF_PIXEL) / len(THIRDS)
    # Two histograms without a common bin are sqrt(2) apart: hence the 2.
    shares = np.concatenate(counts) / (pixels_per_third * 2 * _NUM_BLOCKS)
    return np.sqrt(shares).astype(np.float32)


def lightness_shares(features: np.ndarray) -> np.ndarray:
    """Return the lightness histograms of a set of pictures.

    Args:
        features: ``(N, NUM_FEATURES)`` from describe_image, N at least 1.

    Returns:
        Share of each of the equal bins from black to white in the top, middle and bottom thirds,
        ``(3, 12)`` float64; each row sums to 1.
    """
    squares = np.square(features[:, : len(THIRDS) * _NUM_LIGHTNESS], dtype=np.float64)
    shares: np.ndarray = squares.mean(axis=0).reshape(len(THIRDS), _NUM_LIGHTNESS)
    return shares / shares.sum(axis=1, keepdims=True)


def _shrink(image: np.ndarray) -> np.ndarray:
    """Average an image down to ``(60, 96, 3)``.

    OpenCV halves images several times faster than it averages them by another factor; an odd last
    row or column is left out for that.
    """
    height, width = image.shape[:2]
    while height >= 4 * _SMALL_HW[0] and width >= 4 * _SMALL_HW[1]:
        height, width = height // 2, width // 2
        even = image[: 2 * height, : 2 * width]
        image = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, _SMALL_HW[::-1], interpolation=cv2.INTER_AREA)


def _edge_bins(lightness: np.ndarray) -> np.ndarray:
    """Return the edge bin of each pixel, ``(H * W,)``; orientations have no sense of direction."""
    dx = cv2.Sobel(lightness, cv2.CV_32F, 1, 0, scale=0.25, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Sobel(lightness, cv2.CV_32F, 0, 1, scale=0.25, borderType=cv2.BORDER_REPLICATE)
    magnitude, angle = cv2.cartToPolar(dx.ravel(), dy.ravel(), angleInDegrees=True)
    step = 180 / _NUM_ORIENTATIONS
    # Half a step on, so that exactly level and exactly upright edges lie inside a bin.
    orientation = ((angle.ravel() + step / 2) / step).astype(np.int64) % _NUM_ORIENTATIONS
    strength = np.searchsorted(_MAGNITUDE_EDGES, magnitude.ravel(), side='right')
    # Without an edge the orientation is noise: such pixels share one bin.
    return np.where(strength > 0, strength * _NUM_ORIENTATIONS + orientation, 0)
