"""Camera image in, label map, confidence and traversability cost out, at camera geometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
import logging
from pathlib import Path
import time
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import Engine, create_engine, warm_up
from offroad_seg_core.inference.preprocess import (
    CameraView,
    Geometry,
    ImageError,
    Preprocessor,
    check_image,
    restore,
)
from offroad_seg_core.inference.prior import allowed_classes
from offroad_seg_core.inference.tta import TTA_VIEWS, ViewRunner, scaled_size
from offroad_seg_core.taxonomy import IGNORE_INDEX

log = logging.getLogger(__name__)

UPRIGHT = CameraView()


@dataclass(frozen=True)
class SegmenterOptions:
    """What can be changed between two frames."""

    tta: str = 'off'
    """`off`, `flip`, `flip_scales`, or `auto`: as many views as fit `deadline_ms`."""
    deadline_ms: float = 100.0
    """From the frame's receipt to its labels; only `tta: auto` looks at it."""
    absent_classes: tuple[str, ...] = ()
    """Classes declared not to occur at this site, by name."""
    confidence_threshold: float = 0.0
    """Pixels less confident than this (0–1) become 255."""
    cost_overrides: Mapping[str, int] = field(default_factory=dict)
    """Class name → traversability cost for this robot."""
    output_size: Literal['camera', 'engine'] | tuple[int, int] = 'camera'
    """The camera's size, the size the network saw (no upsampling), or (height, width)."""

    def __post_init__(self) -> None:
        if self.tta not in TTA_VIEWS:
            raise ValueError(f'got tta {self.tta!r}, expected one of {list(TTA_VIEWS)}')
        if not 0.0 <= self.confidence_threshold <= 1.0:
            raise ValueError(
                f'got confidence_threshold {self.confidence_threshold}, expected 0 to 1'
            )
        if self.deadline_ms <= 0:
            raise ValueError(f'got deadline_ms {self.deadline_ms}, expected above 0')
        if self.output_size not in ('camera', 'engine') and (
            isinstance(self.output_size, str)
            or len(self.output_size) != 2
            or min(self.output_size) < 1
        ):
            raise ValueError(
                f'got output_size {self.output_size!r}, expected camera, engine or (height, width)'
            )


@dataclass(frozen=True)
class Timings:
    """Where one frame's time went, ms on a steady clock."""

    preprocess_ms: float
    engine_ms: float
    decode_ms: float
    passes: int
    """Views that the engine ran."""

    @property
    def total_ms(self) -> float:
        """Everything together."""
        return self.preprocess_ms + self.engine_ms + self.decode_ms


