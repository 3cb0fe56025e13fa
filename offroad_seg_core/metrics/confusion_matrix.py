"""One confusion matrix over a whole set of images, and the IoU that comes from it."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from offroad_seg_core.files import atomic_path
from offroad_seg_core.metrics.arithmetic import divide, mean_of, share
from offroad_seg_core.metrics.counting import count_pairs, refuse_unknown, require_label_maps
from offroad_seg_core.taxonomy import IGNORE_INDEX

FORMAT_VERSION = 1

MeanRule = Literal['present', 'occurring', 'all_absent_0', 'all_absent_1']

# Published figures follow different ones of these rules, and no two can be compared: state the
# rule beside the figure. A class that is absent from the truth but predicted has an IoU of 0.
MEAN_RULES: Mapping[MeanRule, str] = {
    'present': 'over the classes that occur in the truth',
    'occurring': 'over the classes that occur in the truth or in the prediction',
    'all_absent_0': 'over all classes, one that occurs in neither counts 0',
    'all_absent_1': 'over all classes, one that occurs in neither counts 1',
}


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
        require_label_maps(label_map, target)
        self.add_pairs(count_pairs(target, label_map))

    def add_pairs(self, joint: np.ndarray) -> None:
        """Add what count_pairs counted of targets and label maps.

        Args:
            joint: Pixels of each (true id, predicted id), (256, 256) int64.

        Raises:
            ValueError: An id is neither a class nor IGNORE_INDEX.
        """
        n = self.num_classes
        refuse_unknown('target', joint.sum(axis=1), n)
        refuse_unknown('label_map', joint.sum(axis=0), n)
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

    def merge_classes(self, groups: np.ndarray, num_groups: int) -> ConfusionMatrix:
        """Return the matrix of coarser classes.

        Args:
            groups: Group of each class, (num_classes,) whole numbers from 0 to num_groups - 1.
            num_groups: How many groups there are.
        """
        merged = ConfusionMatrix(num_groups)
        columns = np.append(groups, num_groups)  # unlabeled stays unlabeled
        np.add.at(merged.counts, (groups[:, None], columns[None]), self.counts)
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
    def predicted_pixels(self) -> np.ndarray:
        """Pixels with a true class that were predicted as each class, (num_classes,) int64."""
        return self.counts[:, :-1].sum(axis=0)

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels with a true class that were predicted right; nan without any."""
        return share(np.trace(self.counts), self.num_pixels)

    def iou(self) -> np.ndarray:
        """Return intersection over union of each class, (num_classes,) float64.

        nan for a class that occurs neither in the truth nor in the predictions.
        """
        hits = np.diagonal(self.counts)
        return divide(hits, self.true_pixels + self.predicted_pixels - hits)

    def mean_iou(self, rule: MeanRule) -> float:
        """Return the mean IoU of the classes; nan when none that the rule averages occurs.

        Args:
            rule: A key of MEAN_RULES, which says what each one averages.

        Raises:
            ValueError: There is no such rule.
        """
        if rule not in MEAN_RULES:
            raise ValueError(f'rule: got {rule!r}; expected one of {list(MEAN_RULES)}; choose one')
        iou = self.iou()
        if rule == 'present':
            return mean_of(iou, self.true_pixels > 0)
        if rule == 'occurring' or not self.num_pixels:
            return mean_of(iou, ~np.isnan(iou))
        return float(np.nan_to_num(iou, nan=1.0 if rule == 'all_absent_1' else 0.0).mean())

    @property
    def miou(self) -> float:
        """Mean IoU of the classes that occur in the truth or in the predictions.

        A class that is only ever predicted wrongly counts as 0. nan when no class occurs.
        """
        return self.mean_iou('occurring')

    @property
    def miou_present(self) -> float:
        """Mean IoU of the classes that occur in the truth; nan when none does.

        Never below ``miou``: classes that were invented are left out. Report both.
        """
        return self.mean_iou('present')

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
        return cls.from_counts(content.get('counts'), path)

    @classmethod
    def from_counts(cls, rows: Any, path: str | Path) -> ConfusionMatrix:
        """Return the matrix of counts as ``counts.tolist()`` gives them.

        Raises:
            ValueError: They are something else; names the file that they are from.
        """
        expected = 'N rows of N + 1 whole numbers >= 0'
        is_table = isinstance(rows, list) and all(
            isinstance(row, list) and len(row) == len(rows) + 1 for row in rows
        )
        if not is_table or not rows or not all(type(n) is int and n >= 0 for r in rows for n in r):
            raise ValueError(f'{path}: got other counts; expected {expected}; save it anew')
        matrix = cls(len(rows))
        matrix.counts = np.array(rows, np.int64)
        return matrix
