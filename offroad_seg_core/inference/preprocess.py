"""From a camera image to the network's input, and from its label map back to the camera.

The steps are the fastest known ones: one resize of the 8-bit image, then everything else at the
network's size. Buffers are kept per camera geometry and reused.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.manifest import InputSpec

ROTATIONS = {
    90: (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE),
    180: (cv2.ROTATE_180, cv2.ROTATE_180),
    270: (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_90_CLOCKWISE),
}
"""Clockwise degrees → (OpenCV's code, the code of the way back)."""

CONVERSIONS = {
    ('bgr', 'rgb'): cv2.COLOR_BGR2RGB,
    ('rgb', 'bgr'): cv2.COLOR_RGB2BGR,
    ('bgra', 'rgb'): cv2.COLOR_BGRA2RGB,
    ('bgra', 'bgr'): cv2.COLOR_BGRA2BGR,
    ('rgba', 'rgb'): cv2.COLOR_RGBA2RGB,
    ('rgba', 'bgr'): cv2.COLOR_RGBA2BGR,
    ('mono', 'rgb'): cv2.COLOR_GRAY2RGB,
    ('mono', 'bgr'): cv2.COLOR_GRAY2BGR,
}
_HALVE_FROM = 1.75  # of the reduction
CHANNELS = {'bgr': 3, 'rgb': 3, 'bgra': 4, 'rgba': 4, 'mono': 1}


class ImageError(ValueError):
    """An image has the wrong shape, type or content."""


@dataclass(frozen=True)
class CameraView:
    """How one camera is mounted, and which of its pixels show the robot itself."""

    rotation_deg: int = 0
    """Clockwise rotation that makes the image upright: 0, 90, 180 or 270."""
    ego_mask: NDArray[np.bool_] | None = None
    """Bool ``(H, W)`` at camera size, True where the robot is seen; those pixels become 255."""

    def __post_init__(self) -> None:
        if self.rotation_deg not in (0, *ROTATIONS):
            raise ValueError(f'got rotation_deg {self.rotation_deg}, expected 0, 90, 180 or 270')
        if self.ego_mask is not None and (
            self.ego_mask.ndim != 2 or self.ego_mask.dtype != np.bool_
        ):
            raise ValueError(
                f'got an ego mask {self.ego_mask.dtype} {self.ego_mask.shape}, expected '
                'bool (H, W)'
            )


@dataclass(frozen=True)
class Geometry:
    """Where a camera image lies inside the network's input. All sizes are (height, width)."""

    camera_size: tuple[int, int]
    rotation_deg: int
    network_size: tuple[int, int]
    content_size: tuple[int, int]
    """The upright image inside the network's input, from its top left corner."""

    @classmethod
    def fit(cls, camera_size: tuple[int, int], rotation_deg: int, spec: InputSpec) -> Geometry:
        """Place a camera image in the network's input by the bundle's resize rule."""
        upright = camera_size[::-1] if rotation_deg in (90, 270) else camera_size
        if spec.resize == 'stretch':
            content = spec.size
        else:
            scale = min(spec.size[0] / upright[0], spec.size[1] / upright[1])
            content = (
                min(spec.size[0], max(1, round(upright[0] * scale))),
                min(spec.size[1], max(1, round(upright[1] * scale))),
            )
        return cls(camera_size, rotation_deg, spec.size, content)

    @property
    def engine_size(self) -> tuple[int, int]:
        """The content's size, turned back to the camera's orientation."""
        turned = self.rotation_deg in (90, 270)
        return self.content_size[::-1] if turned else self.content_size


def check_image(image: NDArray[np.uint8], color_order: str) -> None:
    """Raise ImageError unless the image is uint8 with the channels of its colour order."""
    if color_order not in CHANNELS:
        raise ImageError(f'got color_order {color_order!r}, expected one of {list(CHANNELS)}')
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels != CHANNELS[color_order]:
        raise ImageError(
            f'got an image {image.dtype} {image.shape}, expected uint8 with '
            f'{CHANNELS[color_order]} channel(s) for {color_order!r}'
        )
    if 0 in image.shape:
        raise ImageError(f'got an empty image {image.shape}, expected at least one pixel')


class Preprocessor:
    """Resizes, turns and reorders camera images into the network's 8-bit input batch."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._canvases: dict[Geometry, NDArray[np.uint8]] = {}

    def prepare(
        self, image: NDArray[np.uint8], color_order: str, geometry: Geometry
    ) -> NDArray[np.uint8]:
        """Return the batch ``(1, H, W, 3)`` uint8 in the bundle's colour order.

        The batch is a buffer that the next call with the same geometry overwrites.
        """
        canvas = self._canvas(geometry)
        height, width = geometry.content_size
        resized = _resize_area(image, geometry.engine_size)
        if geometry.rotation_deg:
            resized = cv2.rotate(resized, ROTATIONS[geometry.rotation_deg][0])
        content = canvas[:height, :width]
        if color_order == self._spec.color_order:
            np.copyto(content, resized)
        else:
            cv2.cvtColor(resized, CONVERSIONS[color_order, self._spec.color_order], dst=content)
        return canvas[np.newaxis]

    def _canvas(self, geometry: Geometry) -> NDArray[np.uint8]:
        if geometry not in self._canvases:
            if len(self._canvases) >= 16:  # a stream that changes size with every frame
                self._canvases.clear()
            # Padding of the mean colour is zero after normalisation.
            canvas = np.empty((*geometry.network_size, 3), np.uint8)
            canvas[:] = np.clip(np.round(self._spec.mean), 0, 255).astype(np.uint8)
            self._canvases[geometry] = canvas
        return self._canvases[geometry]


def _resize_area(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    # Bilinear skips pixels beyond a reduction of 2 and fine texture turns into false patterns.
    # Averaging 2x2 blocks is the one mean that OpenCV computes with vectors (3x3 takes four times
    # as long), so the image is halved until bilinear is left with little to do. On photos this
    # is as near to the exact mean as whole blocks of the nearest factor, or 5 dB nearer.
    while min(image.shape[0] / size[0], image.shape[1] / size[1]) >= _HALVE_FROM:
        half_hw = image.shape[0] // 2, image.shape[1] // 2
        # An odd last row or column is less than half a pixel of the result.
        even = image[: 2 * half_hw[0], : 2 * half_hw[1]]
        image = cv2.resize(even, half_hw[::-1], interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def restore(
    network_map: NDArray[np.uint8],
    geometry: Geometry,
    output_size: tuple[int, int],
    interpolation: int,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Undo padding, rotation and resize of a map at the network's size.

    Args:
        network_map: ``(H, W)`` uint8 at ``geometry.network_size``.
        geometry: where the camera image lies in it.
        output_size: the size to return, in the camera's orientation.
        interpolation: OpenCV's code: nearest for label maps, linear for confidences.
        out: ``output_size`` uint8 array to write into.
    """
    height, width = geometry.content_size
    content = network_map[:height, :width]
    if geometry.rotation_deg:
        content = cv2.rotate(content, ROTATIONS[geometry.rotation_deg][1])
    if content.shape == output_size:
        if out is None:
            return content.copy()
        np.copyto(out, content)
        return out
    size = (output_size[1], output_size[0])
    return cv2.resize(content, size, dst=out, interpolation=interpolation)


class Normalizer:
    """Turns 8-bit images into the float input of engines that do not normalise in the graph.

    Exact: each channel goes through a table of its 256 possible results.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        values = np.arange(256, dtype=np.float64)
        self._tables = [
            ((values - m) / s).astype(np.float32).reshape(1, 256)
            for m, s in zip(mean, std, strict=True)
        ]
        self._planes: dict[tuple[int, ...], NDArray[np.float32]] = {}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return ``(N, 3, H, W)`` float32 for ``(N, H, W, 3)`` uint8; the buffer is reused."""
        count, height, width, channels = images.shape
        shape = (count, channels, height, width)
        if shape not in self._planes:
            if len(self._planes) >= 8:
                self._planes.clear()
            self._planes[shape] = np.empty(shape, np.float32)
        planes = self._planes[shape]
        for image, target in zip(images, planes, strict=True):
            for channel, table, plane in zip(cv2.split(image), self._tables, target, strict=True):
                cv2.LUT(channel, table, dst=plane)
        return planes
