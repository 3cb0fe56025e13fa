"""What the worker does with one frame: check its age, segment it, publish the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import re
import time
import traceback

import cv2
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image

from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.inference.preprocess import CameraView, Geometry
from offroad_seg_core.inference.segmenter import SegmentationResult, Segmenter
from offroad_seg_core.legend import legend_entries
from offroad_seg_ros.camera_statistics import FrameFacts, FrameTimes
from offroad_seg_ros.camera_stream import CameraStream, Frame
from offroad_seg_ros.conversions import (
    CameraImage,
    FrameError,
    image_from_compressed,
    image_from_message,
)
from offroad_seg_ros.outputs import CameraOutputs, Style
from offroad_seg_ros.params import NodeParams, parse_output_size
from offroad_seg_ros.throttle import Throttle

FAILURE_REPEAT_S = 5.0
_NUMBER = re.compile(r'\d+')


@dataclass(frozen=True)
class _Settings:
    """What may change between two frames; replaced as a whole."""

    params: NodeParams
    style: Style


class FrameProcessor:
    """Used from one worker's thread only, but for `apply`."""

    def __init__(
        self,
        node: Node,
        segmenter: Segmenter,
        views: Mapping[str, CameraView],
        outputs: Mapping[str, CameraOutputs],
        params: NodeParams,
    ) -> None:
        self._node = node
        self._segmenter = segmenter
        self._views = views
        self._outputs = outputs
        self._throttle = Throttle(FAILURE_REPEAT_S)
        self.apply(params)

    def apply(self, params: NodeParams) -> None:
        """Take new run-time parameters, from the next frame on."""
        taxonomy = self._segmenter.bundle.taxonomy
        costs = self._segmenter.options.cost_overrides
        legend = legend_entries(taxonomy, costs) if params.overlay_legend else ()
        style = Style(taxonomy.palette_bgr, params.overlay_alpha, legend)
        self._settings = _Settings(params, style)

    def process(self, stream: CameraStream, frame: Frame) -> None:
        """Bring one frame to its end and count it; nothing escapes but the process's end."""
        try:
            outcome = self._reason_to_skip(stream, frame, self._settings)
            if outcome == 'skipped_idle' and self._settings.params.enabled:
                self._serve_info(stream, frame, self._settings)
            if outcome:
                stream.statistics.finish(outcome)
            else:
                times, facts = self._serve(stream, frame, self._settings)
                stream.statistics.finish_processed(times, facts)
        except (ValueError, EngineError, cv2.error) as error:
            self._fail(stream, str(error))
        except Exception as error:
            # The thread's boundary: an engine's library raises what it likes, and the node must
            # live to serve the next frame. During shutdown publishing fails; nobody wants to know.
            if self._node.context.ok():
                self._fail(stream, f'{type(error).__name__}: {error}', traceback.format_exc())

    def _reason_to_skip(self, stream: CameraStream, frame: Frame, settings: _Settings) -> str:
        """Return the outcome of a frame that is not worth the engine; empty: it is."""
        params = settings.params
        if not params.enabled or not self._outputs[stream.name].wants_images:
            return 'skipped_idle'
        if params.max_age_ms and self._age_ms(frame, params.age_source) > params.max_age_ms:
            return 'dropped_stale'
        return ''

    def _age_ms(self, frame: Frame, source: str) -> float:
        if source == 'receipt':
            return (time.monotonic() - frame.received_s) * 1e3
        stamp, clock = frame.message.header.stamp, self._node.get_clock()
        if stamp.sec < 0:
            fix = 'check the camera driver, or set age_source to receipt'
            raise FrameError.of('header.stamp', f'{stamp.sec} s', 'a time since 1970', fix)
        sent = Time.from_msg(stamp, clock_type=clock.clock_type)
        return (clock.now() - sent).nanoseconds / 1e6

    def _serve_info(self, stream: CameraStream, frame: Frame, settings: _Settings) -> None:
        """Publish the calibration alone if that is all that somebody subscribes to."""
        info, outputs = stream.camera_info, self._outputs[stream.name]
        if info is None or not outputs.wants_info:
            return
        image_size = _image(frame.message).size
        size = parse_output_size(settings.params.output_size)
        if size == 'camera':
            size = image_size
        elif size == 'engine':
            rotation_deg = self._views[stream.name].rotation_deg
            spec = self._segmenter.bundle.manifest.input
            size = Geometry.fit(image_size, rotation_deg, spec).engine_size
        outputs.publish_info(frame.message.header, info, image_size, size)

    def _serve(
        self, stream: CameraStream, frame: Frame, settings: _Settings
    ) -> tuple[FrameTimes, FrameFacts]:
        started_s = time.monotonic()
        message, outputs = frame.message, self._outputs[stream.name]
        image = _image(message)
        converted_s = time.monotonic()
        result = self._segment(stream.name, image, settings, converted_s - frame.received_s)
        segmented_s = time.monotonic()
        outputs.publish(message.header, image, result, settings.style)
        size = result.label_map.shape
        if stream.camera_info is not None:
            outputs.publish_info(message.header, stream.camera_info, image.size, size)
        published_s = time.monotonic()
        timings = result.timings
        times = FrameTimes(
            latency_ms=(published_s - frame.received_s) * 1e3,
            convert_ms=(converted_s - started_s) * 1e3,
            preprocess_ms=timings.preprocess_ms,
            engine_ms=timings.engine_ms,
            decode_ms=timings.decode_ms,
            publish_ms=(published_s - segmented_s) * 1e3,
        )
        is_compressed = isinstance(message, CompressedImage)
        encoding = message.format if is_compressed else message.encoding
        return times, FrameFacts(image.size, encoding, size, timings.passes)

    def _segment(
        self, camera: str, image: CameraImage, settings: _Settings, elapsed_s: float
    ) -> SegmentationResult:
        outputs = self._outputs[camera]
        size = parse_output_size(settings.params.output_size)
        if size == 'camera':
            size = image.size
        return self._segmenter.segment(
            image.pixels,
            image.color_order,
            self._views[camera],
            want_confidence=outputs.wants_confidence,
            elapsed_ms=elapsed_s * 1e3,
            out=None if size == 'engine' else outputs.label_canvas(size),
        )

    def _fail(self, stream: CameraStream, reason: str, details: str = '') -> None:
        stream.statistics.finish('failed', reason)
        # One fault with numbers that change from frame to frame is still one fault.
        if self._throttle.allows(f'{stream.name} {_NUMBER.sub("#", reason)}'):
            self._node.get_logger().error(
                f'camera {stream.name}: frame dropped: {reason}'
                + (f'\n{details}' if details else '')
            )


def _image(message: Image | CompressedImage) -> CameraImage:
    if isinstance(message, CompressedImage):
        return image_from_compressed(message)
    return image_from_message(message)
