"""Frames with their labels, as files on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offroad_seg_core.datasets.masks import DatasetError, read_image
from offroad_seg_core.taxonomy import Taxonomy

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
LabelReader = Callable[[Path, Taxonomy], np.ndarray]


@dataclass(frozen=True)
class FrameFiles:
    """The two files of one frame, and the place it was recorded in."""

    image: Path
    label: Path
    environment: str

    @property
    def stem(self) -> str:
        """The name that image and label share."""
        return self.image.stem


class FrameSet:
    """Labelled frames in a fixed order.

    Args:
        files: One entry a frame.
        taxonomy: What the ids of the label maps mean.
        read_label: Reads a label file as ``(H, W)`` uint8 class ids.
        origin: Where the frames are from, for errors.
    """

    def __init__(
        self, files: Sequence[FrameFiles], taxonomy: Taxonomy, read_label: LabelReader, origin: str
    ) -> None:
        if not files:
            raise DatasetError(f'{origin}: no frames; expected pictures with labels there')
        self.files = tuple(files)
        self.taxonomy = taxonomy
        self._read_label = read_label
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the RGB image ``(H, W, 3)`` and the label map ``(H, W)``, both uint8.

        Raises:
            DatasetError: A file cannot be read, or the two sizes differ.
        """
        if index in self._cache:
            return self._cache[index]
        files = self.files[index]
        image, label_map = read_image(files.image), self._read_label(files.label, self.taxonomy)
        if image.shape[:2] != label_map.shape:
            raise DatasetError(
                f'{files.label}: size {label_map.shape}, but the image {files.image.name} has '
                f'{image.shape[:2]}; expected the same'
            )
        return image, label_map

    def cache(self, max_gb: float) -> int:
        """Keep decoded frames in memory, at most ``max_gb``; return how many.

        Call it before data-loader workers fork: they share the memory.
        """
        frame_bytes = sum(array.nbytes for array in self.read(0))
        count = min(len(self), int(max_gb * 1e9 // frame_bytes))
        with ThreadPoolExecutor() as pool:
            self._cache = dict(enumerate(pool.map(self.read, range(count))))
        return count

    def pixel_counts(self, step: int = 4) -> np.ndarray:
        """Count the pixels of each class on every ``step``-th row and column, ``(C,)`` int64."""
        counts = np.zeros(256, np.int64)
        for index in range(len(self)):
            counts += np.bincount(self.read(index)[1][::step, ::step].ravel(), minlength=256)
        return counts[: self.taxonomy.num_classes]


def pair_by_stem(
    images: Path, labels: Path, environment_of: Callable[[str], str]
) -> list[FrameFiles]:
    """Pair the pictures of one folder with the PNG label files of another.

    Args:
        images: Folder of .jpg, .jpeg or .png pictures.
        labels: Folder of .png label files with the same stems.
        environment_of: Names the environment of a stem.

    Raises:
        DatasetError: A folder is missing, or a file has no partner; up to 5 are named.
    """
    for folder in (images, labels):
        if not folder.is_dir():
            raise DatasetError(f'{folder}: no such folder')
    pictures = [path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    by_stem = {path.stem: path for path in pictures}
    if len(by_stem) != len(pictures):
        twice = sorted({a.stem for a in pictures if by_stem[a.stem] != a})
        raise DatasetError(f'{images}: two pictures share a stem: {_some(twice)}')
    masks = {path.stem: path for path in labels.glob('*.png')}
    problems = [
        f'{len(stems)} {what}: {_some(sorted(stems))}'
        for what, stems in (
            (f'pictures have no label in {labels}', by_stem.keys() - masks.keys()),
            (f'labels have no picture in {images}', masks.keys() - by_stem.keys()),
        )
        if stems
    ]
    if problems:
        raise DatasetError('; '.join(problems) + '; remove them or add their partners')
    return [
        FrameFiles(by_stem[stem], masks[stem], environment_of(stem)) for stem in sorted(by_stem)
    ]


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
