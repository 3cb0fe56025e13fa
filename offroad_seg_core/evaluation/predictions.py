"""Run a checkpoint over its validation frames, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from offroad_seg_core.datasets import DatasetConfig
from offroad_seg_core.datasets.loading import ValidationViews
from offroad_seg_core.evaluation.frame_scores import FrameScores, Prediction
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.provenance import computes_bf16
from offroad_seg_core.training.checkpoint import Checkpoint, CheckpointError
from offroad_seg_core.training.validation import full_logits

NUM_GALLERY = 6


@dataclass(frozen=True)
class PredictionOptions:
    """What is predicted.

    Attributes:
        dataset: Whose validation frames; None for the run's own.
        max_frames: Bound of the frames, evenly spaced; 0 takes those of the run's validations.
        progress: Show a bar on a terminal.
    """

    dataset: DatasetConfig | None = None
    max_frames: int = 0
    progress: bool = True


def score_checkpoint(checkpoint: Checkpoint, options: PredictionOptions) -> FrameScores:
    """Segment validation frames as training validated them, and score each.

    A frame is read, segmented and forgotten, so that memory does not grow with their number.

    Raises:
        CheckpointError: The weights do not fit the network.
        DatasetError, TaxonomyError: The frames cannot be read, or are of other classes.
    """
    config = checkpoint.config
    try:
        model = checkpoint.build()
    except RuntimeError as error:  # PyTorch's: weights of another version of the network
        reason = str(error).partition('\n')[0]
        raise CheckpointError(f'{checkpoint.path}: does not fit this code: {reason}') from error
    spec = InputSpec(
        size=config.model.input_size,
        resize=config.model.resize,
        mean=config.model.mean,
        std=config.model.std,
        stride=model.input_multiple,  # type: ignore[arg-type]
    )
    dataset = options.dataset or config.dataset
    frames = dataset.frames('validation', checkpoint.taxonomy)
    views = ValidationViews(frames, spec)
    bound = options.max_frames or config.max_validation_frames or len(frames)
    kept = range(0, len(frames), -(-len(frames) // bound))
    gallery = np.linspace(0, len(kept) - 1, min(NUM_GALLERY, len(kept))).round().astype(int)
    scores = FrameScores(checkpoint.taxonomy.num_classes, frozenset(gallery.tolist()), len(frames))
    logits_of = _Logits(model, spec, config.precision == 'bf16')
    hidden = None if options.progress else True  # None: hidden where nobody would see it
    for index in tqdm(kept, desc=config.name, unit='frame', dynamic_ncols=True, disable=hidden):
        view: dict[str, Any] = views[index]
        with torch.inference_mode():
            confidence, label_map = full_logits(logits_of, view).softmax(dim=1).max(dim=1)
        prediction = Prediction(
            label_map[0].to(torch.uint8).cpu().numpy(), confidence[0].cpu().numpy()
        )
        height, width = view['content_size']
        image = view['image'].numpy()[:height, :width]
        files = frames.files[index]
        scores.add(files.stem, files.environment, image, prediction, view['target'])
    return scores


class _Logits:
    """Maps ``(1, H, W, 3)`` uint8 RGB images to logits, in the precision of the training."""

    def __init__(self, model: nn.Module, spec: InputSpec, use_bf16: bool) -> None:
        has_gpu = torch.cuda.is_available()
        self._device = torch.device('cuda' if has_gpu else 'cpu')
        self._model = model.to(self._device, memory_format=torch.channels_last)  # type: ignore
        # Elsewhere bf16 is emulated: slow, and no closer to what was measured.
        self._use_bf16 = use_bf16 and (has_gpu or computes_bf16())
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(spec.mean, device=self._device).view(shape)
        self._std = torch.tensor(spec.std, device=self._device).view(shape)

    def __call__(self, images: Tensor) -> Tensor:
        images = images.to(self._device).permute(0, 3, 1, 2).float()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._use_bf16):
            return self._model((images - self._mean) / self._std)
