"""What Lightning runs: one training step, one validation frame."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from offroad_seg_core.losses import SegmentationLoss
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.models import create_model
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.ema import update_average
from offroad_seg_core.training.lightning_import import lightning
from offroad_seg_core.training.optim import build_optimizer, learning_rate_factor


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


class SegmentationTask(lightning.LightningModule):
    """A network, its averaged twin, and how they are trained and validated.

    Args:
        config: The run.
        num_classes: Of the taxonomy.
        class_weights: ``(C,)`` float factors of the loss, or None.

    Attributes:
        model: The network in training.
        average: The averaged weights; validation and export use these.
        terms: Loss terms of the last step.
        matrices: Confusion matrix of each environment, from the last validation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, config: TrainConfig, num_classes: int, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.model = create_model(config.model.name, num_classes, **config.model.options)
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        self.loss = SegmentationLoss(config.loss, class_weights)
        self.num_classes = num_classes
        self.input_multiple = cast(int, self.model.input_multiple)
        self.terms: dict[str, float] = {}
        self.matrices: dict[str, ConfusionMatrix] = {}
        shape = (1, 3, 1, 1)
        self.register_buffer('mean', torch.tensor(config.model.mean).view(shape), persistent=False)
        self.register_buffer('std', torch.tensor(config.model.std).view(shape), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn ``(N, H, W, 3)`` uint8 RGB into ``(N, 3, H, W)`` float32 in channels-last order."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch of views."""
        outputs = self.model(self.normalize(batch['image']))
        target = batch['target']
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        main, *auxiliary = (self._loss_of(logits, target) for logits in outputs)
        total = main['total']
        for terms in auxiliary:
            total = total + self.config.loss.auxiliary_weight * terms['total']
        self.terms = {name: value.item() for name, value in main.items()}
        if not torch.isfinite(total):
            raise TrainingError(
                f'the loss is {self.terms} at step {self.global_step}; lower '
                f'optimizer.learning_rate ({self.config.optimizer.learning_rate}) or raise '
                f'optimizer.warmup_steps ({self.config.optimizer.warmup_steps})'
            )
        self.log('loss', total.detach(), prog_bar=True, logger=False)
        return total

    def _loss_of(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        with torch.autocast(logits.device.type, enabled=False):
            return self.loss(_upsample(logits, target.shape[-2:]), target)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        """Move the averaged weights."""
        # global_step has been counted up already
        decay = self.config.optimizer.ema_decay
        update_average(self.average, self.model, decay, self.global_step)

    def on_validation_epoch_start(self) -> None:
        """Forget the matrices of the last validation."""
        self.matrices = {}

    def validation_step(self, frame: dict[str, Any], batch_index: int) -> None:
        """Add one frame to the confusion matrix of its environment."""
        label_map = self.predict(frame)
        environment = frame['environment']
        if environment not in self.matrices:
            self.matrices[environment] = ConfusionMatrix(self.num_classes)
        self.matrices[environment].update(label_map.cpu().numpy(), frame['target'])

    def predict(self, frame: dict[str, Any]) -> Tensor:
        """Return the averaged model's label map at the size of the frame's target, uint8."""
        image = frame['image'].to(self.device).unsqueeze(0)
        logits = _upsample(self.average(self.normalize(image)), image.shape[1:3])
        height, width = frame['content_size']
        logits = _upsample(logits[..., :height, :width], frame['target'].shape)
        return logits.argmax(dim=1)[0].to(torch.uint8)

    def matrix(self) -> ConfusionMatrix:
        """Return the confusion matrix over all environments of the last validation."""
        total = ConfusionMatrix(self.num_classes)
        for matrix in self.matrices.values():
            total = total.merge(matrix)
        return total

    def configure_gradient_clipping(self, *arguments: Any, **options: Any) -> None:
        """Bound the gradients; Lightning's own way refuses fused optimizers."""
        if self.config.optimizer.max_grad_norm:
            nn.utils.clip_grad_norm_(
                self.model.parameters(), self.config.optimizer.max_grad_norm, foreach=True
            )

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its learning-rate schedule, both counted in steps."""
        settings = self.config.optimizer
        optimizer = build_optimizer(self.model, settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, settings)
        )
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }


def _upsample(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(
        logits.float(), size=tuple(size), mode='bilinear', align_corners=False
    )
