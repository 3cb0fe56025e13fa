"""Run a checkpoint over its validation frames, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
import hashlib
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.datasets import DatasetConfig
from offroad_seg_core.datasets.loading import ValidationViews
from offroad_seg_core.evaluation.frame_scores import FrameScores
from offroad_seg_core.evaluation.predictors import Prediction
from offroad_seg_core.evaluation.sources.frame import Frame
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.pipeline import ONE_PASS, Passes
from offroad_seg_core.inference.preprocess import Geometry, Preprocessor
from offroad_seg_core.inference.result import Timings
from offroad_seg_core.inference.sliding_window import WindowRunner
from offroad_seg_core.inference.tta import ViewRunner
from offroad_seg_core.provenance import computes_bf16, network_versions
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
        passes: How often the network sees each frame.
    """

    dataset: DatasetConfig | None = None
    max_frames: int = 0
    progress: bool = True
    passes: Passes = ONE_PASS


def score_checkpoint(checkpoint: Checkpoint, options: PredictionOptions) -> FrameScores:
    """Segment validation frames as training validated them, and score each.

    A frame is read, segmented and forgotten, so that memory does not grow with their number.

    Raises:
        CheckpointError: The weights do not fit the network.
        DatasetError, TaxonomyError: The frames cannot be read, or are of other classes.
    """
    config = checkpoint.config
    predictor = CheckpointPredictor(checkpoint, options.passes)
    dataset = options.dataset or config.dataset
    frames = dataset.frames('validation', checkpoint.taxonomy)
    views = ValidationViews(frames, predictor.spec)
    kept = validation_indices(len(frames), options.max_frames or config.max_validation_frames)
    gallery = np.linspace(0, len(kept) - 1, min(NUM_GALLERY, len(kept))).round().astype(int)
    scores = FrameScores(checkpoint.taxonomy.num_classes, frozenset(gallery.tolist()), len(frames))
    hidden = None if options.progress else True  # None: hidden where nobody would see it
    for index in tqdm(kept, desc=config.name, unit='frame', dynamic_ncols=True, disable=hidden):
        view: dict[str, Any] = views[index]
        prediction = predictor.predict_view(view)
        height, width = view['content_size']
        image = view['image'].numpy()[:height, :width]
        files = frames.files[index]
        scores.add(files.stem, files.environment, image, prediction, view['target'])
    return scores


