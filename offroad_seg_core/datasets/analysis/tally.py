"""Sums over a group of frames, exact and of constant size."""

from __future__ import annotations

import numpy as np

from offroad_seg_core.datasets.analysis.class_weights import ClassCounts
from offroad_seg_core.datasets.analysis.scan import FrameRecord
from offroad_seg_core.taxonomy import IGNORE_INDEX


class Tally:
    """The sums over one group of frames: an environment of a split, or several together.

    Attributes:
        num_frames: All frames, the broken ones included.
        num_labelled: Frames whose labels were counted.
        num_with_instances: Frames whose instances were counted.
        class_pixels: Pixels of each class, ``(C,)`` int64.
        class_frames: Frames with each class, ``(C,)`` int64.
        class_instances: Instances of each class, ``(C,)`` int64.
        present_pixels: Labelled pixels of the frames with each class, ``(C,)`` int64.
        ignored_pixels: Pixels that the taxonomy ignores.
        unknown_pixels: Pixels whose value means nothing.
        num_pixels: Pixels of the pictures that were read.
        rgb_sums: Sums of their values, ``(3,)`` Python integers, exact.
        rgb_square_sums: Sums of the squares.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_frames = self.num_labelled = self.num_with_instances = 0
        self.class_pixels = np.zeros(num_classes, np.int64)
        self.class_frames = np.zeros(num_classes, np.int64)
        self.class_instances = np.zeros(num_classes, np.int64)
        self.present_pixels = np.zeros(num_classes, np.int64)
        self.ignored_pixels = self.unknown_pixels = self.num_pixels = 0
        self.rgb_sums, self.rgb_square_sums = [0, 0, 0], [0, 0, 0]

    def add(self, record: FrameRecord) -> None:
        """Count a frame."""
        self.num_frames += 1
        if record.image is not None:
            self.num_pixels += record.image.size[0] * record.image.size[1]
            for channel in range(3):
                self.rgb_sums[channel] += record.image.sums[channel]
                self.rgb_square_sums[channel] += record.image.square_sums[channel]
        if record.label is not None and record.labels is not None:
            self._add_label(record.labels, record.label.counts, record.label.instances)

    def _add_label(
        self, labels: np.ndarray, counts: np.ndarray, instances: np.ndarray | None
    ) -> None:
        num_classes = len(self.class_pixels)
        # Several stored values may mean one class: row 0 unknown, 1 to 255 classes, 256 ignored.
        by_label = np.bincount(labels + 1, counts, IGNORE_INDEX + 2).astype(np.int64)
        pixels = by_label[1 : num_classes + 1]
        self.num_labelled += 1
        self.class_pixels += pixels
        self.class_frames += pixels > 0
        self.present_pixels += np.where(pixels > 0, pixels.sum(), 0)
        self.unknown_pixels += int(by_label[0])
        self.ignored_pixels += int(by_label[IGNORE_INDEX + 1])
        if instances is not None:
            self.num_with_instances += 1
            is_class = (labels >= 0) & (labels != IGNORE_INDEX)
            np.add.at(self.class_instances, labels[is_class], instances[is_class])

    def __iadd__(self, other: Tally) -> Tally:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(value, list):
                setattr(self, name, [a + b for a, b in zip(mine, value, strict=True)])
            else:
                setattr(self, name, mine + value)
        return self

    @property
    def counts(self) -> ClassCounts:
        """What class weights are computed from."""
        return ClassCounts(self.class_pixels, self.present_pixels)

    @property
    def shares(self) -> np.ndarray:
        """Share of each class in the labelled pixels, ``(C,)``; 0 if nothing is labelled."""
        return self.class_pixels / max(1, int(self.class_pixels.sum()))

    @property
    def mean_rgb(self) -> np.ndarray:
        """Mean over all pixels of all pictures, ``(3,)``, 0 to 255; NaN without pictures."""
        return np.array([_divide(total, self.num_pixels) for total in self.rgb_sums])

    @property
    def std_rgb(self) -> np.ndarray:
        """Standard deviation over all pixels of all pictures, ``(3,)``; NaN without pictures."""
        # In integers, because the difference of two large floats would lose the small variances.
        pairs = zip(self.rgb_sums, self.rgb_square_sums, strict=True)
        scaled = [self.num_pixels * squares - total**2 for total, squares in pairs]
        return np.sqrt([_divide(value, self.num_pixels**2) for value in scaled])


def _divide(total: int, number: int) -> float:
    return total / number if number else float('nan')
