"""Everything that makes one training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets import DatasetConfig
from offroad_seg_core.datasets.augmentation import AugmentConfig, ViewsConfig
from offroad_seg_core.datasets.augmentation.mixing import MixConfig
from offroad_seg_core.datasets.copy_paste.transform import CopyPasteConfig
from offroad_seg_core.datasets.sampling import SamplingConfig
from offroad_seg_core.distillation.config import DistillationConfig
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.losses import LossConfig
from offroad_seg_core.models import MODELS
from offroad_seg_core.training.distributed import DistributedConfig
from offroad_seg_core.training.optim import OptimizerConfig

Precision = Literal['auto', 'fp32', 'bf16', 'fp16']


@dataclass(frozen=True, config=STRICT)
class SmokeConfig:
    """How a network becomes small enough for a trial of a few seconds.

    Attributes:
        options: Take the place of the model's options of these names.
        input_size: (height, width) of frames and views.
    """

    options: dict[str, Any] = Field(default_factory=dict)
    input_size: tuple[int, int] = (128, 224)


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Which network.

    Attributes:
        name: A key of ``MODELS``.
        options: Keyword arguments of its builder.
        input_size: (height, width) that frames are fitted into on the robot; zoom 1 in training.
        resize: ``letterbox`` keeps the frame's aspect and pads, ``stretch`` does not.
        mean: Subtracted from RGB values of 0 to 255.
        std: Divides them afterwards.
        weights: Pretrained weights of the encoder: a name such as ``imagenet``, which is
            downloaded, or the path of a file; null starts from nothing.
        smoke: What ``--smoke`` changes. Left as it is, it is also left out of what is written, so
            that the hashes of earlier configurations stay.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    input_size: tuple[int, int] = (512, 896)
    resize: Literal['letterbox', 'stretch'] = 'letterbox'
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    weights: str | None = None
    smoke: SmokeConfig = Field(
        default=SmokeConfig(), exclude_if=lambda value: value == SmokeConfig()
    )

    def __post_init__(self) -> None:
        """Check the name."""
        if self.name not in MODELS:
            raise ValueError(f'no model is named {self.name!r}; expected one of {list(MODELS)}')

    def input_spec(self, stride: int) -> InputSpec:
        """Return the network's input as the robot will have it.

        Args:
            stride: What the input's height and width are multiples of.
        """
        return InputSpec(
            size=self.input_size, resize=self.resize, mean=self.mean, std=self.std, stride=stride
        )


@dataclass(frozen=True, config=STRICT)
class LoaderConfig:
    """How batches are made.

    Attributes:
        batch_size: Views of a batch, in each process where several train together.
        crop_size: (height, width) of a view.
        crop_scale_range: Smallest and largest side of a batch's views against ``crop_size``,
            drawn anew for each batch; each side is then a multiple of the network's stride.
        num_workers: Processes that prepare batches beside the one that trains; 0 for none: then
            training waits for each batch. Each worker fills about one core, so on a processor
            leave cores to the network; beside a GPU take as many as make a step's batch in a
            step's time.
        prefetch_batches: Batches that each worker prepares ahead. They wait in shared memory,
            15 MB each for 8 views of 512x896; containers often have no more than 64 MB of it.
        cache_gb: Memory of a process for decoded frames, shared by its workers; 0 reads them from
            disk each time.
    """

    batch_size: int = Field(default=8, ge=2)
    crop_size: tuple[int, int] = (256, 448)
    crop_scale_range: tuple[float, float] = (1.0, 1.0)
    num_workers: int = Field(default=0, ge=0)
    prefetch_batches: int = Field(default=2, ge=1)
    cache_gb: float = Field(default=4.0, ge=0)

    def __post_init__(self) -> None:
        """Check the range of crop sizes."""
        low, high = self.crop_scale_range
        if not 0 < low <= high:
            raise ValueError(
                f'crop_scale_range is {self.crop_scale_range}, expected 0 < low <= high'
            )


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """One training run.

    Attributes:
        name: Names the folder of its results.
        dataset: Frames to train and to validate on.
        model: The network.
        optimizer: Steps, learning rate, averaging.
        loader: Batches.
        sampling: How often each frame is drawn.
        copy_paste: Pastes objects of rare classes into frames; null for none.
        augment: Random views.
        mix: Lays parts of views over each other; null for none.
        loss: What is minimised.
        distillation: Teachers to learn from as well; null for none. Then it is also left out of
            what is written, so that the hashes of earlier configurations stay.
        taxonomy: Name or YAML file of the classes.
        seed: Of the first weights, the order of frames and every augmentation.
        precision: ``auto`` computes in bfloat16 where the processor does so natively; ``fp16``,
            for GPUs without it, scales the loss so that small gradients survive.
        validate_every: Steps between validations, each of which saves a checkpoint.
        checkpoint_every: Steps between further checkpoints; 0 for none.
        early_stopping: Stop after so many validations without a better one; 0 never does.
        max_validation_frames: Bound of the frames of a validation; 0 takes all.
        log_every: Steps between rows of steps.csv.
        overfit_frames: Train and validate on the first so many training frames, without
            augmentation, to see whether the rest can learn at all; 0 is off.
        tensorboard: Log curves and pictures for TensorBoard, too; needs that package.
        distributed: In how many processes.
        init_checkpoint: Start from the weights of this checkpoint, or of this bundle's folder;
            the classifier is new if the classes differ.
        output: Folder that holds the runs' folders.
    """

    name: str
    dataset: DatasetConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    loader: LoaderConfig = LoaderConfig()
    sampling: SamplingConfig = SamplingConfig()
    copy_paste: CopyPasteConfig | None = None
    augment: AugmentConfig = ViewsConfig()
    mix: MixConfig | None = None
    loss: LossConfig = LossConfig()
    distillation: DistillationConfig | None = Field(default=None, exclude_if=lambda v: v is None)
    taxonomy: str = 'falcon10'
    seed: int = Field(default=1, ge=0)
    precision: Precision = 'auto'
    validate_every: int = Field(default=250, ge=1)
    checkpoint_every: int = Field(default=0, ge=0)
    early_stopping: int = Field(default=0, ge=0)
    max_validation_frames: int = Field(default=0, ge=0)
    log_every: int = Field(default=10, ge=1)
    overfit_frames: int = Field(default=0, ge=0)
    tensorboard: bool = False
    distributed: DistributedConfig = DistributedConfig()
    init_checkpoint: Path | None = None
    output: Path = Path('runs')

    @property
    def folder(self) -> Path:
        """Where this run's files are written."""
        return self.output / self.name

    def validated(self, num_frames: int) -> range:
        """Return which of so many frames a validation takes."""
        bound = self.max_validation_frames or num_frames
        return range(0, num_frames, -(-num_frames // bound))
