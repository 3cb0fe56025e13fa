"""What a student is given besides its labelled frames."""

from __future__ import annotations

from dataclasses import dataclass
import logging
from pathlib import Path

import numpy as np

from offroad_seg_core.datasets.frames import FrameSet, mix_frames
from offroad_seg_core.distillation.cache import SoftLabelCache
from offroad_seg_core.distillation.config import DistillationConfig
from offroad_seg_core.distillation.soft_labels import ClassSet, SoftLabelReader
from offroad_seg_core.distillation.teachers import Ensemble, Teacher
from offroad_seg_core.distillation.unlabelled import (
    find_pictures,
    pseudo_labelled,
    refuse_measured,
)
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.taxonomy import Taxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lesson:
    """The frames to train on and what teachers said about them.

    Attributes:
        frames: With labels, then those whose labels are the teachers'.
        strengths: ``(N,)`` float, how strongly each is augmented; None: all alike.
        classes: Those of the answers; None if there are none.
        answers: The file of each frame's soft labels; empty if there are none.
    """

    frames: FrameSet
    strengths: np.ndarray | None = None
    classes: ClassSet | None = None
    answers: tuple[Path, ...] = ()

    def reader(self, stride: int) -> SoftLabelReader | None:
        """Return what reads the answers at the stride of the student's logits."""
        if self.classes is None:
            return None
        return SoftLabelReader(self.answers, self.classes, stride)


def prepare_lesson(
    config: DistillationConfig,
    taxonomy: Taxonomy,
    spec: InputSpec,
    frames: FrameSet,
    part: tuple[int, int] = (0, 1),
    validation: FrameSet | None = None,
) -> Lesson:
    """Have the teachers answer every frame, as far as they have not yet.

    Args:
        config: Teachers, where their answers are kept, further frames.
        taxonomy: The student's.
        spec: The student's input.
        frames: With labels.
        part: See ``SoftLabelCache.fill``.
        validation: What the student is measured on; None if it is not.

    Raises:
        ConfigError: The cache is of other teachers, or unlabelled frames are those of the
            validation.
        DatasetError, TaxonomyError: A teacher's classes are others and not mapped, a picture
            cannot be read, or the teachers are not sure of any unlabelled pixel.
        CheckpointError, BundleError: A teacher cannot be read.
        BagError: The bag of unlabelled frames cannot be read.
    """
    if not config.needs_soft_labels:
        return Lesson(frames)
    ensemble, cache = open_cache(config, taxonomy, spec)
    answers = cache.fill([entry.image for entry in frames.files], ensemble, part)
    strengths = None
    if config.unlabelled is not None:
        pictures = find_pictures(config.unlabelled, config.soft_labels.folder / 'pictures')
        if validation is not None:
            refuse_measured(pictures, validation)
        further = cache.fill(pictures, ensemble, part)
        added = pseudo_labelled(config.unlabelled, pictures, further, cache.classes, taxonomy)
        strengths = np.repeat([1.0, config.unlabelled.strength], [len(frames), len(added)])
        shares = [1 - config.unlabelled.share, config.unlabelled.share]
        frames = mix_frames([frames, added], shares, f'{frames.origin} + {added.origin}')
        answers += further
    return Lesson(frames, strengths, cache.classes, tuple(answers))


def open_ensemble(
    config: DistillationConfig, taxonomy: Taxonomy, spec: InputSpec, stride: int = 1
) -> Ensemble:
    """Open the teachers; errors are those of ``prepare_lesson``, but for caches."""
    teachers = [Teacher(entry, taxonomy) for entry in config.teachers]
    return Ensemble(teachers, taxonomy, spec, stride)


def open_cache(
    config: DistillationConfig, taxonomy: Taxonomy, spec: InputSpec
) -> tuple[Ensemble, SoftLabelCache]:
    """Open the teachers and the cache of their answers; errors are those of ``prepare_lesson``."""
    ensemble = open_ensemble(config, taxonomy, spec, config.soft_labels.stride)
    return ensemble, SoftLabelCache(config.soft_labels, ensemble.identity(), ensemble.classes)
