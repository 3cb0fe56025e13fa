"""Camera image in, label map, confidence and traversability cost out, at camera geometry."""

from __future__ import annotations

import logging
from pathlib import Path
import time
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.engines import (
    Engine,
    EngineOutput,
    LabelEngine,
    create_engine,
)
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.inference.head_choice import labels_are_faster
from offroad_seg_core.inference.pipeline import Pipeline
from offroad_seg_core.inference.preprocess import (
    CameraView,
    Geometry,
    ImageError,
    check_image,
    restore,
)
from offroad_seg_core.inference.prior import allowed_classes
from offroad_seg_core.inference.result import (
    SegmentationResult,
    SegmenterOptions,
    Timings,
)
from offroad_seg_core.inference.tta import ViewRunner
from offroad_seg_core.inference.view_sizes import ViewSizes
from offroad_seg_core.taxonomy import IGNORE_INDEX

log = logging.getLogger(__name__)

UPRIGHT = CameraView()
Head = Literal['auto', 'labels', 'logits']


class Segmenter:
    """The whole pipeline for one bundle; serves any number of cameras from one thread.

    Other threads each need their own: see `twin`.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        options: SegmenterOptions | None = None,
        head: Head = 'auto',
        cache_folder: Path | None = None,
    ) -> None:
        """Wrap an engine.

        Args:
            bundle: what the engine runs.
            engine: warmed up, see create_engine.
            options: what can be changed later.
            head: where the engine can give labels itself: `labels`, `logits` to decode them here,
                or `auto` for what is faster, which is measured once. Logits are taken in any case
                where a step needs them.
            cache_folder: where measured choices are kept; None: the user's cache.
        """
        self.bundle = bundle
        self.engine = engine
        self._spec = bundle.manifest.input
        self._options = SegmenterOptions()
        self._pipeline = Pipeline.of(self._run_logits, self._spec, None)
        self._is_fused = bundle.manifest.outputs.kind == 'labels'
        self._label_engine = self._choose_head(engine, head, cache_folder)
        self._has_confidence = not self._is_fused or bundle.manifest.outputs.has_confidence
        self._ego: dict[
            tuple[int, tuple[int, int]], tuple[NDArray[np.bool_], NDArray[np.bool_]]
        ] = {}
        self._decode_ms = 0.0
        self._view_sizes = ViewSizes(engine, self._spec)
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
    def head(self) -> Head:
        """Where labels come from: the engine itself, or logits that are decoded here."""
        return 'logits' if self._label_engine is None else 'labels'

    @property
    def options(self) -> SegmenterOptions:
        """What can be changed between two frames; assigning validates everything first."""
        return self._options

    @options.setter
    def options(self, options: SegmenterOptions) -> None:
        absent = (*self.bundle.manifest.suppressed_classes, *options.absent_classes)
        self._check_needs(options, absent)
        classes = allowed_classes(self.bundle.taxonomy, absent)
        table = self.bundle.taxonomy.cost_table(options.cost_overrides)
        head = HeadInputs.of_classes(self.bundle.taxonomy.num_classes, classes)
        if self._label_engine is not None and options.needs_logits:
            reason = 'a sliding window' if options.tta == 'off' else f'tta {options.tta}'
            log.info('%s needs logits: the labels of the graph are not used', reason)
        if options.tta != self._options.tta:
            self._view_sizes.forgive()
        if options.sliding_window != self._options.sliding_window:
            self._pipeline = Pipeline.of(self._run_logits, self._spec, options.sliding_window)
        # One assignment, because another thread may be inside segment().
        self._state = (options, classes, head, table, self._pipeline)
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
            want_confidence: also compute the confidence, where the model gives one.
            elapsed_ms: time since the frame's receipt, for `tta: auto`.
            out: uint8 array of the output's size for the label map.

        Raises:
            ImageError: the image or the ego mask has the wrong shape or type.
            EngineError: the engine failed.
        """
        started = time.perf_counter()
        check_image(image, color_order)
        options, classes, head, cost_table, pipeline = self._state
        self._open_views(options)
        geometry = Geometry.fit(image.shape[:2], view.rotation_deg, pipeline.spec)
        images = pipeline.preprocessor.prepare(image, color_order, geometry)
        prepared = time.perf_counter()
        spent_ms = elapsed_ms + (prepared - started) * 1e3 + self._decode_ms
        output, passes = self._run(images, head, options, spent_ms, pipeline.views)
        inferred = time.perf_counter()

        size = _output_size(options.output_size, geometry)
        labels = pipeline.decoder.label_map(output, classes)
        label_map = restore(labels, geometry, size, cv2.INTER_NEAREST_EXACT, out)
        confidence = None
        if (want_confidence or options.confidence_threshold) and self._has_confidence:
            sure = pipeline.decoder.confidence_u8(output, classes)
            confidence = restore(sure, geometry, size, cv2.INTER_LINEAR)
            _blank_unsure(label_map, confidence, options.confidence_threshold)
        if view.ego_mask is not None:
            _blank(label_map, confidence, self._ego_at(view.ego_mask, image.shape[:2], size))
        self._decode_ms = (time.perf_counter() - inferred) * 1e3
        timings = Timings(
            (prepared - started) * 1e3, (inferred - prepared) * 1e3, self._decode_ms, passes
        )
        return SegmentationResult(label_map, confidence, cost_table, timings)

    def twin(self) -> Segmenter:
        """Return one with the same engine and options for another thread.

        As many threads may run an engine as its `info.num_streams` says.
        """
        head: Head = 'logits' if self._label_engine is None else 'labels'
        return Segmenter(self.bundle, self.engine, self.options, head)

    def open_views(self) -> None:
        """Make the engine ready for the sizes of `tta`, or the first frame does.

        Errors: see ViewSizes.open.
        """
        self._open_views(self._options)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def _choose_head(
        self, engine: Engine, head: Head, cache_folder: Path | None
    ) -> LabelEngine | None:
        """Return the engine if labels are to come from it."""
        if self._is_fused or not engine.info.gives_labels or head == 'logits':
            return None
        assert isinstance(engine, LabelEngine)  # by EngineInfo
        if head == 'labels' or labels_are_faster(
            engine, self._pipeline.decoder, self.bundle, cache_folder
        ):
            return engine
        return None

    def _check_needs(self, options: SegmenterOptions, absent: tuple[str, ...]) -> None:
        """Refuse what a graph that ends in labels cannot do."""
        if not self._has_confidence and options.confidence_threshold:
            raise ValueError(
                f'{self.bundle.path}: got confidence_threshold {options.confidence_threshold}, '
                'but its labels come without confidence; fix: 0, or a bundle that outputs logits'
            )
        if self._is_fused and (options.needs_logits or absent):
            raise ValueError(
                f'{self.bundle.path}: got tta {options.tta!r}, absent classes {list(absent)} and '
                f'sliding_window {options.sliding_window}, which need logits, but it outputs '
                "labels; fix: tta 'off', no absent classes and no window, or a bundle that "
                'outputs logits'
            )

    def _run(
        self,
        images: NDArray[np.uint8],
        head: HeadInputs,
        options: SegmenterOptions,
        spent_ms: float,
        views: ViewRunner,
    ) -> tuple[EngineOutput, int]:
        if self._is_fused:
            return self.engine.run(images), 1
        if self._label_engine is not None and not options.needs_logits:
            return self._label_engine.run_labels(images, head), 1
        logits, passes = views(images, options.tta, options.deadline_ms - spent_ms)
        return EngineOutput(logits[np.newaxis]), passes

    def _run_logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = self.engine.run(images).logits
        channels = 0 if logits is None else logits.shape[1]
        if logits is None or channels != self.bundle.taxonomy.num_classes:
            raise BundleError(
                f'{self.bundle.path}: got {channels} channels of logits, expected the '
                f'{self.bundle.taxonomy.num_classes} classes of {self.bundle.taxonomy.name}'
            )
        return logits

    def _open_views(self, options: SegmenterOptions) -> None:
        # Not inside a measured pass. Windows have one size, and the first of many is no matter.
        if not options.sliding_window:
            self._view_sizes.open(options.tta)

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
        # The mask is kept beside its resized form: a freed array's id may come back.
        known = self._ego.get((id(mask), size))
        if known is None or known[0] is not mask:
            resized = cv2.resize(
                mask.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT
            )
            if len(self._ego) >= 16:  # an output size that changes with every frame
                self._ego.clear()
            known = self._ego[id(mask), size] = (mask, resized.view(np.bool_))
        return known[1]


def _output_size(
    wanted: Literal['camera', 'engine'] | tuple[int, int], geometry: Geometry
) -> tuple[int, int]:
    if wanted == 'camera':
        return geometry.camera_size
    if wanted == 'engine':
        return geometry.engine_size
    return wanted  # type: ignore[return-value]


def _blank(
    label_map: NDArray[np.uint8], confidence_u8: NDArray[np.uint8] | None, where: NDArray[np.bool_]
) -> None:
    label_map[where] = IGNORE_INDEX
    if confidence_u8 is not None:
        confidence_u8[where] = 0


def _blank_unsure(
    label_map: NDArray[np.uint8], confidence_u8: NDArray[np.uint8], threshold: float
) -> None:
    if threshold:
        _blank(label_map, confidence_u8, confidence_u8 < round(threshold * 255))
