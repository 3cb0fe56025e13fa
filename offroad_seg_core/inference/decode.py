"""From logits at the network's stride to label maps and confidences at its input size.

Logits are upsampled bilinearly class by class into a running maximum: the exact result of
upsampling first and taking the argmax, without ever holding C full-size planes
(10 classes at 512×896: 2 ms).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.engines.base import EngineOutput


class Decoder:
    """Keeps the scratch planes of one output size. Not thread-safe."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._wh = (size[1], size[0])
        self._plane = np.empty(size, np.float32)
        self._best = np.empty(size, np.float32)
        self._wins = np.empty(size, np.uint8)
        self._label_map = np.empty(size, np.uint8)

    def label_map(self, output: EngineOutput, classes: Sequence[int]) -> NDArray[np.uint8]:
        """Return the class with the highest upsampled logit, ``(H, W)`` uint8.

        Args:
            output: the first image's logits, or its labels (then the nearest one counts).
            classes: the ids that may win, ascending; ties go to the lower id. Of logits only.

        The result is a buffer that the next call overwrites.
        """
        if output.logits is None:
            assert output.label_map is not None  # one of both, by EngineOutput.of
            return cv2.resize(
                output.label_map[0], self._wh, dst=self._label_map,
                interpolation=cv2.INTER_NEAREST_EXACT,
            )  # fmt: skip
        logits = output.logits[0]
        best, plane, label_map = self._best, self._plane, self._label_map
        cv2.resize(logits[classes[0]], self._wh, dst=best, interpolation=cv2.INTER_LINEAR)
        label_map.fill(classes[0])
        for class_id in classes[1:]:
            cv2.resize(logits[class_id], self._wh, dst=plane, interpolation=cv2.INTER_LINEAR)
            cv2.compare(plane, best, cv2.CMP_GT, dst=self._wins)
            cv2.max(plane, best, dst=best)
            # Where it wins (255) take its id, which is above all before it. Unlike a masked copy
            # this costs the same for ragged borders.
            cv2.min(self._wins, class_id, dst=self._wins)
            cv2.max(label_map, self._wins, dst=label_map)
        return label_map

    def confidence_u8(self, output: EngineOutput, classes: Sequence[int]) -> NDArray[np.uint8]:
        """Return the highest probability, 0–255 for 0–1, ``(H, W)`` uint8.

        The softmax runs over ``classes`` at the logits' own size; its maximum is upsampled.

        Raises:
            ValueError: the graph ends in labels without their probability.
        """
        if output.logits is not None:
            logits = output.logits[0]
            considered = logits if len(classes) == len(logits) else logits[list(classes)]
            exponent = considered - considered.max(axis=0)
            confidence = 1.0 / np.exp(exponent, out=exponent).sum(axis=0)
        elif output.confidence is not None:
            confidence = output.confidence[0]
        else:
            raise ValueError('the model outputs labels without confidence')
        scaled = np.rint(confidence * 255.0).astype(np.uint8)
        return cv2.resize(scaled, self._wh, interpolation=cv2.INTER_LINEAR)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities over axis 0 of ``(C, h, w)`` logits."""
    exponent = np.exp(logits - logits.max(axis=0))
    return exponent / exponent.sum(axis=0)
