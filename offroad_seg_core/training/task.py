"""What Lightning runs: one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from offroad_seg_core.losses import SegmentationLoss
from offroad_seg_core.models import create_model
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.ema import update_average
from offroad_seg_core.training.failures import NonFiniteLossError, TrainingError
from offroad_seg_core.training.lightning_import import lightning
from offroad_seg_core.training.optim import (
    build_optimizer,
    learning_rate_factor,
    learning_rates,
)
from offroad_seg_core.training.validation import upsample

__all__ = ['SegmentationTask', 'TrainingError']


class SegmentationTask(lightning.LightningModule):
    """A network, its averaged twin, and how they are trained.

    Args:
        config: The run.
        num_classes: Of the taxonomy.
        class_weights: ``(C,)`` float factors of the loss, or None.
        class_shares: ``(C,)`` float shares of the training pixels, for losses that want them.

    Attributes:
        model: The network in training.
        average: The averaged weights; validation and export use these.
        terms: Loss terms of the last step.
        learning_rates: Of each part in the last step, see ``learning_rates`` in optim.py.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: TrainConfig,
        num_classes: int,
        class_weights: Tensor | None = None,
        class_shares: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.model = create_model(config.model.name, num_classes, **config.model.options)
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        self.loss = SegmentationLoss(config.loss, class_weights, class_shares)
        self.num_classes = num_classes
        self.input_multiple = cast(int, self.model.input_multiple)
        self.output_stride = cast(int, self.model.stride)
        self._encoder_weights: list[nn.Parameter] = []
        if config.optimizer.freeze_encoder_steps and hasattr(self.model, 'encoder'):
            every = cast(nn.Module, self.model.encoder).parameters()
            self._encoder_weights = [weight for weight in every if weight.requires_grad]
        self.terms: dict[str, float] = {}
        self.learning_rates: dict[str, float] = {}
        self._last_part = (-1, 0)  # step, and which of its batches was seen last
        shape = (1, 3, 1, 1)
        self.register_buffer('mean', torch.tensor(config.model.mean).view(shape), persistent=False)
        self.register_buffer('std', torch.tensor(config.model.std).view(shape), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn ``(N, H, W, 3)`` uint8 RGB into ``(N, 3, H, W)`` float32 in channels-last order."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std

    def average_logits(self, images: Tensor) -> Tensor:
        """Return the averaged model's logits of ``(N, H, W, 3)`` uint8 RGB images."""
        return self.average(self.normalize(images.to(self.device)))

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch of views."""
        frozen = self.global_step < self.config.optimizer.freeze_encoder_steps
        if self.config.optimizer.treats_encoder_apart:
            # Batch norms of a frozen encoder keep their statistics, too.
            cast(nn.Module, self.model.encoder).train(not frozen)
        for weight in self._encoder_weights:
            # Without gradients it costs no backward pass, and counts in neither the bound of the
            # others' gradients nor Adam's averages.
            weight.requires_grad_(not frozen)
        step, part = self._last_part
        self._last_part = (self.global_step, part + 1 if step == self.global_step else 0)
        terms, total = self.compute_terms(batch)
        self.terms = {name: value.item() for name, value in terms.items()}
        if not torch.isfinite(total):
            raise NonFiniteLossError(
                f'the loss is {self.terms} at step {self.global_step}; lower '
                f'optimizer.learning_rate ({self.config.optimizer.learning_rate}) or raise '
                f'optimizer.warmup_steps ({self.config.optimizer.warmup_steps})',
                batch,
                self.terms,
                self._last_part[1],
            )
        self.log('loss', total.detach(), prog_bar=True, logger=False)
        return total

    def compute_terms(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of the main logits by name, and what is minimised."""
        outputs = self.model(self.normalize(batch['image']))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        main, *auxiliary = (self._loss_of(logits, batch) for logits in outputs)
        total = main['total']
        for terms in auxiliary:
            total = total + self.config.loss.auxiliary_weight * terms['total']
        return main, total

    def _loss_of(self, output: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of logits ``(N, C, h, w)``, or of what queries predict."""
        target = batch['target'].long()  # handed over as uint8
        with torch.autocast(target.device.type, enabled=False):
            if isinstance(output, Tensor):
                output = upsample(output, target.shape[-2:])
            return self.loss(output, target)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Move the weights, and the averaged weights after them."""
        # Now, as the schedule goes on before callbacks see the step.
        self.learning_rates = learning_rates(self.trainer.optimizers[0])
        super().optimizer_step(*arguments, **options)
        # Here and not at the end of the batch, where callbacks save before the module's own hook.
        decay = self.config.optimizer.ema_decay
        update_average(self.average, self.model, decay, self.global_step + 1)

    def configure_gradient_clipping(self, *arguments: Any, **options: Any) -> None:
        """Bound the gradients; Lightning's own way refuses fused optimizers."""
        settings = self.config.optimizer
        if not settings.max_grad_norm:
            return
        norm = nn.utils.clip_grad_norm_(
            self.trained_parameters(), settings.max_grad_norm, foreach=True
        )
        # The loss scaler of fp16 leaves such steps out by itself.
        if self.config.precision != 'fp16' and not torch.isfinite(norm):
            raise TrainingError(
                f'the norm of the gradients is {norm.item()} at step {self.global_step}, although '
                f'the loss is {self.terms}; lower optimizer.learning_rate '
                f'({settings.learning_rate}) or set precision=fp32'
            )

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the weights that are trained."""
        return self.model.parameters()

    def build_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer over the weights that are trained, in groups."""
        fused = self.config.precision != 'fp16'
        return build_optimizer(self.model, self.config.optimizer, fused=fused)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its learning-rate schedule, both counted in steps."""
        settings = self.config.optimizer
        optimizer = self.build_optimizer()
        factors: list[Callable[[int], float]] = [
            partial(learning_rate_factor, config=settings, part=group['part'])
            for group in optimizer.param_groups
        ]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }
