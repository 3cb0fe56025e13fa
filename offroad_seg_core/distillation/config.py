"""What a student learns from its teachers, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.distillation.losses import DistillationTerm
from offroad_seg_core.inference.sliding_window import SlidingWindow


@dataclass(frozen=True, config=STRICT)
class TeacherConfig:
    """One network of the ensemble.

    Attributes:
        path: A checkpoint of training/train.py, or the folder of a model bundle.
        weight: Its share in the mean of the probabilities, on any scale.
        temperature: Its logits are divided by it first; above 1 for an overconfident teacher.
        mapping: From its classes to the student's, see ``find_mapping``; the probabilities of
            classes that become one are added up.
        tta: Views that its answer is the mean of, see ``TTA_VIEWS``.
        sliding_window: Cut each view into windows; null shows it whole.
    """

    path: Path
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    mapping: str | None = None
    tta: Literal['off', 'flip', 'flip_scales'] = 'off'
    sliding_window: SlidingWindow | None = None


@dataclass(frozen=True, config=STRICT)
class SoftLabelConfig:
    """How the teachers' answers are kept, so that they need not be asked again.

    Attributes:
        folder: Of the files; those of other teachers or options are refused.
        stride: Pixels of the student's input, fitted to the frame, that one stored pixel stands
            for in each direction.
        top_k: Classes a pixel that are kept; the others share what is left.
        storage: Of a probability: ``uint8`` on a square-root scale, or ``float16``.
    """

    folder: Path
    stride: int = Field(default=4, ge=1)
    top_k: int = Field(default=8, ge=1, le=255)
    storage: Literal['uint8', 'float16'] = 'uint8'


@dataclass(frozen=True, config=STRICT)
class FeatureConfig:
    """A layer of the student that shall look like one of a teacher.

    The teacher runs while the student trains, on the same views. The student's features pass a
    1x1 convolution, which is no part of the student, to have the teacher's channels.

    Attributes:
        student_layer: Name of a module of the student, e.g. ``detail5``; ``encoder[-1]`` is the
            last of several outputs.
        teacher_layer: The same of the teacher.
        teacher: Which of the teachers, from 0.
        loss: ``mse``: see ``feature_distance``; ``cwd``: see ``channel_wise_divergence``.
        weight: Its factor in the sum.
    """

    student_layer: str
    teacher_layer: str
    teacher: int = Field(default=0, ge=0)
    loss: Literal['mse', 'cwd'] = 'mse'
    weight: float = Field(default=1.0, gt=0)


@dataclass(frozen=True, config=STRICT)
class UnlabelledConfig:
    """Frames without labels, on which the teachers' answers are all there is.

    Attributes:
        path: A folder of pictures, or a rosbag2 bag.
        pattern: Of a folder: which of its pictures, see ``Pattern``.
        topics: Of a bag: its cameras' topics; empty for all.
        every: Of a bag: of each topic, one of so many pictures.
        confidence: Pixels of which the teachers are at least so sure have labels; all others are
            255. Soft labels are taken everywhere.
        share: Of the frames that are drawn, how many are of these.
        strength: How strongly their views are augmented; the teachers saw the plain frames. See
            ``create_augmentation``.
    """

    path: Path
    pattern: str = '**/*'
    topics: tuple[str, ...] = ()
    every: int = Field(default=1, ge=1)
    confidence: float = Field(default=0.9, ge=0, le=1)
    share: float = Field(default=0.5, gt=0, lt=1)
    strength: float = Field(default=2.0, ge=0, le=10)


@dataclass(frozen=True, config=STRICT)
class DistillationConfig:
    """Teachers, and what the student is to have in common with them.

    The losses of labels stand in ``TrainConfig.loss``, as in any training.

    Attributes:
        teachers: Their probabilities are averaged.
        soft_labels: Where their answers are kept.
        terms: Losses between the answers, also on the logits of an auxiliary head, there times
            ``loss.auxiliary_weight``.
        features: Losses between layers.
        hard_weight: Factor of the losses of labels; 0 learns from the teachers alone.
        on_ignored: Whether the teachers also count where labels are 255.
        unlabelled: Further frames; null for none.
    """

    teachers: Annotated[tuple[TeacherConfig, ...], Field(min_length=1)]
    soft_labels: SoftLabelConfig
    terms: tuple[DistillationTerm, ...] = (DistillationTerm('kl'),)
    features: tuple[FeatureConfig, ...] = ()
    hard_weight: float = Field(default=1.0, ge=0)
    on_ignored: bool = True
    unlabelled: UnlabelledConfig | None = None

    def __post_init__(self) -> None:
        """Check that there is something to learn, once each, from teachers that exist."""
        if not self.terms and not self.features:
            raise ValueError('got neither terms nor features, expected at least one of the two')
        names = [term.name for term in self.terms]
        if len(set(names)) < len(names):
            raise ValueError(f'terms are {", ".join(names)}, expected every loss once')
        for entry in self.features:
            if entry.teacher >= len(self.teachers):
                raise ValueError(
                    f'features: got teacher {entry.teacher}, expected 0 to '
                    f'{len(self.teachers) - 1}: there are {len(self.teachers)} teachers'
                )

    @property
    def needs_soft_labels(self) -> bool:
        """Whether the teachers' answers are needed besides their features."""
        return bool(self.terms) or self.unlabelled is not None
