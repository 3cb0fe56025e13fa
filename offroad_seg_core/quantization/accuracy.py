"""How much accuracy a smaller arithmetic may cost, and which classes lost more."""

from __future__ import annotations

from dataclasses import dataclass as record
from typing import Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT, ConfigError, load_config
from offroad_seg_core.datasets import DatasetConfig
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import create_engine
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.metrics.arithmetic import by_name, plain
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.taxonomy import LETHAL_COST, Taxonomy


@dataclass(frozen=True, config=STRICT)
class AccuracyLimits:
    """What is refused. All are shares of 1: 0.01 is one point; 1 would be no limit.

    Attributes:
        max_miou_drop: Loss of mean IoU over the classes that occur in the truth.
        max_dangerous_drop: Loss of IoU of any class that may break the robot: those of lethal
            traversability cost.
    """

    max_miou_drop: float = Field(default=0.01, ge=0, lt=1)
    max_dangerous_drop: float = Field(default=0.03, ge=0, lt=1)


@record(frozen=True)
class AccuracyLoss:
    """What changed between two confusion matrices of the same frames.

    Attributes:
        engine: What ran both.
        miou_before: Mean IoU over the classes in the truth.
        miou_after: Likewise.
        class_drops: Class name -> loss of IoU; nan where the class occurs nowhere.
        violations: What is beyond the limits, as sentences that name the classes.
        unseen: Dangerous classes that no frame shows: nothing is known of them.
        counts: Counts of both matrices.
    """

    engine: str
    miou_before: float
    miou_after: float
    class_drops: dict[str, float]
    violations: tuple[str, ...]
    unseen: tuple[str, ...]
    counts: tuple[np.ndarray, np.ndarray]

    @property
    def miou_drop(self) -> float:
        """Loss of mean IoU."""
        return self.miou_before - self.miou_after

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a manifest, without the counts, None in place of nan."""
        scores = {key: value for key, value in vars(self).items() if key != 'counts'}
        return plain({**scores, 'miou_drop': self.miou_drop})


def validation_frames(dataset: DatasetConfig | None, bundle: Bundle, max_frames: int) -> FrameSet:
    """Return labelled frames in a bundle's classes, evenly spread over a validation split.

    Args:
        dataset: Where they are from; None for what the bundle was trained with.
        bundle: Gives the classes.
        max_frames: Most frames to take; 0 for all.

    Raises:
        ConfigError: The bundle does not say what it was trained with.
        DatasetError, TaxonomyError: The frames are not there, or are of other classes.
    """
    if dataset is None:
        recorded = bundle.manifest.provenance.get('training', {}).get('config', {})
        if 'dataset' not in recorded:
            raise ConfigError(
                f'{bundle.path}: does not say what it was trained with; give labelled frames: '
                '--data, a file of config/data'
            )
        dataset = load_config(DatasetConfig, recorded['dataset'])  # type: ignore[arg-type]
    frames = dataset.frames('validation', bundle.taxonomy)
    step = -(-len(frames) // (max_frames or len(frames)))
    return frames.subset(range(0, len(frames), step))


def measure(
    bundle: Bundle, frames: FrameSet, engine: str, precision: str, num_threads: int = 0
) -> ConfusionMatrix:
    """Segment labelled frames as the robot would, from its logits.

    Args:
        bundle: What is measured.
        frames: With labels of the bundle's classes.
        engine: A key of ENGINES.
        precision: Of the engine.
        num_threads: Of the engine; 0 leaves them to it.

    Raises:
        EngineError, BundleError: The engine cannot run the bundle in this precision.
    """
    made = create_engine(bundle, engine, precision, num_threads)
    segmenter = Segmenter(bundle, made, head='logits')
    matrix = ConfusionMatrix(bundle.taxonomy.num_classes)
    for index in range(len(frames)):
        image, target = frames.read(index)
        matrix.update(segmenter.segment(image, 'rgb').label_map, target)
    segmenter.close()
    return matrix


def compare(
    before: ConfusionMatrix,
    after: ConfusionMatrix,
    taxonomy: Taxonomy,
    limits: AccuracyLimits,
    engine: str = '',
) -> AccuracyLoss:
    """Hold the confusion matrices of the same frames against each other and the limits."""
    drops = before.iou() - after.iou()
    present = before.true_pixels > 0
    dangerous = np.array([entry.cost == LETHAL_COST for entry in taxonomy.classes])
    names = np.array(taxonomy.names)
    miou_drop = before.miou_present - after.miou_present
    violations = []
    if not miou_drop <= limits.max_miou_drop:
        worst = np.argsort(-np.where(present, drops, -np.inf))[:3].tolist()
        falls = ', '.join(f'{names[index]} {-100 * drops[index]:+.1f}' for index in worst)
        violations.append(
            f'mIoU fell by {100 * miou_drop:.2f} points, allowed are '
            f'{100 * limits.max_miou_drop:g}; the most: {falls}'
        )
    violations += [
        f'{names[index]} (dangerous) fell by {100 * drops[index]:.2f} points, allowed are '
        f'{100 * limits.max_dangerous_drop:g}'
        for index in np.flatnonzero(dangerous & present)
        if not drops[index] <= limits.max_dangerous_drop
    ]
    return AccuracyLoss(
        engine,
        before.miou_present,
        after.miou_present,
        by_name(taxonomy.names, drops),
        tuple(violations),
        tuple(names[dangerous & ~present].tolist()),
        (before.counts, after.counts),
    )
