"""Test-time augmentation: several views of one frame, their probabilities averaged.

Views are made from the network's input batch, so that they map onto one another exactly.
`auto` adds views while their measured cost still fits the deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.decode import softmax


@dataclass(frozen=True)
class View:
    """One look at the frame."""

    scale: float = 1.0
    flip: bool = False


_FLIP = (View(), View(flip=True))
_FLIP_SCALES = (*_FLIP, View(0.75), View(0.75, True), View(1.25), View(1.25, True))
TTA_VIEWS: dict[str, tuple[View, ...]] = {
    'off': (View(),),
    'flip': _FLIP,
    'flip_scales': _FLIP_SCALES,
    'auto': _FLIP_SCALES,
}
"""Mode → views in the order in which `auto` adds them."""


def scaled_size(size: tuple[int, int], scale: float, stride: int) -> tuple[int, int]:
    """Return a (height, width) times scale, rounded to multiples of stride."""
    return (
        max(1, round(size[0] * scale / stride)) * stride,
        max(1, round(size[1] * scale / stride)) * stride,
    )


def make_view(images: NDArray[np.uint8], view: View, stride: int) -> NDArray[np.uint8]:
    """Return a view ``(1, H', W', 3)`` uint8 of the batch ``(1, H, W, 3)``."""
    image = images[0]
    size = scaled_size(image.shape[:2], view.scale, stride)
    if size != image.shape[:2]:
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    if view.flip:
        image = cv2.flip(image, 1)
    return image[np.newaxis]


class ViewMerger:
    """Averages the views' probabilities at the first view's resolution."""

    def __init__(self) -> None:
        self._first: NDArray[np.float32] | None = None
        self._sum: NDArray[np.float32] | None = None
        self.count = 0

    def add(self, logits: NDArray[np.float32], view: View) -> None:
        """Add one view's logits ``(C, h, w)``; the first must be the unscaled, unflipped one."""
        self.count += 1
        if self._first is None:
            self._first = logits.copy()  # the engine overwrites its output in the next pass
            return
        if self._sum is None:
            self._sum = softmax(self._first)
        probs = softmax(logits)
        if view.flip:
            probs = probs[:, :, ::-1]
        height, width = self._sum.shape[1:]
        if probs.shape[1:] != (height, width):
            probs = np.stack(
                [cv2.resize(np.ascontiguousarray(plane), (width, height)) for plane in probs]
            )
        self._sum += probs

    def logits(self) -> NDArray[np.float32]:
        """Return the merged logits: those of the only view, or the log of the mean probability."""
        if self._first is None:
            raise ValueError('no view was added')
        if self._sum is None:
            return self._first
        return np.log(np.maximum(self._sum / self.count, 1e-12))


class ViewRunner:
    """Runs the views of one frame and knows what each of them costs here."""

    def __init__(
        self, run: Callable[[NDArray[np.uint8]], NDArray[np.float32]], stride: int
    ) -> None:
        self._run = run
        self._stride = stride
        self._cost_ms: dict[View, float] = {}

    def __call__(
        self, images: NDArray[np.uint8], mode: str, remaining_ms: float
    ) -> tuple[NDArray[np.float32], int]:
        """Return the merged logits ``(C, h, w)`` and the number of passes.

        Args:
            images: ``(1, H, W, 3)`` uint8.
            mode: a key of TTA_VIEWS.
            remaining_ms: what is left until the frame's deadline; only `auto` looks at it.
        """
        started = time.perf_counter()
        views = TTA_VIEWS[mode]
        if len(views) == 1:
            return self._run(images)[0], 1
        merger = ViewMerger()
        for view in views:
            spent_ms = (time.perf_counter() - started) * 1e3
            late = spent_ms + self._expected_ms(view) > remaining_ms
            if mode == 'auto' and merger.count and late:
                self._forgive(view)
                break
            before = time.perf_counter()
            merger.add(self._run(make_view(images, view, self._stride))[0], view)
            self._note(view, (time.perf_counter() - before) * 1e3)
        return merger.logits(), merger.count

    def _note(self, view: View, cost_ms: float) -> None:
        # A burst counts at once, a recovery slowly.
        known = self._cost_ms.get(view, cost_ms)
        self._cost_ms[view] = max(cost_ms, 0.8 * known + 0.2 * cost_ms)

    def _forgive(self, view: View) -> None:
        # A view that is left out is not measured again: without this, one hiccup would switch
        # it off for good.
        if view in self._cost_ms:
            self._cost_ms[view] *= 0.95

    def _expected_ms(self, view: View) -> float:
        if view in self._cost_ms:
            return self._cost_ms[view]
        base = self._cost_ms.get(View(), 0.0)
        return 1.2 * base * view.scale**2
