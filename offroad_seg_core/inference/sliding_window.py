"""A network's logits of a large image, computed window by window and blended.

Each window's logits are added, with their final weight, to those of the image at the network's
output stride: besides this sum only the windows of one batch exist at a time. Weights fall off
from a window's centre like a Gaussian, since a network knows least about what it sees at a border
(Isensee et al., "nnU-Net", Nature Methods 18, 2021), or are all equal.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
import yaml

from offroad_seg_core.config import STRICT, ConfigError, load_config
from offroad_seg_core.inference.engines.base import EngineError
from offroad_seg_core.inference.manifest import InputSpec

Blend = Literal['gaussian', 'uniform']
_SIGMA = 1 / 8  # of a window's side, as in nnU-Net


@dataclass(frozen=True, config=STRICT)
class SlidingWindow:
    """How a frame is cut into windows. All sizes are (height, width) in px.

    Attributes:
        window: Size of a window, such as the training's crop size; multiples of the network's
            stride. A model of one fixed input size takes windows of just that size.
        stride: From one window to the next; multiples of the network's stride. The last window of
            a row or column lies flush with the border.
        blend: Weights of overlapping windows.
        batch_size: Windows that the network sees at once.
        frame_size: What frames are fitted into before they are cut; None for the network's input
            size. Frames that are smaller than a window are padded.
    """

    window: tuple[int, int] = (896, 896)
    stride: tuple[int, int] = (384, 384)
    blend: Blend = 'gaussian'
    batch_size: int = Field(default=1, ge=1)
    frame_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check that windows leave no gap."""
        pairs = zip(self.stride, self.window, strict=True)
        if not all(1 <= stride <= window for stride, window in pairs):
            raise ValueError(
                f'got stride {self.stride} of windows {self.window}, expected 1 px up to a '
                'window: larger steps leave gaps'
            )

    def spec_of(self, spec: InputSpec) -> InputSpec:
        """Return the network's input with the size that frames are fitted into.

        Raises:
            ValueError: Sizes are no multiples of the network's stride.
        """
        sizes = {'window': self.window, 'stride': self.stride, 'frame_size': self.frame_size}
        for name, size in sizes.items():
            if size and (min(size) < 1 or any(side % spec.stride for side in size)):
                fixed = tuple(max(1, round(side / spec.stride)) * spec.stride for side in size)
                raise ValueError(
                    f'sliding_window.{name}: got {size}, expected multiples of {spec.stride}, the '
                    f'stride of the network; fix: {fixed}'
                )
        return spec.model_copy(update={'size': self.frame_size or spec.size})


def parse_sliding_window(text: str) -> SlidingWindow | None:
    """Read the YAML mapping of a command line; None of an empty text.

    Raises:
        ConfigError: It says something else.
    """
    if not text:
        return None
    try:
        source = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f'sliding window {text!r}: not valid YAML: {error}') from None
    if not isinstance(source, dict):
        raise ConfigError(
            f'sliding window {text!r}: holds no mapping; expected such as {{window: [896, 896]}}'
        )
    return load_config(SlidingWindow, source)


