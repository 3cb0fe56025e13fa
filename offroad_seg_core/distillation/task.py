"""One training step of a student."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from offroad_seg_core.distillation.features import FeatureMatching
from offroad_seg_core.distillation.losses import DISTILLATION_LOSSES, Answers
from offroad_seg_core.distillation.soft_labels import ClassSet
from offroad_seg_core.taxonomy import IGNORE_INDEX
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.task import SegmentationTask


class DistillationTask(SegmentationTask):
    """A student, its averaged twin, and what they learn from labels and teachers.

    Args:
        config: The run; has ``distillation``.
        num_classes: Of the taxonomy.
        class_weights: See ``SegmentationTask``.
        class_shares: See ``SegmentationTask``.
        classes: Those that the teachers can name; None: all.

    Raises:
        ConfigError, CheckpointError, BundleError: See ``FeatureMatching``.
    """

    known: Tensor

    def __init__(
        self,
        config: TrainConfig,
        num_classes: int,
        class_weights: Tensor | None = None,
        class_shares: Tensor | None = None,
        classes: ClassSet | None = None,
    ) -> None:
        super().__init__(config, num_classes, class_weights, class_shares)
        assert config.distillation is not None
        self.settings = config.distillation
        known = torch.ones(num_classes, dtype=torch.bool)
        if classes is not None:
            known = torch.from_numpy(classes.mask)
        self.register_buffer('known', known, persistent=False)
        self.features: FeatureMatching | None = None
        if self.settings.features:
            self.features = FeatureMatching(
                self.settings.features, self.settings.teachers, self.model
            )

    def compute_terms(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of the main logits by name, and what is minimised."""
        terms, total = super().compute_terms(batch)
        if self.features is not None:
            losses = self.features(batch['image'])
            terms, total = {**terms, **losses}, total + self.features.weighted(losses)
        return terms, total

    def _loss_of(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = super()._loss_of(logits, batch)
        total = self.settings.hard_weight * terms['total']
        if self.settings.terms:
            with torch.autocast(logits.device.type, enabled=False):
                answers = Answers.of(logits, self._soft_labels(batch), self.known)
                for term in self.settings.terms:
                    terms[term.name] = DISTILLATION_LOSSES[term.name](answers, **term.options)
                    total = total + term.weight * terms[term.name]
        return {**terms, 'total': total}

    def _soft_labels(self, batch: dict[str, Tensor]) -> Tensor:
        """Return what the teachers say of the views, ``(N, C, h, w)``."""
        soft = batch['soft'].permute(0, 3, 1, 2)
        if self.settings.on_ignored:
            return soft
        labelled = (batch['target'] != IGNORE_INDEX).float().unsqueeze(1)
        share = functional.avg_pool2d(labelled, self.output_stride)
        return soft * (share >= 0.5)

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the student's weights and those of the projectors."""
        further = () if self.features is None else self.features.parameters()
        return chain(super().trained_parameters(), further)

    def build_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer over the student and the projectors."""
        optimizer = super().build_optimizer()
        if self.features is not None:
            settings = self.config.optimizer
            optimizer.add_param_group(
                {
                    'params': list(self.features.parameters()),
                    'part': 'body',
                    'lr': settings.learning_rate,
                    'weight_decay': settings.weight_decay,
                }
            )
        return optimizer