def validation_indices(num_frames: int, max_frames: int) -> range:
    """Return the frames that a validation takes: evenly spaced, ``max_frames`` at most, 0: all."""
    if max_frames < 0:
        raise ValueError(f'max_frames: got {max_frames}; expected 1 or more, or 0 for all')
    return range(0, num_frames, -(-num_frames // (max_frames or num_frames)))


class CheckpointPredictor:
    """Segments frames as training validates: upsampled logits at the frame's own size.

    Args:
        checkpoint: Of training/train.py.
        passes: How often the network sees each frame.

    Raises:
        CheckpointError: The weights do not fit the network.
        ValueError: The windows do not fit the network.

    Attributes:
        taxonomy: See Predictor, as the next one.
        cost_table: The taxonomy's own costs.
        num_streams: One: PyTorch uses all cores for a frame.
        spec: What the network sees.
    """

    num_streams = 1

    def __init__(self, checkpoint: Checkpoint, passes: Passes = ONE_PASS) -> None:
        self._checkpoint, self._passes = checkpoint, passes
        config = checkpoint.config
        try:
            model = checkpoint.build()
        except RuntimeError as error:  # PyTorch's: weights of another version of the network
            reason = str(error).partition('\n')[0]
            raise CheckpointError(
                f'{checkpoint.path}: does not fit this code: {reason}'
            ) from error
        self.taxonomy = checkpoint.taxonomy
        self.cost_table = self.taxonomy.cost_table()
        spec = config.model.input_spec(model.input_multiple)  # type: ignore[arg-type]
        self.spec = spec if passes.sliding_window is None else passes.sliding_window.spec_of(spec)
        self._preprocessor = Preprocessor(self.spec)
        self._logits = _Logits(model, self.spec, config.precision == 'bf16')
        self._network: Callable[[Tensor], Tensor] = self._logits
        if passes != ONE_PASS:
            self._network = _Merged(self._logits, passes, spec)

    def predict(
        self, frame: Frame, image: CameraImage, maps: Mapping[str, np.ndarray]
    ) -> Prediction:
        """Segment one frame, see Predictor."""
        del frame, maps
        started = time.perf_counter()
        geometry = Geometry.fit(image.size, 0, self.spec)
        batch = self._preprocessor.prepare(image.pixels, image.color_order, geometry)
        view = {
            'image': torch.from_numpy(batch[0]),
            'content_size': geometry.content_size,
            'target': np.empty(image.size, np.uint8),  # only its size matters
        }
        prepared = time.perf_counter()
        found = self.predict_view(view)
        spent_ms = (prepared - started) * 1e3, (time.perf_counter() - prepared) * 1e3
        return found._replace(timings=Timings(*spent_ms, decode_ms=0.0, passes=1))

    def predict_view(self, view: dict[str, Any]) -> Prediction:
        """Segment one view, see ValidationViews."""
        with torch.inference_mode():
            logits = full_logits(self._network, view)
            label_map = logits.argmax(dim=1)[0].to(torch.uint8)
            confidence = logits.softmax(dim=1).amax(dim=1)[0]
        return Prediction(label_map.cpu().numpy(), confidence.cpu().numpy())

    def identity(self) -> dict[str, Any]:
        """Return what the predictions depend on."""
        info = self._checkpoint.info
        return {
            'weights': _digest(self._checkpoint.weights),
            'step': info['step'],
            'config': info['config_sha256'],
            'device': self._logits.device.type,
            'bf16': self._logits.use_bf16,
            'passes': asdict(self._passes),
            **network_versions(),
        }

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the model."""
        config = self._checkpoint.config
        return {
            'model': f'{config.name}, step {self._checkpoint.info["step"]}',
            'engine': f'torch {torch.__version__} {config.precision}, as training validates',
            'options': {
                'weights': _digest(self._checkpoint.weights)[:12],
                'input_size': f'{self.spec.size[0]}x{self.spec.size[1]}',
                **asdict(self._passes),
            },
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process builds its own network, where its device is.
        return CheckpointPredictor, (self._checkpoint, self._passes)

    def close(self) -> None:
        """Do nothing: PyTorch frees the model with this object."""


def _digest(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class _Logits:
    """Maps ``(1, H, W, 3)`` uint8 RGB images to logits, in the precision of the training."""

    def __init__(self, model: nn.Module, spec: InputSpec, use_bf16: bool) -> None:
        has_gpu = torch.cuda.is_available()
        self.device = torch.device('cuda' if has_gpu else 'cpu')
        self._model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore
        # Elsewhere bf16 is emulated: slow, and no closer to what was measured.
        self.use_bf16 = use_bf16 and (has_gpu or computes_bf16())
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(spec.mean, device=self.device).view(shape)
        self._std = torch.tensor(spec.std, device=self.device).view(shape)

    def __call__(self, images: Tensor) -> Tensor:
        images = images.to(self.device).permute(0, 3, 1, 2).float()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bf16):
            return self._model((images - self._mean) / self._std)


class _Merged:
    """Several passes in the place of one."""

    def __init__(self, logits: _Logits, passes: Passes, spec: InputSpec) -> None:
        self._logits, self._passes = logits, passes
        run: Callable[[np.ndarray], np.ndarray] = self._run
        if passes.sliding_window is not None:
            run = WindowRunner(run, passes.sliding_window, spec)
        self._views = ViewRunner(run, spec.stride)

    def __call__(self, images: Tensor) -> Tensor:
        merged, _ = self._views(images.numpy(), self._passes.tta, math.inf)
        return torch.from_numpy(merged).unsqueeze(0).to(self._logits.device)

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._logits(torch.from_numpy(images)).float().cpu().numpy()
