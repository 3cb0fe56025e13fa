"""Frames that show a network what it will see, so that int8 ranges can be measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.datasets.analysis.features import describe_image
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.evaluation.drive_places import is_bag
from offroad_seg_core.evaluation.sources.bag import BagFrames
from offroad_seg_core.evaluation.sources.frame import SourceError, UniqueNames
from offroad_seg_core.evaluation.sources.pictures import PictureFrames
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.preprocess import Geometry, Normalizer, Preprocessor

log = logging.getLogger(__name__)

MIN_FRAMES = 32
SAME_SCENE = 0.2
"""Distance of two frames' features (see describe_image): frames of a drive that follow one another
are 0.07 to 0.13 apart, the nearest frames of different places 0.23."""
ONE_SCENE_SHARE = 0.9


@dataclass(frozen=True)
class CalibrationSet:
    """Network inputs, and what is doubtful about them.

    Attributes:
        images: uint8 ``(N, H, W, 3)`` in the bundle's colour order and input size.
        source: Where they are from.
        warnings: As sentences.
    """

    images: NDArray[np.uint8]
    source: str
    warnings: tuple[str, ...]

    def batches(self, spec: InputSpec, count: int | None = None) -> list[NDArray[np.float32]]:
        """Return the first so many as normalised inputs, each float32 ``(1, 3, H, W)``."""
        normalize = Normalizer(spec.mean, spec.std)
        return [normalize(image[np.newaxis]).copy() for image in self.images[:count]]

    def held_against(self, frames: FrameSet, spec: InputSpec) -> CalibrationSet:
        """Return the set with a warning where accuracy will be measured on frames of its own.

        Args:
            frames: That accuracy is measured on.
            spec: Input of the network.
        """
        own = {image.tobytes() for image in self.images}
        preprocessor, shared = Preprocessor(spec), 0
        for index in range(len(frames)):
            image, _ = frames.read(index)
            geometry = Geometry.fit(image.shape[:2], 0, spec)
            shared += preprocessor.prepare(image, 'rgb', geometry)[0].tobytes() in own
        if not shared:
            return self
        warning = (
            f'{self.source}: {shared} of {len(frames)} frames that accuracy is measured on are '
            'calibration frames, too: int8 looks better than it is; fix: calibrate with others'
        )
        log.warning('%s', warning)
        return replace(self, warnings=(*self.warnings, warning))


def load_calibration(
    path: str | Path, spec: InputSpec, max_frames: int = 128, topics: Sequence[str] = ()
) -> CalibrationSet:
    """Read frames of a folder of pictures or of a bag, evenly spread over it.

    A set that is too small, or that shows one scene only, is used, and a warning says what that
    means: ranges of what was not seen are guesses, and the accuracy gate sees them only where the
    validation frames do.

    Args:
        path: Folder of pictures, or a rosbag2.
        spec: Input of the network.
        max_frames: Most frames to take.
        topics: Of a bag's cameras; empty: all of them.

    Raises:
        SourceError, BagError: There are no frames.
    """
    source = BagFrames(path, topics) if is_bag(Path(path)) else PictureFrames(path)
    wanted = set(np.linspace(0, source.num_frames - 1, max_frames).round().astype(int).tolist())
    preprocessor = Preprocessor(spec)
    images, features, broken = [], [], 0
    for index, (_, frame) in enumerate(source.frames(0, UniqueNames())):
        if index not in wanted:
            continue
        try:
            picture = frame.load()
        except ValueError as error:
            broken += 1
            log.info('%s: %s', frame.name, error)
            continue
        geometry = Geometry.fit(picture.size, 0, spec)
        batch = preprocessor.prepare(picture.pixels, picture.color_order, geometry)
        images.append(batch[0].copy())
        features.append(_describe(batch[0], geometry, spec))
    if not images:
        raise SourceError(f'{path}: none of {len(wanted)} frames can be decoded')
    warnings = _doubts(str(path), np.stack(features), broken)
    for warning in warnings:
        log.warning('%s', warning)
    return CalibrationSet(np.stack(images), str(path), warnings)


def _describe(image: NDArray[np.uint8], geometry: Geometry, spec: InputSpec) -> np.ndarray:
    height, width = geometry.content_size
    content = image[:height, :width]
    return describe_image(content if spec.color_order == 'rgb' else content[..., ::-1].copy())


def _doubts(source: str, features: np.ndarray, broken: int) -> tuple[str, ...]:
    """Return what is wrong with a set, from the features of its frames ``(N, F)``."""
    found = []
    if broken:
        found.append(f'{source}: {broken} frames cannot be decoded and were left out')
    if len(features) < MIN_FRAMES:
        found.append(
            f'{source}: got {len(features)} calibration frames, expected {MIN_FRAMES} or more: '
            'ranges are guessed from few pixels; fix: add frames'
        )
    if len(features) > 1 and largest_scene(features) >= ONE_SCENE_SHARE * len(features):
        found.append(
            f'{source}: nearly all {len(features)} calibration frames show one scene; ranges for '
            'other light and ground are guesses; fix: add frames of other places and hours'
        )
    return tuple(found)


def largest_scene(features: np.ndarray) -> int:
    """Return how many frames the largest scene has.

    Two frames are of one scene if a chain of frames leads from one to the other in which each is
    nearer than SAME_SCENE to the next.

    Args:
        features: ``(N, F)`` of describe_image.
    """
    distance = np.linalg.norm(features[:, None] - features[None], axis=2)
    is_near = distance < SAME_SCENE
    unseen, largest = set(range(len(features))), 0
    while unseen:
        pending, size = [unseen.pop()], 0
        while pending:
            size += 1
            reached = unseen.intersection(np.flatnonzero(is_near[pending.pop()]).tolist())
            unseen -= reached
            pending += reached
        largest = max(largest, size)
    return largest
