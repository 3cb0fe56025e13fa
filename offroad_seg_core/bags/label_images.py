"""Label maps out of bags: class ids must come through unchanged."""

from __future__ import annotations

import cv2
import numpy as np

from offroad_seg_core.bags.camera_images import FrameError, image_from_message
from offroad_seg_core.bags.camera_topics import COMPRESSED_TYPE
from offroad_seg_core.bags.pictures import deserialize

_WIDE = ('mono16', '16UC1')
_NARROW = ('mono8', '8UC1')
_JPEG_MAGIC = b'\xff\xd8'


def decode_labels(kind: str, data: bytes) -> np.ndarray:
    """Return the ids of a serialized label image, ``(H, W)`` uint8 or uint16.

    Args:
        kind: sensor_msgs/msg/Image of mono8 or mono16, or CompressedImage of PNG.
        data: The message.

    Raises:
        FrameError: It holds no ids, or they may have been changed by compression.
    """
    message = deserialize(kind, data)
    if kind == COMPRESSED_TYPE:
        return _from_png(np.asarray(message.data).tobytes())
    if message.encoding in _NARROW:
        return image_from_message(message).pixels
    if message.encoding in _WIDE:
        return _wide(message)
    expected = 'mono8 or mono16'
    raise FrameError.of('label image', message.encoding, expected, 'give another label topic')


def _wide(message: object) -> np.ndarray:
    """Return 16-bit ids, which as pictures would lose their low bytes."""
    height, width, step = message.height, message.width, message.step  # type: ignore[attr-defined]
    data = np.asarray(message.data)  # type: ignore[attr-defined]
    if data.size < step * (height - 1) + 2 * width or step < 2 * width:
        got = f'{data.size} bytes'
        expected = f'{height} rows of {width} 16-bit ids'
        raise FrameError.of('label image', got, expected, 'check the recording')
    kind = '>u2' if message.is_bigendian else '<u2'  # type: ignore[attr-defined]
    rows = np.ndarray((height, width), kind, data.tobytes(), strides=(step, 2))
    return rows.astype(np.uint16)


def _from_png(data: bytes) -> np.ndarray:
    if data.startswith(_JPEG_MAGIC):
        raise FrameError.of('label image', 'JPEG, which changes ids', 'PNG', 'record raw labels')
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None or pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        got = f'{len(data)} bytes' if pixels is None else f'{pixels.dtype} {pixels.shape}'
        expected = 'a PNG of 8 or 16 bits and one channel'
        raise FrameError.of('label image', got, expected, 'record ids as mono8')
    return pixels
