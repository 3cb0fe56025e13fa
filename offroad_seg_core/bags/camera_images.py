"""Camera messages to pixels, whoever deserialized them: ROS or rosbags.

Pixels are views into the message wherever the encoding allows it; a padded `step` costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

_TO_BGR = {
    'rgb': cv2.COLOR_RGB2BGR,
    'bgra': cv2.COLOR_BGRA2BGR,
    'rgba': cv2.COLOR_RGBA2BGR,
    'mono': cv2.COLOR_GRAY2BGR,
}

# Some cameras pad their JPEGs; the end marker is looked for in the last bytes.
_JPEG_TAIL_BYTES = 4096


class FrameError(ValueError):
    """A message holds no usable picture."""

    @classmethod
    def of(cls, what: str, got: object, expected: str, fix: str) -> FrameError:
        """Build the error in the one form all of them have."""
        return cls(f'{what}: got {got}, expected {expected}; fix: {fix}')


class RawMessage(Protocol):
    """The fields of sensor_msgs/Image that matter here."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any
    """Bytes: array.array, bytes or a uint8 NumPy array."""


class CompressedMessage(Protocol):
    """The fields of sensor_msgs/CompressedImage that matter here."""

    format: str
    data: Any
    """Bytes: array.array, bytes or a uint8 NumPy array."""


@dataclass(frozen=True)
class CameraImage:
    """Pixels and the order of their channels."""

    pixels: NDArray[np.uint8]
    """uint8 ``(H, W, 3)``, ``(H, W, 4)`` or ``(H, W)``; may be a view with padded rows."""
    color_order: str
    """`bgr`, `rgb`, `bgra`, `rgba` or `mono`, as Segmenter.segment takes it."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.pixels.shape[:2]
        return height, width

    def bgr(self) -> NDArray[np.uint8]:
        """Return the pixels as ``(H, W, 3)`` BGR; the same memory if they are BGR already."""
        if self.color_order == 'bgr':
            return self.pixels
        return cv2.cvtColor(self.pixels, _TO_BGR[self.color_order])


class _Layout(NamedTuple):
    """How the bytes of an encoding lie, and how they become pixels."""

    color_order: str
    channels: int = 1
    sample_bytes: int = 1
    code: int | None = None
    """OpenCV's conversion to BGR, if the channels are none that the segmenter takes."""
    rows: float = 1.0
    """Rows of bytes for each row of pixels (planar formats)."""
    even: tuple[int, int] = (1, 1)
    """Height and width must be multiples of these."""
    prepare: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]] | None = None
    """Rearranges the rows for `code`; takes the picture's height too."""


