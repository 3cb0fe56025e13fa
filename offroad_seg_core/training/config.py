"""Everything that makes one training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets import DatasetConfig
from offroad_seg_core.datasets.transforms import AugmentConfig
from offroad_seg_core.losses import LossConfig
from offroad_seg_core.models import MODELS
from offroad_seg_core.training.optim import OptimizerConfig

Precision = Literal['auto', 'fp32', 'bf16']


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Which network.

    Attributes:
        name: A key of ``MODELS``.
        options: Keyword arguments of its builder.
        input_size: (height, width) that frames are fitted into on the robot; zoom 1 in training.
        mean: Subtracted from RGB values of 0 to 255.
        std: Divides them afterwards.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    input_size: tuple[int, int] = (512, 896)
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        """Check the name."""
        if self.name not in MODELS:
            raise ValueError(f'no model is named {self.name!r}; expected one of {list(MODELS)}')


@dataclass(frozen=True, config=STRICT)
class LoaderConfig:
    """How batches are made.

    Attributes:
        batch_size: Views of a step.
        crop_size: (height, width) of a view.
        num_workers: Processes that prepare batches beside the one that trains; 0 for none.
        cache_gb: Memory for decoded frames; 0 reads them from disk each time.
    """

    batch_size: int = Field(default=8, ge=2)
    crop_size: tuple[int, int] = (256, 448)
    num_workers: int = Field(default=0, ge=0)
    cache_gb: float = Field(default=4.0, ge=0)


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """One training run.

    Attributes:
        name: Names the folder of its results.
        dataset: Frames to train and to validate on.
        model: The network.
        optimizer: Steps, learning rate, averaging.
        loader: Batches.
        augment: Random views.
        loss: What is minimised.
        taxonomy: Name or YAML file of the classes.
        seed: Of the first weights, the order of frames and every augmentation.
        precision: ``auto`` computes in bfloat16 where the processor does so natively.
        validate_every: Steps between validations; also between checkpoints.
        max_validation_frames: Bound of the frames of a validation; 0 takes all.
        init_checkpoint: Start from these weights; the classifier is new if the classes differ.
        output: Folder that holds the runs' folders.
    """

    name: str
    dataset: DatasetConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    loader: LoaderConfig = LoaderConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    taxonomy: str = 'falcon10'
    seed: int = Field(default=1, ge=0)
    precision: Precision = 'auto'
    validate_every: int = Field(default=250, ge=1)
    max_validation_frames: int = Field(default=0, ge=0)
    init_checkpoint: Path | None = None
    output: Path = Path('runs')

    @property
    def folder(self) -> Path:
        """Where this run's files are written."""
        return self.output / self.name
