"""IoU of each image by itself, and its mean over images."""

from __future__ import annotations

from dataclasses import dataclass
import math

from offroad_seg_core.metrics.class_scores import micro_iou
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix


@dataclass(frozen=True)
class ImageScore:
    """Scores of one image.

    Attributes:
        frame: What the caller named it.
        micro_iou: See class_scores.micro_iou; nan when all of the truth is void.
        miou_present: Mean IoU of the classes that occur in this image's truth.
    """

    frame: str
    micro_iou: float
    miou_present: float


class ImageScores:
    """Scores of any number of images; about 200 bytes an image.

    Attributes:
        images: In the order in which they came.
    """

    def __init__(self, images: tuple[ImageScore, ...] = ()) -> None:
        self.images = list(images)

    def update(self, matrix: ConfusionMatrix, frame: str = '') -> None:
        """Add the image whose pixels, and no others, ``matrix`` has counted."""
        self.images.append(ImageScore(frame, micro_iou(matrix), matrix.miou_present))

    def merge(self, other: ImageScores) -> ImageScores:
        """Return the scores of both sets together."""
        return ImageScores((*self.images, *other.images))

    @property
    def num_scored(self) -> int:
        """Number of images with a pixel that has a true class; the means are over these."""
        return sum(not math.isnan(image.micro_iou) for image in self.images)

    @property
    def mean_micro_iou(self) -> float:
        """Mean over images of each image's micro IoU, every image of equal weight.

        It is the reduction ``'micro-imagewise'`` of segmentation_models_pytorch.metrics
        (functional.py): TP, FP and FN summed over classes within an image, one score an image,
        their mean. That library counts an image that is void all over as 1 (its
        ``zero_division``); here it is left out.
        """
        return _mean([image.micro_iou for image in self.images])

    @property
    def mean_miou_present(self) -> float:
        """Mean over images of each image's mean IoU over the classes of its own truth.

        Not the set's mean IoU: a class counts as often as there are images that show it.
        """
        return _mean([image.miou_present for image in self.images])

    def ranked(self) -> list[ImageScore]:
        """Return the scored images from the worst micro IoU to the best."""
        scored = [image for image in self.images if not math.isnan(image.micro_iou)]
        return sorted(scored, key=lambda image: (image.micro_iou, image.frame))


def _mean(values: list[float]) -> float:
    # fsum rounds once, at the end: no order of the images changes the result.
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
