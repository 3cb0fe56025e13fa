"""Score predictions frame by frame; keep the best, the worst and some between as pictures."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection
from dataclasses import dataclass, field

import cv2
import numpy as np

from offroad_seg_core.evaluation.boundary_errors import BoundaryErrors
from offroad_seg_core.evaluation.predictors import Prediction
from offroad_seg_core.metrics.boundary import BoundaryCounts
from offroad_seg_core.metrics.calibration import CalibrationCounts
from offroad_seg_core.metrics.class_scores import micro_iou
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.taxonomy import IGNORE_INDEX

TILE_WIDTH_PX = 420


@dataclass(frozen=True)
class FrameScore:
    """How one frame was segmented.

    Attributes:
        name: Of the picture.
        environment: Its place.
        miou: Mean IoU of the classes in the frame's truth; nan without labels.
        micro_iou: See ``metrics.class_scores.micro_iou``; nan without labels.
        accuracy: Share of its labelled pixels that are right; nan without labels.
    """

    name: str
    environment: str
    miou: float
    micro_iou: float
    accuracy: float


@dataclass(frozen=True)
class FramePicture:
    """A frame in small.

    Attributes:
        score: Of the frame.
        image: ``(h, w, 3)`` uint8 RGB.
        target: ``(h, w)`` uint8 class ids or 255.
        label_map: The prediction, likewise.
        wrong: Share of each small pixel that is wrong, ``(h, w)`` float32, 0 to 1.
    """

    score: FrameScore
    image: np.ndarray
    target: np.ndarray
    label_map: np.ndarray
    wrong: np.ndarray


@dataclass
class FrameScores:
    """Sums over all frames, and pictures of few: memory does not grow with their pixels.

    Attributes:
        num_classes: Of the taxonomy.
        gallery_indices: Frames that are kept as pictures, whatever their score.
        num_available: Frames of the set that the scored ones were chosen from; 0 if unknown.
        num_extremes: How many of the best and of the worst are kept.
        frames: Every frame, in order.
        matrices: Environment -> counts.
        border: Errors by their distance to class borders.
        boundary: Edges of classes that match, see ``metrics.boundary``.
        calibration: How often each confidence was right, see ``metrics.calibration``.
        gallery: Pictures of ``gallery_indices``.
    """

    num_classes: int
    gallery_indices: Collection[int] = ()
    num_available: int = 0
    num_extremes: int = 5
    frames: list[FrameScore] = field(default_factory=list)
    matrices: dict[str, ConfusionMatrix] = field(default_factory=dict)
    border: BoundaryErrors = field(default_factory=BoundaryErrors)
    boundary: BoundaryCounts = field(init=False)
    calibration: CalibrationCounts = field(init=False)
    gallery: list[FramePicture] = field(default_factory=list)
    _ranked: dict[int, list[tuple[float, int, FramePicture]]] = field(
        default_factory=lambda: {-1: [], 1: []}
    )

    def __post_init__(self) -> None:
        self.boundary = BoundaryCounts(self.num_classes)
        self.calibration = CalibrationCounts(self.num_classes)

    @property
    def best(self) -> list[FramePicture]:
        """The best frames, best first; equal scores in the order of the frames."""
        return [picture for _, _, picture in self._ranked[-1]]

    @property
    def worst(self) -> list[FramePicture]:
        """The worst frames, worst first."""
        return [picture for _, _, picture in self._ranked[1]]

    def add(
        self,
        name: str,
        environment: str,
        image: np.ndarray,
        prediction: Prediction,
        target: np.ndarray,
    ) -> None:
        """Score one frame.

        Args:
            name: Of the picture.
            environment: Its place.
            image: ``(h, w, 3)`` uint8 RGB, of any size.
            prediction: For each pixel of ``target``.
            target: True class ids or 255, ``(H, W)`` uint8.
        """
        label_map = prediction.label_map
        matrix = ConfusionMatrix(self.num_classes)
        matrix.update(label_map, target)
        total = self.matrices.setdefault(environment, ConfusionMatrix(self.num_classes))
        total.counts += matrix.counts
        self.border.update(label_map, target)
        self.boundary.update(label_map, target)
        if prediction.confidence is not None:
            self.calibration.update(prediction.confidence, label_map, target)
        means = (matrix.miou_present, micro_iou(matrix), matrix.pixel_accuracy)
        score = FrameScore(name, environment, *means)
        index = len(self.frames)
        self.frames.append(score)
        ranks = [sign for sign in (-1, 1) if self._is_extreme(sign, score.miou)]
        if not ranks and index not in self.gallery_indices:
            return
        picture = _picture(score, image, label_map, target)
        if index in self.gallery_indices:
            self.gallery.append(picture)
        for sign in ranks:
            # The index is unique, so that pictures are never compared.
            insort(self._ranked[sign], (sign * score.miou, index, picture))
            del self._ranked[sign][self.num_extremes :]

    def _is_extreme(self, sign: int, miou: float) -> bool:
        ranked = self._ranked[sign]
        if np.isnan(miou):
            return False
        return len(ranked) < self.num_extremes or sign * miou < ranked[-1][0]


def _picture(
    score: FrameScore, image: np.ndarray, label_map: np.ndarray, target: np.ndarray
) -> FramePicture:
    height, width = target.shape
    small_wh = (TILE_WIDTH_PX, max(1, round(TILE_WIDTH_PX * height / width)))
    wrong = ((label_map != target) & (target != IGNORE_INDEX)).astype(np.float32)
    return FramePicture(
        score,
        cv2.resize(image, small_wh, interpolation=cv2.INTER_AREA),
        cv2.resize(target, small_wh, interpolation=cv2.INTER_NEAREST),
        cv2.resize(label_map, small_wh, interpolation=cv2.INTER_NEAREST),
        cv2.resize(wrong, small_wh, interpolation=cv2.INTER_AREA),
    )