def _nv24_to_nv12(rows: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    # A full-resolution chroma plane of 2W bytes a row follows in the same buffer. Every second
    # chroma sample is enough for a network that sees the frame reduced.
    width = rows.shape[1]
    chroma = np.ascontiguousarray(rows[height:]).reshape(height, width, 2)[::2, ::2]
    return np.vstack([rows[:height], chroma.reshape(height // 2, width)])


def _plain(color_order: str, channels: int) -> _Layout:
    return _Layout(color_order, channels)


def _deep(color_order: str, channels: int) -> _Layout:
    return _Layout(color_order, channels, sample_bytes=2)


def _bayer(pattern: str) -> dict[str, _Layout]:
    # OpenCV's RGGB names the top left 2x2 block as ROS does (its older BayerBG is the same code).
    code = getattr(cv2, f'COLOR_Bayer{pattern.upper()}2BGR')
    return {
        f'bayer_{pattern}8': _Layout('bgr', code=code),
        f'bayer_{pattern}16': _Layout('bgr', sample_bytes=2, code=code),
    }


_UYVY = _Layout('bgr', 2, code=cv2.COLOR_YUV2BGR_UYVY, even=(1, 2))
_YUYV = _Layout('bgr', 2, code=cv2.COLOR_YUV2BGR_YUY2, even=(1, 2))
_LAYOUTS: dict[str, _Layout] = {
    'bgr8': _plain('bgr', 3),
    'rgb8': _plain('rgb', 3),
    'bgra8': _plain('bgra', 4),
    'rgba8': _plain('rgba', 4),
    'mono8': _plain('mono', 1),
    '8UC1': _plain('mono', 1),
    '8UC3': _plain('bgr', 3),
    '8UC4': _plain('bgra', 4),
    'mono16': _deep('mono', 1),
    'bgr16': _deep('bgr', 3),
    'rgb16': _deep('rgb', 3),
    'bgra16': _deep('bgra', 4),
    'rgba16': _deep('rgba', 4),
    '16UC1': _deep('mono', 1),
    '16UC3': _deep('bgr', 3),
    '16UC4': _deep('bgra', 4),
    **_bayer('rggb'),
    **_bayer('bggr'),
    **_bayer('gbrg'),
    **_bayer('grbg'),
    'yuv422': _UYVY,
    'uyvy': _UYVY,
    'yuv422_yuy2': _YUYV,
    'yuyv': _YUYV,
    'nv12': _Layout('bgr', code=cv2.COLOR_YUV2BGR_NV12, rows=1.5, even=(2, 2)),
    'nv21': _Layout('bgr', code=cv2.COLOR_YUV2BGR_NV21, rows=1.5, even=(2, 2)),
    'nv24': _Layout(
        'bgr', code=cv2.COLOR_YUV2BGR_NV12, rows=3.0, even=(2, 2), prepare=_nv24_to_nv12
    ),
}
ENCODINGS = tuple(_LAYOUTS)
"""Encodings of sensor_msgs/Image that need no cv_bridge."""


def image_from_message(message: RawMessage) -> CameraImage:
    """Return a raw image message's pixels.

    16-bit samples become 8-bit by keeping their high byte (value // 256), whatever depth the
    sensor really has. YUV formats are converted as BT.601, limited range, as cv_bridge does.

    Raises:
        FrameError: size, step or data contradict each other, or the encoding is none of
            ENCODINGS.
    """
    layout = _LAYOUTS.get(message.encoding)
    if min(message.height, message.width) == 0:
        got = f'{message.height} rows of {message.width} pixels'
        raise FrameError.of('image size', got, 'at least one pixel', 'check the camera driver')
    if layout is None:
        expected = f'one of {", ".join(ENCODINGS)}'
        fix = 'set one of them in the camera driver'
        raise FrameError.of('image encoding', repr(message.encoding), expected, fix)
    for side, length, multiple in zip(
        ('height', 'width'), (message.height, message.width), layout.even, strict=True
    ):
        if length % multiple:
            expected = f'a multiple of {multiple} for {message.encoding}'
            raise FrameError.of(f'image {side}', length, expected, 'check the camera driver')
    pixels = _rows_view(message, layout)
    if layout.sample_bytes == 2:
        high = 0 if message.is_bigendian else 1
        pixels = np.ascontiguousarray(pixels[..., high])
    if layout.channels == 1:
        pixels = pixels[..., 0]
    if layout.prepare is not None:
        pixels = layout.prepare(pixels, message.height)
    if layout.code is not None:
        pixels = cv2.cvtColor(pixels, layout.code)
    return CameraImage(pixels, layout.color_order)


def _rows_view(message: RawMessage, layout: _Layout) -> NDArray[np.uint8]:
    """Return the data as ``(rows, W, channels)``, or ``(rows, W, channels, 2)`` for 16 bit."""
    rows = int(message.height * layout.rows)
    row_bytes = message.width * layout.channels * layout.sample_bytes
    where = f'{message.height}x{message.width} {message.encoding} image'
    if message.step < row_bytes:
        least = f'at least {row_bytes}'
        raise FrameError.of(f'{where}: step', message.step, least, 'check the camera driver')
    got, expected = len(message.data), message.step * rows
    # The last row may come without its padding.
    if not expected - (message.step - row_bytes) <= got <= expected:
        what = 'empty' if not got else 'truncated' if got < expected else 'too long'
        raise FrameError.of(
            f'{where}: data',
            f'{got} bytes ({what})',
            f'step {message.step} x {rows} rows = {expected}',
            'check the camera driver',
        )
    shape: tuple[int, ...] = (rows, message.width, layout.channels)
    strides: tuple[int, ...] = (
        message.step,
        layout.channels * layout.sample_bytes,
        layout.sample_bytes,
    )
    if layout.sample_bytes == 2:
        shape, strides = (*shape, 2), (*strides, 1)
    return np.ndarray(shape, np.uint8, message.data, strides=strides)


def image_from_compressed(message: CompressedMessage) -> CameraImage:
    """Return a JPEG's or PNG's pixels as BGR.

    Raises:
        FrameError: the data are empty or no picture.
    """
    got = f'{len(message.data)} bytes of format {message.format!r}'
    fix = 'check the camera driver or the recording'
    if not len(message.data):
        raise FrameError.of('compressed image', got, 'JPEG or PNG', fix)
    data = np.frombuffer(message.data, np.uint8)
    # OpenCV fills the missing part of a truncated JPEG with grey and says nothing.
    is_jpeg = data[:2].tobytes() == b'\xff\xd8'
    if is_jpeg and b'\xff\xd9' not in data[-_JPEG_TAIL_BYTES:].tobytes():
        raise FrameError.of('compressed image', f'{got} (truncated)', 'a whole JPEG', fix)
    # An orientation tag must not turn the image away from the camera geometry.
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise FrameError.of('compressed image', got, 'readable JPEG or PNG', fix)
    return CameraImage(pixels, 'bgr')
