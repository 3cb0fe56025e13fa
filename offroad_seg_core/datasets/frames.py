"""Frames with their labels, as files on disk."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import Literal

import numpy as np

from offroad_seg_core.datasets.masks import DatasetError, MaskReader, read_image
from offroad_seg_core.taxonomy import Taxonomy

Split = Literal['train', 'validation']

_READ_AHEAD = 32  # frames decoded at once while the cache is filled


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """The files of one frame, and the place it was recorded in.

    Attributes:
        image: The picture.
        label: Its label file; None if the frame has no labels.
        environment: Scenario or place; results are reported for each.
        instances: Mask of instance ids, where the dataset has one.
    """

    image: Path
    label: Path | None
    environment: str
    instances: Path | None = None

    @property
    def stem(self) -> str:
        """The name of the image without its suffix."""
        return self.image.stem


class FrameSet:
    """Frames in a fixed order. Nothing is opened before it is read.

    Args:
        files: One entry a frame.
        taxonomy: What the ids of the label maps mean.
        reader: Reads the label files as label maps of ``taxonomy``; a sequence has one a frame.
        origin: Where the frames are from, for errors.
        weights: How often each frame is wanted, relative to the others, ``(N,)`` float64; all
            ones by default, other values where datasets are mixed, see ``mix_frames``.
    """

    def __init__(
        self,
        files: Sequence[FrameFiles],
        taxonomy: Taxonomy,
        reader: MaskReader | Sequence[MaskReader],
        origin: str,
        weights: np.ndarray | None = None,
    ) -> None:
        if not files:
            raise DatasetError(f'{origin}: no frames; expected pictures with labels there')
        self.files = tuple(files)
        self.taxonomy = taxonomy
        self.origin = origin
        self.weights = np.ones(len(files)) if weights is None else weights
        self._readers: tuple[MaskReader, ...] = (
            tuple(reader) if isinstance(reader, Sequence) else (reader,) * len(files)
        )
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.files)

    @property
    def reader(self) -> MaskReader:
        """What reads every label file.

        Raises:
            DatasetError: The frames are of several datasets, which have a reader each.
        """
        if len(set(map(id, self._readers))) > 1:
            raise DatasetError(
                f'{self.origin}: the labels are read in several ways; use reader_of(index)'
            )
        return self._readers[0]

    def reader_of(self, index: int) -> MaskReader:
        """Return what reads the label file of one frame."""
        return self._readers[index]

    def identity(self) -> str:
        """Return a hex digest of the files, as size and time tell them, and of their readers."""
        digest, readers = hashlib.sha256(), set()
        for files, reader in zip(self.files, self._readers, strict=True):
            present = (path for path in (files.image, files.label, files.instances) if path)
            stats = [path.stat() for path in present]
            digest.update(f'{files} {[(s.st_size, s.st_mtime_ns) for s in stats]}'.encode())
            if id(reader) not in readers:  # most often there is one for all
                digest.update(reader.identity().encode())
                readers.add(id(reader))
        return digest.hexdigest()

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the RGB image ``(H, W, 3)`` and the label map ``(H, W)``, both uint8.

        Raises:
            DatasetError: A file cannot be read, the frame has no label, or the two sizes differ.
        """
        if index in self._cache:
            return self._cache[index]
        files = self.files[index]
        if files.label is None:
            raise DatasetError(f'{files.image}: has no label; leave unlabelled frames out here')
        image = read_image(files.image)
        label_map = self.reader_of(index).read(files.label)
        if image.shape[:2] != label_map.shape:
            raise DatasetError(
                f'{files.label}: size {label_map.shape}, but the image {files.image.name} has '
                f'{image.shape[:2]}; expected the same'
            )
        return image, label_map

    def subset(self, indices: Sequence[int] | np.ndarray) -> FrameSet:
        """Return some of the frames, in the given order, with the weights they have here."""
        files = [self.files[index] for index in indices]
        readers = [self._readers[index] for index in indices]
        weights = self.weights[np.asarray(indices, np.intp)]
        return FrameSet(files, self.taxonomy, readers, self.origin, weights)

    def cache(self, max_gb: float) -> int:
        """Keep decoded frames in memory, at most ``max_gb``; return how many.

        Call it before data-loader workers fork: they share the memory.
        """
        room = int(max_gb * 1e9)
        self._cache = {}
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self) if room else 0, _READ_AHEAD):
                batch = range(start, min(start + _READ_AHEAD, len(self)))
                for index, frame in zip(batch, pool.map(self.read, batch), strict=True):
                    room -= sum(array.nbytes for array in frame)
                    if room < 0:
                        return len(self._cache)
                    self._cache[index] = frame
        return len(self._cache)

    def pixel_counts(self, step: int = 4) -> np.ndarray:
        """Count the pixels of each class on every ``step``-th row and column, ``(C,)`` int64."""
        counts = np.zeros(256, np.int64)
        for index in range(len(self)):
            counts += np.bincount(self.read(index)[1][::step, ::step].ravel(), minlength=256)
        return counts[: self.taxonomy.num_classes]


def mix_frames(sets: Sequence[FrameSet], shares: Sequence[float], origin: str) -> FrameSet:
    """Put frames of several sets, all of one taxonomy, into one.

    Args:
        sets: In the order of the result.
        shares: How much of the drawn frames each set should be, whatever its size; any positive
            scale.
        origin: Where the frames are from, for errors.

    Returns:
        The frames, with weights whose sum over a set is its share of their sum N.
    """
    files = [item for part in sets for item in part.files]
    readers = [reader for part in sets for reader in part._readers]
    scale = len(files) / sum(shares)
    weights = [
        part.weights * (scale * share / part.weights.sum())
        for part, share in zip(sets, shares, strict=True)
    ]
    return FrameSet(files, sets[0].taxonomy, readers, origin, np.concatenate(weights))
