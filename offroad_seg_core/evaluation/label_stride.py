"""How coarse the labels of a fused graph may be: what the argmax at each stride costs.

An argmax at the logits' own size is the cheapest, and its labels are blocks of so many pixels.
After upsampling the logits in the graph the blocks are smaller, and at stride 1 nothing is lost.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import EngineOutput, create_engine
from offroad_seg_core.inference.preprocess import Geometry, Preprocessor, restore
from offroad_seg_core.metrics.boundary import BoundaryCounts
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix


@dataclass(frozen=True, config=STRICT)
class LabelStrideLimits:
    """What coarse labels may cost, as shares of 1: 0.01 is one point.

    Attributes:
        max_miou_loss: Of mean IoU over the classes in the truth.
        max_boundary_f1_loss: Of mean boundary F1, see BoundaryScores.
    """

    max_miou_loss: float = Field(default=0.003, ge=0)
    max_boundary_f1_loss: float = Field(default=0.01, ge=0)


class _Tally:
    """Scores of labels of one stride."""

    def __init__(self, size: tuple[int, int], stride: int, num_classes: int) -> None:
        self.decoder = Decoder((size[0] // stride, size[1] // stride))
        self.matrix = ConfusionMatrix(num_classes)
        self.boundary = BoundaryCounts(num_classes)

    def scores(self) -> dict[str, float]:
        return {
            'miou_present': self.matrix.miou_present,
            'boundary_f1': self.boundary.scores().mean_f1,
        }


def choose_label_stride(
    bundle: Bundle,
    frames: FrameSet,
    limits: LabelStrideLimits,
    num_threads: int = 0,
) -> tuple[int, dict[str, Any]]:
    """Return the coarsest stride of labels within the limits, and what each stride costs.

    Strides are the divisors of the logits' own, down to 1, which costs nothing. They are
    measured with ONNX Runtime in float32, against labels decoded from the logits.

    Args:
        bundle: Gives logits.
        frames: Labelled, in the bundle's classes.
        limits: What the labels may cost.
        num_threads: Of the engine; 0 leaves them to it.

    Returns:
        The stride, and plain values for the manifest: number of frames, limits, and for each
        stride mIoU, boundary F1 and what is lost of them.
    """
    spec, stride = bundle.manifest.input, bundle.manifest.outputs.stride
    num_classes = bundle.taxonomy.num_classes
    strides = [entry for entry in range(stride, 0, -1) if stride % entry == 0]
    tallies = {entry: _Tally(spec.size, entry, num_classes) for entry in strides}
    engine = create_engine(bundle, 'onnxruntime', 'fp32', num_threads)
    preprocessor, upscale = Preprocessor(spec), Decoder(spec.size)
    for index in range(len(frames)):
        image, target = frames.read(index)
        geometry = Geometry.fit(image.shape[:2], 0, spec)
        output = engine.run(preprocessor.prepare(image, 'rgb', geometry))
        for tally in tallies.values():
            labels = tally.decoder.label_map(output, range(num_classes))
            large = upscale.label_map(EngineOutput(label_map=labels[np.newaxis]), ())
            label_map = restore(large, geometry, target.shape, cv2.INTER_NEAREST_EXACT)
            tally.matrix.update(label_map, target)
            tally.boundary.update(label_map, target)
    engine.close()
    return _coarsest({entry: tally.scores() for entry, tally in tallies.items()}, limits, frames)


def _coarsest(
    scores: dict[int, dict[str, float]], limits: LabelStrideLimits, frames: FrameSet
) -> tuple[int, dict[str, Any]]:
    exact = scores[1]
    losses = {
        stride: {f'{name}_loss': exact[name] - value for name, value in entry.items()}
        for stride, entry in scores.items()
    }
    chosen = next(
        stride
        for stride, loss in losses.items()  # the coarsest first
        if stride == 1
        or (
            loss['miou_present_loss'] <= limits.max_miou_loss
            and loss['boundary_f1_loss'] <= limits.max_boundary_f1_loss
        )
    )
    report = {
        'label_stride': chosen,
        'num_frames': len(frames),
        'limits': asdict(limits),
        'strides': {str(stride): {**scores[stride], **losses[stride]} for stride in scores},
    }
    return chosen, report