class WindowRunner:
    """Runs a network on windows of any image, in the place of the network itself.

    Args:
        run: Maps ``(N, h, w, 3)`` uint8 to logits ``(N, C, h', w')`` float32, which may be a
            buffer that the next call overwrites.
        sliding: How to cut.
        spec: What the network wants to see; its mean colour fills what lies beyond the image.

    Raises:
        ValueError: Sizes do not fit the network.
    """

    def __init__(
        self,
        run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        sliding: SlidingWindow,
        spec: InputSpec,
    ) -> None:
        sliding.spec_of(spec)
        self._run = run
        self._sliding = sliding
        self._spec = spec

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits ``(1, C, H / s, W / s)`` float32 of ``(1, H, W, 3)`` uint8.

        Height and width are multiples of the network's stride; s is that of its output.

        Raises:
            EngineError: The network failed; if on windows alone, it says what to do.
        """
        canvas = self._padded(images[0])
        sides = zip(canvas.shape[:2], self._sliding.window, self._sliding.stride, strict=True)
        tops, lefts = (window_starts(*side) for side in sides)
        places = list(product(tops, lefts))
        total: NDArray[np.float32] | None = None
        for first in range(0, len(places), self._sliding.batch_size):
            batch = places[first : first + self._sliding.batch_size]
            logits = self._logits(self._windows(canvas, batch))
            num_classes, *window = logits.shape[1:]
            if total is None:
                stride = self._output_stride(window)
                size = [side // stride for side in canvas.shape[:2]]
                total = np.zeros((num_classes, *size), np.float32)
                rows, columns = self._weights(tops, stride, 0), self._weights(lefts, stride, 1)
            for (top, left), answer in zip(batch, logits, strict=True):
                weight = rows[top][:, np.newaxis] * columns[left]
                y, x = top // stride, left // stride
                part = total[:, y : y + window[0], x : x + window[1]]
                for plane, values in zip(part, answer, strict=True):  # no copy of all classes
                    plane += weight * values
        assert total is not None  # there is always a window
        height, width = (side // stride for side in images.shape[1:3])
        return total[np.newaxis, :, :height, :width]

    def _windows(
        self, canvas: NDArray[np.uint8], places: list[tuple[int, int]]
    ) -> NDArray[np.uint8]:
        height, width = self._sliding.window
        return np.stack([canvas[y : y + height, x : x + width] for y, x in places])

    def _weights(
        self, starts: list[int], stride: int, axis: int
    ) -> dict[int, NDArray[np.float32]]:
        """Return the weights of the windows by where they start, at the output's stride."""
        window = self._sliding.window[axis] // stride
        small = [start // stride for start in starts]
        return dict(zip(starts, blend_weights(small, window, self._sliding.blend), strict=True))

    def _padded(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image of at least a window's size, with the mean colour below and right."""
        size = [max(pair) for pair in zip(image.shape[:2], self._sliding.window, strict=True)]
        if tuple(size) == image.shape[:2]:
            return image
        canvas = np.empty((*size, 3), np.uint8)
        canvas[:] = np.clip(np.round(self._spec.mean), 0, 255).astype(np.uint8)
        canvas[: image.shape[0], : image.shape[1]] = image
        return canvas

    def _logits(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            return self._run(batch)
        except EngineError as error:
            if self._sliding.window == self._spec.size and len(batch) == 1:
                raise
            size = list(self._spec.size)
            raise EngineError(
                f'{error}; got {len(batch)} windows of {list(self._sliding.window)} at once; if '
                f'the model has one fixed input size, fix: sliding_window.window: {size}, '
                f'batch_size: 1, and a frame_size that is larger than {size}'
            ) from error

    def _output_stride(self, size: list[int]) -> int:
        stride = self._sliding.window[0] // size[0]
        if [stride * side for side in size] != list(self._sliding.window):
            raise ValueError(
                f'got logits of {size} px from windows of {list(self._sliding.window)}, expected '
                'the window over a whole number'
            )
        return stride


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows begin on a side: every stride px, the last flush with the end."""
    return [*range(0, length - window, stride), length - window]


def blend_weights(starts: list[int], window: int, blend: Blend) -> list[NDArray[np.float32]]:
    """Return each window's weights along one side, ``(window,)`` float32 each.

    At every place the weights of the windows there add up to 1. In two dimensions a weight is the
    product of those of its row and its column.

    Args:
        starts: Where the windows begin; together they leave no gap.
        window: Their length.
        blend: ``gaussian``: before they are normalised, exp(-d² / 2σ²) at the distance d from the
            window's centre, with σ of an eighth of the window; ``uniform``: all equal.
    """
    weight = np.ones(window)
    if blend == 'gaussian':
        distance = np.arange(window) + 0.5 - window / 2
        weight = np.exp(-0.5 * (distance / (_SIGMA * window)) ** 2)
    total = np.zeros(max(starts) + window)
    for start in starts:
        total[start : start + window] += weight
    return [(weight / total[start : start + window]).astype(np.float32) for start in starts]
