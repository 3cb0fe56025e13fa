"""One confusion matrix over a whole set of images, and the scores that come from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from offroad_seg_core.files import atomic_path
from offroad_seg_core.taxonomy import IGNORE_INDEX

FORMAT_VERSION = 1


class ConfusionMatrix:
    """Pixel counts of (true class, predicted class) pairs, summed over any number of images.

    Attributes:
        counts: (num_classes, num_classes + 1) int64. Rows are true classes; the last column
            counts pixels of a true class that were predicted IGNORE_INDEX (unlabeled).
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORE_INDEX:
            fix = f'{IGNORE_INDEX} is kept for void pixels'
            raise ValueError(f'num_classes: got {num_classes}; expected 1 to 255; {fix}')
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)

    @property
    def num_classes(self) -> int:
        """Number of classes, IGNORE_INDEX not counted."""
        return self.counts.shape[0]

    def update(self, label_map: np.ndarray, target: np.ndarray) -> None:
        """Add one image, or a batch.

        Args:
            label_map: Predicted class ids, uint8, any shape; IGNORE_INDEX counts as a miss of the
                true class.
            target: True class ids, uint8, the same shape; IGNORE_INDEX pixels count nowhere.

        Raises:
            ValueError: Shapes or types differ, or an id is neither a class nor IGNORE_INDEX.
        """
        for name, array in (('label_map', label_map), ('target', target)):
            if array.dtype != np.uint8 or array.shape != target.shape:
                got = f'{array.shape} {array.dtype}'
                expected = f'{target.shape} uint8'
                raise ValueError(f'{name}: got {got}; expected {expected}; convert or resize it')
        # Both ids in one 16-bit number: a single pass counts every pair, without masks.
        pairs = (target.astype(np.uint16) << 8) | label_map
        joint = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
        n = self.num_classes
        self._refuse_unknown('target', joint.sum(axis=1))
        self._refuse_unknown('label_map', joint.sum(axis=0))
        self.counts[:, :n] += joint[:n, :n]
        self.counts[:, n] += joint[:n, IGNORE_INDEX]

    def merge(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Return the matrix of both sets together."""
        if other.num_classes != self.num_classes:
            got = f'{self.num_classes} and {other.num_classes} classes'
            raise ValueError(f'merge: got {got}; expected equal taxonomies; map the labels first')
        merged = ConfusionMatrix(self.num_classes)
        merged.counts = self.counts + other.counts
        return merged

    @property
    def num_pixels(self) -> int:
        """Number of pixels with a true class."""
        return int(self.counts.sum())

    @property
    def true_pixels(self) -> np.ndarray:
        """Pixels of each true class, (num_classes,) int64."""
        return self.counts.sum(axis=1)

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels with a true class that were predicted right; nan without any."""
        total = self.num_pixels
        return float(np.trace(self.counts)) / total if total else float('nan')

    def iou(self) -> np.ndarray:
        """Return intersection over union of each class, (num_classes,) float64.

        nan for a class that occurs neither in the truth nor in the predictions.
        """
        n = self.num_classes
        intersection = np.diagonal(self.counts).astype(np.float64)
        union = self.true_pixels + self.counts[:, :n].sum(axis=0) - intersection
        return np.divide(intersection, union, out=np.full(n, np.nan), where=union > 0)

    @property
    def miou(self) -> float:
        """Mean IoU of the classes that occur in the truth or in the predictions.

        A class that is only ever predicted wrongly counts as 0. nan when no class occurs.
        """
        return _mean(self.iou(), ~np.isnan(self.iou()))

    @property
    def miou_present(self) -> float:
        """Mean IoU of the classes that occur in the truth; nan when none does.

        Never below ``miou``: classes that were invented are left out. Report both.
        """
        return _mean(self.iou(), self.true_pixels > 0)

    def save(self, path: str | Path) -> None:
        """Write the counts as JSON; readers see the old file or the new one, never a part."""
        content = {'format_version': FORMAT_VERSION, 'counts': self.counts.tolist()}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content), encoding='utf-8')

    @classmethod
    def load(cls, path: str | Path) -> ConfusionMatrix:
        """Read what save wrote.

        Raises:
            ValueError: Another file, another format version, or counts that cannot be.
        """
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8'))
        except ValueError as error:  # not JSON, or not even text
            raise ValueError(f'{path}: got {error}; expected JSON; save it anew') from error
        version = content.get('format_version') if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            expected = f'format_version {FORMAT_VERSION}'
            raise ValueError(f'{path}: got {version}; expected {expected}; save it anew')
        return cls._from_counts(content.get('counts'), path)

    @classmethod
    def _from_counts(cls, rows: Any, path: str | Path) -> ConfusionMatrix:
        expected = 'N rows of N + 1 whole numbers >= 0'
        is_table = isinstance(rows, list) and all(
            isinstance(row, list) and len(row) == len(rows) + 1 for row in rows
        )
        if not is_table or not rows or not all(type(n) is int and n >= 0 for r in rows for n in r):
            raise ValueError(f'{path}: got other counts; expected {expected}; save it anew')
        matrix = cls(len(rows))
        matrix.counts = np.array(rows, np.int64)
        return matrix

    def _refuse_unknown(self, name: str, pixels: np.ndarray) -> None:
        """Refuse ids between num_classes and 254; ``pixels`` counts each id, (256,)."""
        unknown = pixels[self.num_classes : IGNORE_INDEX].nonzero()[0] + self.num_classes
        if unknown.size:
            got = ', '.join(f'{value} ({pixels[value]} px)' for value in unknown[:12])
            expected = f'0 to {self.num_classes - 1} or {IGNORE_INDEX}'
            fix = 'map the labels to this taxonomy first'
            raise ValueError(f'{name}: got ids {got}; expected {expected}; {fix}')


def _mean(values: np.ndarray, mask: np.ndarray) -> float:
    return float(values[mask].mean()) if mask.any() else float('nan')