@dataclass(frozen=True)
class SegmentationResult:
    """One frame's answer; all maps are ``(H, W)`` uint8 of the same size."""

    label_map: NDArray[np.uint8]
    """Class ids, 255 where nothing is known."""
    confidence_u8: NDArray[np.uint8] | None
    """Probability of the label, 0–255 for 0–1; 0 where the label is 255. None if not wanted."""
    cost_table: NDArray[np.uint8]
    """``(256,)`` uint8: class id → cost."""
    timings: Timings

    @property
    def cost(self) -> NDArray[np.uint8]:
        """Traversability cost 0 (free) to 254 (lethal), 255 unknown; computed when asked for."""
        return self.write_cost(None)

    def write_cost(self, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Compute the cost into ``out`` (same shape, uint8) and return it."""
        return cv2.LUT(self.label_map, self.cost_table, dst=out)


class Segmenter:
    """The whole pipeline for one bundle; serves any number of cameras from one thread."""

    def __init__(
        self, bundle: Bundle, engine: Engine, options: SegmenterOptions | None = None
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self._spec = bundle.manifest.input
        self._preprocessor = Preprocessor(self._spec)
        self._decoder = Decoder(self._spec.size)
        self._views = ViewRunner(self._run_engine, self._spec.stride)
        self._ego: dict[tuple[int, tuple[int, int]], NDArray[np.bool_]] = {}
        self._warm_sizes = {self._spec.size}
        self.options = options or SegmenterOptions()

    @classmethod
    def open(
        cls,
        path: str | Path,
        engine: str = 'auto',
        precision: str = 'auto',
        num_threads: int = 0,
        options: SegmenterOptions | None = None,
    ) -> Segmenter:
        """Load a bundle folder and an engine. Errors: see Bundle.load and create_engine."""
        bundle = Bundle.load(path)
        return cls(bundle, create_engine(bundle, engine, precision, num_threads), options)

    @property
    def options(self) -> SegmenterOptions:
        """What can be changed between two frames; assigning validates everything first."""
        return self._options

    @options.setter
    def options(self, options: SegmenterOptions) -> None:
        absent = (*self.bundle.manifest.suppressed_classes, *options.absent_classes)
        classes = allowed_classes(self.bundle.taxonomy, absent)
        table = self.bundle.taxonomy.cost_table(options.cost_overrides)
        # One assignment, because another thread may be inside segment().
        self._state = (options, classes, table)
        self._options = options

    def segment(
        self,
        image: NDArray[np.uint8],
        color_order: str = 'bgr',
        view: CameraView = UPRIGHT,
        want_confidence: bool = False,
        elapsed_ms: float = 0.0,
        out: NDArray[np.uint8] | None = None,
    ) -> SegmentationResult:
        """Segment one camera image.

        Args:
            image: uint8 ``(H, W, 3)``, ``(H, W, 4)`` or ``(H, W)``; rows may be padded.
            color_order: `bgr`, `rgb`, `bgra`, `rgba` or `mono`.
            view: how the camera is mounted.
            want_confidence: also compute the confidence.
            elapsed_ms: time since the frame's receipt, for `tta: auto`.
            out: uint8 array of the output's size for the label map.

        Raises:
            ImageError: the image or the ego mask has the wrong shape or type.
            EngineError: the engine failed.
        """
        started = time.perf_counter()
        check_image(image, color_order)
        options, classes, cost_table = self._state
        self._warm_up_views(options.tta)
        geometry = Geometry.fit(image.shape[:2], view.rotation_deg, self._spec)
        images = self._preprocessor.prepare(image, color_order, geometry)
        prepared = time.perf_counter()
        spent_ms = elapsed_ms + (prepared - started) * 1e3
        logits, passes = self._views(images, options.tta, options.deadline_ms - spent_ms)
        inferred = time.perf_counter()

        size = _output_size(options.output_size, geometry)
        label_map = restore(
            self._decoder.label_map(logits, classes), geometry, size, cv2.INTER_NEAREST_EXACT, out
        )
        confidence = None
        if want_confidence or options.confidence_threshold:
            confidence = restore(
                self._decoder.confidence_u8(logits, classes), geometry, size, cv2.INTER_LINEAR
            )
            _blank_unsure(label_map, confidence, options.confidence_threshold)
        if view.ego_mask is not None:
            ego = self._ego_at(view.ego_mask, image.shape[:2], size)
            label_map[ego] = IGNORE_INDEX
            if confidence is not None:
                confidence[ego] = 0
        timings = Timings(
            (prepared - started) * 1e3,
            (inferred - prepared) * 1e3,
            (time.perf_counter() - inferred) * 1e3,
            passes,
        )
        return SegmentationResult(label_map, confidence, cost_table, timings)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def _run_engine(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = self.engine.run(images).logits
        if logits.shape[1] != self.bundle.taxonomy.num_classes:
            raise BundleError(
                f'{self.bundle.path}: got {logits.shape[1]} output channels, expected the '
                f'{self.bundle.taxonomy.num_classes} classes of {self.bundle.taxonomy.name}'
            )
        return logits

    def _warm_up_views(self, mode: str) -> None:
        # A new input size costs some engines a second of compilation: not inside a measured pass.
        for view in TTA_VIEWS[mode]:
            size = scaled_size(self._spec.size, view.scale, self._spec.stride)
            if size not in self._warm_sizes:
                warm_up(self.engine, size, runs=1)
                self._warm_sizes.add(size)

    def _ego_at(
        self, mask: NDArray[np.bool_], camera_size: tuple[int, int], size: tuple[int, int]
    ) -> NDArray[np.bool_]:
        if mask.shape != camera_size:
            raise ImageError(
                f'got an ego mask of size {mask.shape} for images of size {camera_size}; '
                'fix: draw the mask at the camera size'
            )
        if mask.shape == size:
            return mask
        key = (id(mask), size)
        if key not in self._ego:
            resized = cv2.resize(
                mask.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT
            )
            self._ego[key] = resized.view(np.bool_)
        return self._ego[key]


def _output_size(
    wanted: Literal['camera', 'engine'] | tuple[int, int], geometry: Geometry
) -> tuple[int, int]:
    if wanted == 'camera':
        return geometry.camera_size
    if wanted == 'engine':
        return geometry.engine_size
    return wanted  # type: ignore[return-value]


def _blank_unsure(
    label_map: NDArray[np.uint8], confidence_u8: NDArray[np.uint8], threshold: float
) -> None:
    if threshold:
        unsure = confidence_u8 < round(threshold * 255)
        label_map[unsure] = IGNORE_INDEX
        confidence_u8[unsure] = 0
