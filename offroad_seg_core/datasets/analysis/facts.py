"""What is measured on each file of a data set, small enough to keep for every file.

Sums are exact: integers, no running means.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
import struct
from typing import NamedTuple

import cv2
import numpy as np

from offroad_seg_core.datasets.analysis.features import (
    FEATURE_VERSION,
    NUM_FEATURES,
    describe_image,
)
from offroad_seg_core.datasets.masks import DatasetError, MaskReader, count_values
from offroad_seg_core.datasets.picture_files import decode, decode_image, read_file

# To be raised when a field below changes or gets another meaning.
FACTS_VERSION = 1000 + FEATURE_VERSION
_HASH_INPUT_PX, _HASH_SIDE = 32, 8
_LEAST_HW = (240, 384)
_STRIP_PX = 1 << 17
_Channels = tuple[int, int, int]
_IMAGE_HEADER = struct.Struct('<2I6qQ16s')
_LABEL_HEADER = struct.Struct('<2I?')


class ImageFacts(NamedTuple):
    """What is known of a picture.

    Attributes:
        size: (height, width).
        sums: Of the red, green and blue values, 0 to 255 each.
        square_sums: Of their squares.
        image_hash: 64 bits of what it looks like, see perceptual_hash.
        content_hash: 16 bytes; equal for files with equal bytes.
        features: ``(NUM_FEATURES,)`` float32, see describe_image.
    """

    size: tuple[int, int]
    sums: _Channels
    square_sums: _Channels
    image_hash: int
    content_hash: bytes
    features: np.ndarray

    def pack(self) -> bytes:
        """Return the facts as bytes, for unpack."""
        numbers = (*self.size, *self.sums, *self.square_sums)
        header = _IMAGE_HEADER.pack(*numbers, self.image_hash, self.content_hash)
        return header + self.features.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> ImageFacts:
        """Return what pack was given."""
        height, width, *sums, image_hash, content_hash = _IMAGE_HEADER.unpack_from(data)
        features = np.frombuffer(data, np.float32, NUM_FEATURES, _IMAGE_HEADER.size)
        red, green, blue, red_squares, green_squares, blue_squares = sums
        square_sums = (red_squares, green_squares, blue_squares)
        return cls(
            (height, width), (red, green, blue), square_sums, image_hash, content_hash, features
        )


class LabelFacts(NamedTuple):
    """What is known of a label file.

    Attributes:
        size: (height, width).
        values: The values it stores, ascending, ``(K,)`` int64.
        counts: Pixels of each value, ``(K,)`` int64.
        instances: Instances of each value, ``(K,)`` int64; None without a mask of instances.
    """

    size: tuple[int, int]
    values: np.ndarray
    counts: np.ndarray
    instances: np.ndarray | None

    def pack(self) -> bytes:
        """Return the facts as bytes, for unpack."""
        rows = [self.values, self.counts]
        if self.instances is not None:
            rows.append(self.instances)
        header = _LABEL_HEADER.pack(*self.size, self.instances is not None)
        return header + np.concatenate(rows).tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> LabelFacts:
        """Return what pack was given."""
        height, width, has_instances = _LABEL_HEADER.unpack_from(data)
        flat = np.frombuffer(data, np.int64, offset=_LABEL_HEADER.size)
        rows = flat.reshape(3 if has_instances else 2, -1)
        return cls((height, width), rows[0], rows[1], rows[2] if has_instances else None)


def measure_image(path: Path) -> ImageFacts:
    """Read and measure a picture.

    Raises:
        DatasetError: The file cannot be read.
    """
    data = read_file(path)
    image = decode_image(path, data)
    sums, square_sums = _channel_sums(image)
    small = _halve(image)
    return ImageFacts(
        size=image.shape[:2],
        sums=sums,
        square_sums=square_sums,
        image_hash=perceptual_hash(small),
        content_hash=hashlib.sha256(data).digest()[:16],
        features=describe_image(small),
    )


def measure_label(path: Path, reader: MaskReader, instances: Path | None = None) -> LabelFacts:
    """Read a label file, with its mask of instances if there is one, and count.

    Raises:
        DatasetError: A file cannot be read, or the two have different sizes.
    """
    stored = reader.read_stored(path)
    values, counts = count_values(stored)
    number = None if instances is None else _count_instances(stored, values, instances)
    return LabelFacts(stored.shape, values, counts, number)


def perceptual_hash(image: np.ndarray) -> int:
    """Return 64 bits that stay nearly the same when a picture is resized or recompressed.

    The bits tell which of the 8x8 lowest frequencies of the grey picture are above their median
    (pHash: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
    Exactly 32 bits are set, so distances are even. Recompressed pictures are 0 to 4 bits apart,
    unrelated ones of alike places 14 and more.

    Args:
        image: RGB ``(H, W, 3)`` uint8.
    """
    side = (_HASH_INPUT_PX, _HASH_INPUT_PX)
    gray = cv2.cvtColor(
        cv2.resize(_halve(image), side, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
    )
    lowest = cv2.dct(gray.astype(np.float32))[:_HASH_SIDE, :_HASH_SIDE].ravel()
    return int.from_bytes(np.packbits(lowest > np.median(lowest)).tobytes(), 'big')


def _halve(image: np.ndarray) -> np.ndarray:
    """Halve an image as describe_image does it, to do it once for all that need less."""
    height, width = image.shape[:2]
    while height >= _LEAST_HW[0] and width >= _LEAST_HW[1]:
        height, width = height // 2, width // 2
        even = image[: 2 * height, : 2 * width]
        image = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    return image


def _channel_sums(image: np.ndarray) -> tuple[_Channels, _Channels]:
    """Return the sums of the values and of their squares for each channel, exact.

    Planes of a strip that stays in the processor's cache take half the time of the whole image.
    """
    sums, square_sums = [0, 0, 0], [0, 0, 0]
    step = max(1, _STRIP_PX // image.shape[1])
    for top in range(0, image.shape[0], step):
        for channel, plane in enumerate(cv2.split(image[top : top + step])):
            mean, deviation = (float(result[0, 0]) for result in cv2.meanStdDev(plane))
            # OpenCV sums integers and divides at the end; rounding takes that back.
            sums[channel] += round(mean * plane.size)
            square_sums[channel] += round((deviation**2 + mean**2) * plane.size)
    return (sums[0], sums[1], sums[2]), (square_sums[0], square_sums[1], square_sums[2])


def _count_instances(stored: np.ndarray, values: np.ndarray, path: Path) -> np.ndarray:
    """Count the instance ids above 0 within each stored value, ``(K,)`` int64."""
    ids = decode(path, read_file(path), cv2.IMREAD_UNCHANGED)
    if ids.shape != stored.shape:
        raise DatasetError(f'{path}: got shape {ids.shape}, expected {stored.shape} as the labels')
    marked = ids > 0
    place = np.searchsorted(values, stored[marked])
    pairs = np.unique(place.astype(np.int64) << 32 | ids[marked])
    return np.bincount(pairs >> 32, minlength=len(values))
