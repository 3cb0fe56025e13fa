"""Camera messages to pixels, and camera calibrations to the size of an output."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import cv2
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest

from offroad_seg_core.bags import camera_images
from offroad_seg_core.bags.camera_images import (
    ENCODINGS,
    CameraImage,
    FrameError,
    image_from_compressed,
)

__all__ = [
    'ENCODINGS',
    'CameraImage',
    'FrameError',
    'image_from_compressed',
    'image_from_message',
    'scale_camera_info',
]


def image_from_message(message: Image) -> CameraImage:
    """Return a raw image message's pixels: as the core reads them, or through cv_bridge.

    Raises:
        FrameError: size, step or data contradict each other, or the encoding is unknown here and
            to cv_bridge.
    """
    is_empty = min(message.height, message.width) == 0
    if message.encoding in ENCODINGS or is_empty:
        return camera_images.image_from_message(message)
    return _through_cv_bridge(message)


def _through_cv_bridge(message: Image) -> CameraImage:
    # It imports its compiled part with the first conversion: built against another NumPy, that
    # fails with any of these.
    try:
        pixels = _cv_bridge().imgmsg_to_cv2(message, 'bgr8')
    except (ImportError, AttributeError, SystemError, cv2.error, ValueError, TypeError) as error:
        raise FrameError(
            f'image encoding: got {message.encoding!r}, expected one of {", ".join(ENCODINGS)}; '
            'fix: set one of them in the camera driver, or install cv_bridge '
            f'(ros-<distro>-cv-bridge), which knows more (cv_bridge says: {error})'
        ) from error
    return CameraImage(pixels, 'bgr')


def _cv_bridge() -> Any:
    """Return cv_bridge's converter; ImportError if there is none, looked for only once."""
    bridge, reason = _find_cv_bridge()
    if bridge is None:
        raise ImportError(reason)
    return bridge


@cache
def _find_cv_bridge() -> tuple[Any, str]:
    try:
        return import_module('cv_bridge').CvBridge(), ''
    except (ImportError, AttributeError, SystemError) as error:
        return None, str(error)


def scale_camera_info(
    info: CameraInfo, image_size: tuple[int, int], output_size: tuple[int, int]
) -> CameraInfo:
    """Return a camera's calibration for an output image of another size.

    Region of interest and binning are folded in: the result describes the whole output image.
    Principal points scale as in image_geometry and image_proc. Distortion does not depend on the
    size and stays.

    Args:
        info: the driver's message; K and P refer to its full resolution.
        image_size: (height, width) of the camera image.
        output_size: (height, width) of the output.
    """
    # Pixels of the full resolution that the image covers.
    covered_height = info.roi.height or info.height or image_size[0]
    covered_width = info.roi.width or info.width or image_size[1]
    scale_y, scale_x = output_size[0] / covered_height, output_size[1] / covered_width
    k, p = list(info.k), list(info.p)
    k[0], k[1] = k[0] * scale_x, k[1] * scale_x
    k[4] *= scale_y
    p[0], p[1], p[3] = p[0] * scale_x, p[1] * scale_x, p[3] * scale_x
    p[5], p[7] = p[5] * scale_y, p[7] * scale_y
    if any(info.k):  # an uncalibrated camera has zeros, and they must stay
        k[2] = (k[2] - info.roi.x_offset) * scale_x
        k[5] = (k[5] - info.roi.y_offset) * scale_y
    if any(info.p):
        p[2] = (p[2] - info.roi.x_offset) * scale_x
        p[6] = (p[6] - info.roi.y_offset) * scale_y
    return CameraInfo(
        header=info.header,
        height=output_size[0],
        width=output_size[1],
        distortion_model=info.distortion_model,
        d=info.d,
        k=k,
        r=info.r,
        p=p,
        roi=RegionOfInterest(do_rectify=info.roi.do_rectify),
    )
