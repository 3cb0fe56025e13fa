"""A teacher's answer to one frame: probabilities of every class at every pixel, in little space.

Of each pixel the most likely classes are kept with their probabilities, and what is left for all
others together, which share it evenly. A pixel whose probabilities are all 0 is one that the
teacher says nothing about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
import zipfile
import zlib

import cv2
import numpy as np

from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.files import atomic_path
from offroad_seg_core.taxonomy import IGNORE_INDEX

Storage = Literal['uint8', 'float16']


@dataclass(frozen=True)
class ClassSet:
    """Which classes there are, and which of them the teachers can name.

    Attributes:
        num_classes: C, of the student.
        known: Ids that the teachers can name, ascending.
    """

    num_classes: int
    known: tuple[int, ...]

    @property
    def mask(self) -> np.ndarray:
        """The known classes, ``(C,)`` bool."""
        mask = np.zeros(self.num_classes, bool)
        mask[list(self.known)] = True
        return mask


@dataclass(frozen=True)
class SoftLabels:
    """The answer to one frame, as it is stored.

    Attributes:
        top: Ids of the most likely classes, the likeliest first, ``(k, h, w)`` uint8.
        values: Their probabilities and, last, that of all others, ``(k + 1, h, w)``: float16, or
            uint8 where q stands for (q / 255)²: probabilities down to 4e-6 differ from 0, as
            softened ones need it, and likely ones are exact to 0.4 %.
        frame_size: (height, width) of the frame, all of which ``(h, w)`` covers.
        classes: What the ids mean.
    """

    top: np.ndarray
    values: np.ndarray
    frame_size: tuple[int, int]
    classes: ClassSet

    @classmethod
    def of(
        cls,
        probs: np.ndarray,
        frame_size: tuple[int, int],
        classes: ClassSet,
        top_k: int,
        storage: Storage,
    ) -> SoftLabels:
        """Reduce probabilities, ``(C, h, w)`` float of sum 1 or 0, to what is stored.

        Classes that are not known must have the probability 0.
        """
        ids = np.array(classes.known, np.uint8)
        count = min(top_k, len(ids))
        known = probs[ids]
        order = np.argsort(-known, axis=0, kind='stable')[:count]
        kept = np.take_along_axis(known, order, axis=0)
        rest = known.sum(axis=0) - kept.sum(axis=0) if count < len(ids) else np.zeros_like(kept[0])
        values: np.ndarray = np.concatenate([kept, rest[np.newaxis].clip(min=0)])
        if storage == 'uint8':
            stored = np.rint(255 * np.sqrt(values.clip(max=1))).astype(np.uint8)
        else:
            stored = values.astype(np.float16)
        return cls(ids[order], stored, frame_size, classes)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what is stored."""
        height, width = self.top.shape[1:]
        return height, width

    def pixels(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the probabilities of pixels, ``(P, C)`` float32 of sum 1 or 0.

        Args:
            rows: ``(P,)`` integers.
            columns: ``(P,)`` integers.
        """
        values = self.values[:, rows, columns].T.astype(np.float32)
        if self.values.dtype == np.uint8:
            values = np.square(values / 255)
        *_, rest = values.T
        others = len(self.classes.known) - len(self.top)
        probs = np.zeros((len(rows), self.classes.num_classes), np.float32)
        if others:
            probs[:, self.classes.known] = rest[:, np.newaxis] / others
        np.put_along_axis(probs, self.top[:, rows, columns].T.astype(np.intp), values[:, :-1], 1)
        total = probs.sum(axis=1, keepdims=True)
        return np.divide(probs, total, out=probs, where=total > 0)

    def dense(self) -> np.ndarray:
        """Return the probabilities of all pixels, ``(C, h, w)`` float32."""
        rows, columns = np.indices(self.size)
        probs = self.pixels(rows.ravel(), columns.ravel())
        return probs.T.reshape(self.classes.num_classes, *self.size)

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the probabilities at places of the frame, ``(P, C)`` float32, bilinearly.

        Args:
            x: ``(P,)`` columns in pixels of the frame, any real numbers within it.
            y: ``(P,)`` rows.
        """
        probs = np.zeros((len(x), self.classes.num_classes), np.float32)
        height, width = self.size
        # Pixels are areas: the middle of the first one lies half a pixel from the rim.
        column = (x + 0.5) * (width / self.frame_size[1]) - 0.5
        row = (y + 0.5) * (height / self.frame_size[0]) - 0.5
        left, top = np.floor(column), np.floor(row)
        for columns, weight_x in ((left, left + 1 - column), (left + 1, column - left)):
            for rows, weight_y in ((top, top + 1 - row), (top + 1, row - top)):
                found = self.pixels(
                    rows.clip(0, height - 1).astype(np.intp),
                    columns.clip(0, width - 1).astype(np.intp),
                )
                probs += (weight_x * weight_y).astype(np.float32)[:, np.newaxis] * found
        return probs

    def label_map(self, confidence: float) -> np.ndarray:
        """Return the likeliest class at the size of the frame, ``(H, W)`` uint8.

        Pixels are 255 where its probability, interpolated bilinearly, is below ``confidence``
        or 0.
        """
        height, width = self.frame_size
        best = np.zeros(self.frame_size, np.float32)
        labels = np.full(self.frame_size, IGNORE_INDEX, np.uint8)
        for class_id, plane in enumerate(self.dense()):
            resized = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
            labels[resized > best] = class_id
            np.maximum(best, resized, out=best)
        labels[best < confidence] = IGNORE_INDEX
        return labels

    def write(self, path: Path) -> None:
        """Write a compressed ``.npz`` file, whole or not at all."""
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary, top=self.top, values=self.values, frame_size=self.frame_size
            )

    @classmethod
    def read(cls, path: Path, classes: ClassSet) -> SoftLabels:
        """Read what ``write`` has written.

        Raises:
            DatasetError: The file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                fields: dict[str, Any] = {name: content[name] for name in content.files}
            height, width = fields['frame_size'].tolist()
            return cls(fields['top'], fields['values'], (height, width), classes)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DatasetError(
                f'{path}: cannot be read as soft labels: {error}; delete the file and start '
                'again, so that the teachers make it anew'
            ) from error


class SoftLabelReader:
    """The answers that belong to views of frames.

    Args:
        paths: One file a frame, see ``SoftLabels.write``.
        classes: What is in them.
        stride: Pixels of a view that one pixel of the answer stands for in each direction.
    """

    def __init__(self, paths: Sequence[Path], classes: ClassSet, stride: int) -> None:
        self._paths = tuple(paths)
        self._classes = classes
        self._stride = stride

    def __call__(self, index: int, origins: np.ndarray) -> np.ndarray:
        """Return the answer at the middle of each block of ``stride`` x ``stride`` pixels.

        Args:
            index: Of the frame.
            origins: Where the pixels of the view lie in the frame, ``(H, W, 2)`` float (x, y);
                nan for nowhere. H and W are multiples of the stride.

        Returns:
            ``(H / stride, W / stride, C)`` float16; 0 where the teachers say nothing and where
            less than half of a block shows the frame.
        """
        places, shown = _block_means(origins, self._stride)
        height, width = shown.shape
        result = np.zeros((height, width, self._classes.num_classes), np.float16)
        if shown.any():
            labels = SoftLabels.read(self._paths[index], self._classes)
            result[shown] = labels.at(*places[shown].T)
        return result


def _block_means(origins: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean origin of each block, ``(h, w, 2)``, and where half a block has one."""
    height, width = (side // stride for side in origins.shape[:2])
    blocks = origins.astype(np.float64).reshape(height, stride, width, stride, 2)
    known = ~np.isnan(blocks[..., 0])
    count = known.sum(axis=(1, 3))
    total = np.where(known[..., np.newaxis], blocks, 0).sum(axis=(1, 3))
    return total / np.maximum(count, 1)[..., np.newaxis], 2 * count >= stride**2
