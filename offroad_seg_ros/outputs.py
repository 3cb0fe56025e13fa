"""One camera's output topics: lazily computed, published from reused messages and buffers."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from offroad_seg_core.inference.segmenter import SegmentationResult
from offroad_seg_core.legend import LegendEntry, draw_legend
from offroad_seg_core.visualization import colorize, overlay
from offroad_seg_ros.conversions import CameraImage, scale_camera_info
from offroad_seg_ros.transport import OUTPUT_QOS, output_events

JPEG_QUALITY = 85


@dataclass(frozen=True)
class Style:
    """How labels and costs are drawn."""

    class_palette_bgr: NDArray[np.uint8]
    """``(256, 3)`` uint8: colour of each class."""
    overlay_alpha: float
    legend: tuple[LegendEntry, ...] = ()
    """Drawn into the overlay; empty: none."""


class ImageOutput:
    """Publishes images out of one buffer, written in place.

    Assigning `Image.data` anything but an `array.array` makes rclpy look at every byte (318 ms
    for a numpy frame of 1920x1200); this array is made once a size and drawn into by OpenCV.
    """

    def __init__(self, node: Node, topic: str, channels: int) -> None:
        self._publisher = node.create_publisher(
            Image, topic, OUTPUT_QOS, event_callbacks=output_events(node, topic)
        )
        self._node = node
        self._channels = channels
        self._message = Image(encoding='mono8' if channels == 1 else 'bgr8')
        self._pixels = np.empty((0, 0), np.uint8)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody subscribes."""
        return self._publisher.get_subscription_count() > 0

    def canvas(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the message's pixels, ``(H, W)`` or ``(H, W, 3)`` uint8, to be drawn into."""
        if self._pixels.shape[:2] != size:
            height, width = size
            step = width * self._channels
            data = array('B', bytes(height * step))
            message = self._message
            message.height, message.width, message.step, message.data = height, width, step, data
            shape = size if self._channels == 1 else (*size, self._channels)
            # Without ROS_PYTHON_CHECK_FIELDS the message holds a copy: draw into its own array.
            self._pixels = np.frombuffer(message.data, np.uint8).reshape(shape)
        return self._pixels

    def publish(self, header: Header) -> None:
        """Publish what is on the canvas."""
        self._message.header = header
        self._publisher.publish(self._message)

    def destroy(self) -> None:
        """Take the topic back."""
        self._node.destroy_publisher(self._publisher)


class CompressedOutput:
    """Publishes images as JPEG."""

    def __init__(self, node: Node, topic: str) -> None:
        self._publisher = node.create_publisher(
            CompressedImage, topic, OUTPUT_QOS, event_callbacks=output_events(node, topic)
        )
        self._node = node
        # The form in which image_transport's plugins say it.
        self._message = CompressedImage(format='bgr8; jpeg compressed bgr8')

    @property
    def is_wanted(self) -> bool:
        """Whether anybody subscribes."""
        return self._publisher.get_subscription_count() > 0

    def publish(self, header: Header, pixels: NDArray[np.uint8]) -> None:
        """Compress ``(H, W, 3)`` BGR pixels and publish them."""
        _, data = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        self._message.header = header
        self._message.data = array('B', data.tobytes())
        self._publisher.publish(self._message)

    def destroy(self) -> None:
        """Take the topic back."""
        self._node.destroy_publisher(self._publisher)


class CameraOutputs:
    """All output topics of one camera."""

    def __init__(self, node: Node, camera: str) -> None:
        self._node = node
        base = f'{camera}/segmentation'
        self._mask = ImageOutput(node, f'{base}/mask', 1)
        self._confidence = ImageOutput(node, f'{base}/confidence', 1)
        self._traversability = ImageOutput(node, f'{base}/traversability', 1)
        self._overlay = ImageOutput(node, f'{base}/overlay', 3)
        self._overlay_compressed = CompressedOutput(node, f'{base}/overlay/compressed')
        self._class_colors = ImageOutput(node, f'{base}/class_colors', 3)
        self._images = (
            self._mask,
            self._confidence,
            self._traversability,
            self._overlay,
            self._overlay_compressed,
            self._class_colors,
        )
        self._info_publisher = node.create_publisher(
            CameraInfo,
            f'{base}/camera_info',
            OUTPUT_QOS,
            event_callbacks=output_events(node, f'{base}/camera_info'),
        )

    @property
    def wants_images(self) -> bool:
        """Whether anybody subscribes to an image."""
        return any(output.is_wanted for output in self._images)

    @property
    def wants_info(self) -> bool:
        """Whether anybody subscribes to the calibration, which needs no engine."""
        return self._info_publisher.get_subscription_count() > 0

    @property
    def wants_confidence(self) -> bool:
        """Whether anybody subscribes to the confidence."""
        return self._confidence.is_wanted

    def label_canvas(self, size: tuple[int, int] | None) -> NDArray[np.uint8] | None:
        """Return the mask message's pixels for the segmenter to write into; None: size unknown."""
        return None if size is None else self._mask.canvas(size)

    def publish(
        self,
        header: Header,
        image: CameraImage,
        result: SegmentationResult,
        style: Style,
    ) -> None:
        """Draw, then publish each output that somebody subscribes to."""
        # Each message wakes its readers, and what they do with it slows down the drawing of the
        # next one where cores are few. So nothing is sent before everything is drawn.
        ready = self._draw_maps(result, style)
        wants_raw, wants_jpeg = self._overlay.is_wanted, self._overlay_compressed.is_wanted
        if wants_raw or wants_jpeg:
            drawn = self._draw_overlay(image, result, style)
        for output in [*ready, self._overlay] if wants_raw else ready:
            output.publish(header)
        if wants_jpeg:
            self._overlay_compressed.publish(header, drawn)

    def _draw_maps(self, result: SegmentationResult, style: Style) -> list[ImageOutput]:
        """Draw what needs no camera image; return what was drawn."""
        labels, ready = result.label_map, []
        size = labels.shape
        if self._mask.is_wanted:
            _fill(self._mask.canvas(size), labels)
            ready.append(self._mask)
        if self._traversability.is_wanted:
            result.write_cost(self._traversability.canvas(size))
            ready.append(self._traversability)
        if self._confidence.is_wanted and result.confidence_u8 is not None:
            _fill(self._confidence.canvas(size), result.confidence_u8)
            ready.append(self._confidence)
        if self._class_colors.is_wanted:
            colorize(labels, style.class_palette_bgr, out=self._class_colors.canvas(size))
            ready.append(self._class_colors)
        return ready

    def _draw_overlay(
        self, image: CameraImage, result: SegmentationResult, style: Style
    ) -> NDArray[np.uint8]:
        size = result.label_map.shape
        pixels = image.pixels
        if image.size != size:
            pixels = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        background = CameraImage(pixels, image.color_order).bgr()
        canvas = self._overlay.canvas(size)
        overlay(background, result.cost, alpha=style.overlay_alpha, out=canvas)
        if style.legend:
            draw_legend(canvas, style.legend)
        return canvas

    def publish_info(
        self,
        header: Header,
        info: CameraInfo,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> None:
        """Publish the calibration, scaled to the outputs."""
        if self.wants_info:
            scaled = scale_camera_info(info, image_size, output_size)
            scaled.header = header
            self._info_publisher.publish(scaled)

    def destroy(self) -> None:
        """Take all topics back; nobody may be publishing."""
        for output in self._images:
            output.destroy()
        self._node.destroy_publisher(self._info_publisher)


def _fill(canvas: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
    # The segmenter may have written into the canvas already.
    if not np.may_share_memory(canvas, source):
        np.copyto(canvas, source)
