"""From frames to batches of tensors. Which batch comes at which step depends on the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.transforms import AugmentConfig, augment
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.preprocess import Geometry, Preprocessor

Key = tuple[int, int]  # (epoch, index of the frame)


class TrainingViews(Dataset):
    """Random views of frames; a view is a function of (seed, epoch, index)."""

    def __init__(
        self,
        frames: FrameSet,
        crop_size: tuple[int, int],
        spec: InputSpec,
        config: AugmentConfig,
        seed: int,
    ) -> None:
        self.frames = frames
        self._crop_size = crop_size
        self._spec = spec
        self._config = config
        self._seed = seed

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """Return ``image`` (H, W, 3) uint8 RGB and ``target`` (H, W) int64 of crop size."""
        epoch, index = key
        rng = np.random.default_rng((self._seed, epoch, index))
        image, labels = augment(
            *self.frames.read(index), self._crop_size, self._spec, self._config, rng
        )
        return {'image': torch.from_numpy(image), 'target': torch.from_numpy(labels).long()}


class ValidationViews(Dataset):
    """Whole frames as the robot's network sees them, with labels at their own resolution.

    The robot's own preprocessing makes them: resized to fit, padded with the mean colour.
    """

    def __init__(self, frames: FrameSet, spec: InputSpec) -> None:
        self.frames = frames
        self._spec = spec
        self._preprocessor = Preprocessor(spec)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict[str, object]:
        """Return one frame.

        ``image`` is (h, w, 3) uint8 of the network's input size, ``content_size`` the (height,
        width) of the frame in its upper left corner, ``target`` (H, W) uint8 and ``environment``
        a name.
        """
        image, label_map = self.frames.read(index)
        geometry = Geometry.fit(image.shape[:2], 0, self._spec)
        view = self._preprocessor.prepare(image, 'rgb', geometry)[0]
        return {
            'image': torch.from_numpy(view.copy()),  # the next frame overwrites the buffer
            'content_size': geometry.content_size,
            'target': label_map,
            'environment': self.frames.files[index].environment,
        }


class StepBatchSampler(Sampler[list[Key]]):
    """Yield the batch of every training step, from the current step to the last.

    The frames of all epochs stand in one endless line, each epoch shuffled by (seed, epoch); step
    s takes the ``batch_size`` keys from position ``s * batch_size`` on. So a run that resumes at
    any step sees what an uninterrupted one would have seen.

    Args:
        num_frames: Frames of an epoch.
        batch_size: Keys of a batch.
        num_steps: Steps of the whole training.
        seed: Of the shuffles.

    Attributes:
        first_step: Called when iteration begins: the step to go on with.
    """

    def __init__(self, num_frames: int, batch_size: int, num_steps: int, seed: int) -> None:
        self._num_frames = num_frames
        self._batch_size = batch_size
        self._num_steps = num_steps
        self._seed = seed
        self.first_step: Callable[[], int] = lambda: 0

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield the batches that are left."""
        for step in range(self.first_step(), self._num_steps):
            yield self.keys(step)

    def keys(self, step: int) -> list[Key]:
        """Return the (epoch, index) keys of one step."""
        positions = range(step * self._batch_size, (step + 1) * self._batch_size)
        orders: dict[int, np.ndarray] = {}
        keys = []
        for position in positions:
            epoch, place = divmod(position, self._num_frames)
            if epoch not in orders:
                rng = np.random.default_rng((self._seed, epoch))
                orders[epoch] = rng.permutation(self._num_frames)
            keys.append((epoch, int(orders[epoch][place])))
        return keys
