"""Teachers: networks that answer in the student's classes, alone or together."""

from __future__ import annotations

from collections.abc import Sequence
import logging
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from offroad_seg_core.config import dump_config
from offroad_seg_core.datasets.label_source import find_mapping
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.distillation.config import TeacherConfig
from offroad_seg_core.distillation.networks import open_network
from offroad_seg_core.distillation.soft_labels import ClassSet
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.preprocess import Geometry, Preprocessor
from offroad_seg_core.inference.sliding_window import WindowRunner
from offroad_seg_core.inference.tta import ViewRunner
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy, TaxonomyError
from offroad_seg_core.training.validation import upsample

log = logging.getLogger(__name__)


class Teacher:
    """A network whose answers are in the student's classes.

    Args:
        config: Which one, and how it is asked.
        taxonomy: The student's.

    Raises:
        DatasetError, TaxonomyError: Its classes are others, and no mapping leads to the student's.
        ValueError: The windows do not fit the network.
        CheckpointError, BundleError: See ``open_network``.
    """

    def __init__(self, config: TeacherConfig, taxonomy: Taxonomy) -> None:
        self.config = config
        self.network = open_network(config.path)
        source = self.network.taxonomy
        try:
            mapping = find_mapping(source, taxonomy, config.mapping)
        except (DatasetError, TaxonomyError) as error:
            raise type(error)(f'teacher {config.path}: {error}') from error
        ids = np.arange(source.num_classes)
        goals = ids if mapping is None else mapping.table[: source.num_classes]
        self.goals = goals.astype(int)
        # Rows add up what classes of the teacher become one; those that are ignored are in none.
        self._sums = (np.arange(taxonomy.num_classes)[:, None] == goals).astype(np.float32)
        self._spec, self._logits = self.network.spec, self.network.logits
        if config.sliding_window is not None:
            self._logits = WindowRunner(self._logits, config.sliding_window, self._spec)
            self._spec = config.sliding_window.spec_of(self._spec)
        self._views = ViewRunner(self._cooled_logits, self._spec.stride)
        self._preprocessor = Preprocessor(self._spec)

    @property
    def known(self) -> np.ndarray:
        """The student's classes that it can name, ``(C,)`` bool."""
        return self._sums.any(axis=1)

    def probabilities(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return the probabilities of the student's classes, ``(C, *size)`` float32.

        Their sum is below 1 where the teacher sees classes that the student does not have.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            size: (height, width) of the result, all of which shows the frame.
        """
        geometry = Geometry.fit(image.shape[:2], 0, self._spec)
        batch = self._preprocessor.prepare(image, 'rgb', geometry)
        logits, _ = self._views(batch, self.config.tta, math.inf)
        full = upsample(torch.from_numpy(logits).unsqueeze(0), geometry.network_size)
        height, width = geometry.content_size
        probs = full[..., :height, :width].softmax(dim=1)
        resized = _resized(probs, size)
        return np.tensordot(self._sums, resized[0].numpy(), axes=1)

    def _cooled_logits(self, images: np.ndarray) -> np.ndarray:
        return self._logits(images) / self.config.temperature

    def identity(self) -> dict[str, Any]:
        """Return what its answers depend on."""
        sliding = self.config.sliding_window
        return {
            'sha256': self.network.sha256,
            'weight': self.config.weight,
            'temperature': self.config.temperature,
            'tta': self.config.tta,
            'sliding_window': sliding and dump_config(sliding),
            'class_ids': self.goals.tolist(),
        }


def _resized(probs: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(1, C, h, w)`` probabilities; a larger pixel has the mean of what it covers."""
    if size[0] <= probs.shape[2] and size[1] <= probs.shape[3]:
        return functional.interpolate(probs, size, mode='area')
    return upsample(probs, size)


class Ensemble:
    """The weighted mean of teachers' probabilities.

    A class is averaged over the teachers that can name it. Where the classes that the student
    has hold less than half of the mean, the ensemble says nothing.

    Args:
        teachers: One or more.
        taxonomy: The student's.
        spec: The student's input; answers are smaller than a frame that is fitted into it.
        stride: How much smaller.
    """

    def __init__(
        self, teachers: Sequence[Teacher], taxonomy: Taxonomy, spec: InputSpec, stride: int
    ) -> None:
        self.teachers = tuple(teachers)
        self._spec = spec
        self._stride = stride
        weights = np.array([teacher.config.weight for teacher in teachers], np.float32)
        known = np.array([teacher.known for teacher in teachers])
        self._weights = weights[:, None, None, None]
        self._totals = (weights @ known)[:, None, None]
        ids = np.flatnonzero(known.any(axis=0)).tolist()
        self.classes = ClassSet(taxonomy.num_classes, tuple(ids))
        unknown = [name for index, name in enumerate(taxonomy.names) if index not in ids]
        if unknown:
            log.warning(
                'no teacher can name %s; the student learns these from labels alone',
                ', '.join(unknown),
            )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the probabilities, ``(C, h, w)`` float32 of sum 1; 0 where nothing is said.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
        """
        content = Geometry.fit(image.shape[:2], 0, self._spec).content_size
        height, width = (-(-side // self._stride) for side in content)
        answers = [teacher.probabilities(image, (height, width)) for teacher in self.teachers]
        mean = (self._weights * np.stack(answers)).sum(axis=0)
        np.divide(mean, self._totals, out=mean, where=self._totals > 0)
        mass = mean.sum(axis=0)
        return np.where(mass >= 0.5, mean / np.maximum(mass, 1e-6), 0).astype(np.float32)

    def label_map(self, image: np.ndarray) -> np.ndarray:
        """Return the likeliest class at the size of the frame, ``(H, W)`` uint8.

        Pixels are 255 where nothing is said. With a stride of 1 probabilities take the way that a
        student's logits take in a validation.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
        """
        probs = upsample(torch.from_numpy(self(image)).unsqueeze(0), image.shape[:2])
        best, labels = probs[0].max(dim=0)
        return labels.masked_fill(best == 0, IGNORE_INDEX).to(torch.uint8).numpy()

    def identity(self) -> dict[str, Any]:
        """Return what the answers depend on, besides the frame."""
        return {
            'teachers': [teacher.identity() for teacher in self.teachers],
            'input_size': list(self._spec.size),
            'resize': self._spec.resize,
            'stride': self._stride,
        }
