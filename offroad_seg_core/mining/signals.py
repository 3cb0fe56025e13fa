"""What tells a frame worth labelling and is not in the table anyway: its looks and its flicker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from offroad_seg_core.datasets.analysis.facts import perceptual_hash
from offroad_seg_core.datasets.analysis.features import describe_image
from offroad_seg_core.evaluation.outputs.sink import Labelled
from offroad_seg_core.taxonomy import IGNORE_INDEX

IMAGE_HASH, IMAGE_FEATURES, FLICKER = 'image_hash', 'image_features', 'flicker'
"""Columns of the table."""
_WIDTH_PX = 256
_LEVELS = 3 * 255
"""Of a feature, which is at most a third: in a byte."""
_LEAST_STEP_NS, _LONGEST_STEP_NS = 1_000_000, 1_000_000_000
"""Frames of a data set are 1 ns apart: they are no drive. After a second the view is another."""


class View(NamedTuple):
    """A frame in small.

    Attributes:
        gray: ``(h, w)`` uint8.
        label_map: Class ids or 255, ``(h, w)`` uint8.
        image_hash: See perceptual_hash.
        features: See describe_image.
    """

    gray: np.ndarray
    label_map: np.ndarray
    image_hash: int
    features: np.ndarray


class FrameSignals:
    """Adds the columns IMAGE_HASH, IMAGE_FEATURES (hexadecimal) and FLICKER to each frame's row.

    A sink, see Sink. The first frame of a part has no flicker, so that an evaluation that was
    interrupted ends in the same table.
    """

    def identity(self) -> str:
        """Return what it writes."""
        return 'frame signals and features'

    def begin(self, folder: Path, part: Path) -> None:
        """Start a part, see Sink."""
        del folder, part
        self._earlier: dict[str, tuple[int, View]] = {}

    def prepare(self, labelled: Labelled) -> View:
        """Make the frame small, see Sink."""
        image = labelled.image.bgr()
        height, width = image.shape[:2]
        size_wh = (min(_WIDTH_PX, width), max(1, round(height * min(_WIDTH_PX, width) / width)))
        small = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        label_map = labelled.prediction.label_map
        return View(
            cv2.cvtColor(small, cv2.COLOR_BGR2GRAY),
            cv2.resize(label_map, size_wh, interpolation=cv2.INTER_NEAREST_EXACT),
            perceptual_hash(rgb),
            describe_image(rgb),
        )

    def add(self, labelled: Labelled, prepared: View) -> None:
        """Add to the frame's row, see Sink."""
        camera, stamp_ns = labelled.frame.camera, labelled.frame.stamp_ns
        earlier_ns, earlier = self._earlier.get(camera, (stamp_ns, None))
        value = None
        if earlier and _LEAST_STEP_NS <= stamp_ns - earlier_ns <= _LONGEST_STEP_NS:
            value = flicker(earlier, prepared)
        labelled.row[IMAGE_HASH] = f'{prepared.image_hash:016x}'
        labelled.row[IMAGE_FEATURES] = (
            np.rint(prepared.features * _LEVELS).astype('u1').tobytes().hex()
        )
        labelled.row[FLICKER] = None if value is None else round(value, 6)
        self._earlier[camera] = stamp_ns, prepared

    def commit(self) -> None:
        """Do nothing: the table keeps the rows."""

    def close(self) -> None:
        """Do nothing, see Sink."""

    def finish(self, folder: Path, parts: list[Path]) -> None:
        """Do nothing, see Sink."""


def features_of(texts: Sequence[str]) -> np.ndarray:
    """Return ``(N, NUM_FEATURES)`` float32 of what the column IMAGE_FEATURES holds."""
    levels = np.frombuffer(bytes.fromhex(''.join(texts)), np.uint8)
    return levels.reshape(len(texts), -1) / np.float32(_LEVELS)


def flicker(earlier: View, view: View) -> float | None:
    """Return the share of pixels that changed their class although they show the same thing.

    The earlier labels are moved along the optical flow (DIS: Kroeger et al., ECCV 2016) before
    they are compared, as temporal consistency is measured without truth (Varghese et al.,
    "Unsupervised Temporal Consistency Metric for Video Segmentation", CVPR workshops 2020).

    Args:
        earlier: The frame before.
        view: The frame, of the same camera.

    Returns:
        0 to 1; None where the sizes differ, a side is below 16 pixels, or no pixel has a label in
        both.
    """
    if earlier.gray.shape != view.gray.shape or min(view.gray.shape) < 16:
        return None
    preset = cv2.DISOPTICAL_FLOW_PRESET_FAST
    motion = cv2.DISOpticalFlow_create(preset)  # type: ignore[attr-defined]
    flow = motion.calc(view.gray, earlier.gray, None)  # where each pixel was before
    rows, columns = np.indices(view.gray.shape, np.float32)
    moved = cv2.remap(
        earlier.label_map,
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=IGNORE_INDEX,
    )
    known = (moved != IGNORE_INDEX) & (view.label_map != IGNORE_INDEX)
    if not known.any():
        return None
    return float((moved != view.label_map)[known].mean())
