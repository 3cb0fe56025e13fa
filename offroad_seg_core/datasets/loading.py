"""From frames to batches of tensors. Which batch comes at which step depends on the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from offroad_seg_core.datasets.augmentation import (
    Augmentation,
    AugmentConfig,
    TracedAugmentation,
    create_augmentation,
)
from offroad_seg_core.datasets.augmentation.mixing import MixConfig, View, mix
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.sampling import draw_epoch, expected_draws
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.preprocess import Geometry, Preprocessor

Key = tuple[int, int]  # (visit, index of the frame); no frame has the same visit twice

SoftLabelsOf = Callable[[int, np.ndarray], np.ndarray]  # see ViewOptions

# What else is drawn for a batch or a view; each has a stream of random numbers of its own.
_CROP_STREAM = 1
_MIX_STREAM = 2


@dataclass(frozen=True)
class ViewOptions:
    """What makes training views besides the augmentation. By default: nothing.

    Attributes:
        crop_scale_range: Smallest and largest side of a batch's views against ``crop_size``,
            drawn log-uniformly; each side is rounded to a multiple of the network's stride.
        strengths: ``(N,)`` float, how strongly each frame is augmented, see
            ``create_augmentation``; None: all with 1.
        copy_paste: Adds instances to a frame before it is augmented: (image, label_map, rng) to
            (image, label_map).
        mix: Lays a part of one view of a batch over another.
        soft_labels: What a teacher says: (index of the frame, origins of a view's pixels, see
            ``TracedAugmentation``) to ``(h, w, C)`` float, 0 where it says nothing.
    """

    crop_scale_range: tuple[float, float] = (1.0, 1.0)
    strengths: np.ndarray | None = None
    copy_paste: Augmentation | None = None
    mix: MixConfig | None = None
    soft_labels: SoftLabelsOf | None = None


class BatchKeys(list[Key]):
    """The keys of a batch, or of a process' part of it.

    Attributes:
        lead: The first key of the whole batch: what is drawn for all of it comes from this key.
    """

    def __init__(self, keys: Sequence[Key], lead: Key) -> None:
        super().__init__(keys)
        self.lead = lead


class TrainingViews(Dataset):
    """Random views of frames: read, copy-paste, augment, mix.

    A view on its own is a function of (seed, visit, index). In a batch, its size and what is laid
    over it are functions of the batch's keys as well.
    """

    def __init__(
        self,
        frames: FrameSet,
        crop_size: tuple[int, int],
        spec: InputSpec,
        config: AugmentConfig,
        seed: int,
        options: ViewOptions = ViewOptions(),
    ) -> None:
        self.frames = frames
        self._crop_size = crop_size
        self._spec = spec
        self._config = config
        self._seed = seed
        self._options = options
        self._augmentations: dict[tuple[tuple[int, int], float], TracedAugmentation] = {}
        strengths = [1.0] if options.strengths is None else np.unique(options.strengths)
        for strength in strengths:  # mistakes show now and not in a worker
            self._augmentation(crop_size, float(strength))

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """Return ``image`` (H, W, 3) uint8 RGB and ``target`` (H, W) int64 of crop size.

        With soft labels, also ``soft`` (h, w, C) float. Only the views of a batch vary in size
        and are mixed.
        """
        view = _tensors(self._view(key, self._crop_size))
        return {**view, 'target': view['target'].long()}

    def __getitems__(self, keys: Sequence[Key]) -> list[dict[str, Tensor]]:
        """Return the views of a batch, all of one size; the data loader asks for them so.

        Here ``target`` is uint8: int64 would triple what a worker hands over, and its time.
        """
        size = self.batch_crop_size(keys)
        views = [self._view(key, size) for key in keys]
        if self._options.mix is not None:
            # The other view is the next one of the batch: a third view would cost as much again.
            partners = views[1:] + views[:1]
            views = [
                mix(view, partner, self._options.mix, self._rng(key, _MIX_STREAM))
                for key, view, partner in zip(keys, views, partners, strict=True)
            ]
        return [_tensors(view) for view in views]

    def batch_crop_size(self, keys: Sequence[Key]) -> tuple[int, int]:
        """Return the (height, width) of the views of a batch."""
        low, high = self._options.crop_scale_range
        if low == high == 1:
            return self._crop_size
        lead = keys.lead if isinstance(keys, BatchKeys) else keys[0]
        scale = np.exp(self._rng(lead, _CROP_STREAM).uniform(np.log(low), np.log(high)))
        stride = self._spec.stride
        height, width = (max(1, round(side * scale / stride)) * stride for side in self._crop_size)
        return height, width

    def _view(self, key: Key, size: tuple[int, int]) -> View:
        rng = self._rng(key)
        index = key[1]
        frame = image, label_map = self.frames.read(index)
        if self._options.copy_paste is not None:
            image, label_map = self._options.copy_paste(image, label_map, rng)
        strengths = self._options.strengths
        augmentation = self._augmentation(size, 1.0 if strengths is None else strengths[index])
        if self._options.soft_labels is None:
            return augmentation(image, label_map, rng)
        view, labels, origins = augmentation.trace(image, label_map, rng)
        if image is not frame[0]:
            _forget(origins, (image != frame[0]).any(axis=-1))
        return view, labels, self._options.soft_labels(index, origins)

    def _augmentation(self, size: tuple[int, int], strength: float) -> TracedAugmentation:
        if (size, strength) not in self._augmentations:
            made = create_augmentation(self._config, size, self._spec, strength)
            self._augmentations[size, strength] = made
        return self._augmentations[size, strength]

    def _rng(self, key: Key, *stream: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, *key, *stream))


def _forget(origins: np.ndarray, pasted: np.ndarray) -> None:
    """Drop the origins of pixels that were pasted: the teacher has not seen them there."""
    known = ~np.isnan(origins[..., 0])
    x, y = np.rint(origins[known]).astype(np.intp).T
    height, width = pasted.shape
    known[known] = pasted[y.clip(0, height - 1), x.clip(0, width - 1)]
    origins[known] = np.nan


def _tensors(view: View) -> dict[str, Tensor]:
    names = ('image', 'target', 'soft')[: len(view)]
    arrays = map(np.ascontiguousarray, view)
    return {name: torch.from_numpy(a) for name, a in zip(names, arrays, strict=True)}


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

    Of several processes that train together each takes every ``world_size``-th key of a batch
    that is so many times as large: together they see what one process would.

    Args:
        num_frames: Frames of an epoch.
        batch_size: Keys of a batch in each process.
        num_steps: Steps of the whole training.
        seed: Of the shuffles.
        weights: ``(N,)`` how often each frame is drawn against the others, see ``draw_epoch``;
            None for every frame once an epoch.
        rank: Number of this process among those that train together.
        world_size: How many these are.

    Attributes:
        first_step: Called when iteration begins: the step to go on with.
    """

    def __init__(
        self,
        num_frames: int,
        batch_size: int,
        num_steps: int,
        seed: int,
        weights: np.ndarray | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._num_frames = num_frames
        self._batch_size = batch_size * world_size
        self._own = range(rank, self._batch_size, world_size)
        self._num_steps = num_steps
        self._seed = seed
        self._weights = weights
        self.first_step: Callable[[], int] = lambda: 0
        # An epoch draws a frame so often at most; so each epoch has visits of its own.
        self._max_repeats = 1 if weights is None else int(np.ceil(expected_draws(weights).max()))
        self._epochs: dict[int, list[Key]] = {}

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield the batches that are left."""
        for step in range(self.first_step(), self._num_steps):
            yield self.keys(step)

    def keys(self, step: int) -> BatchKeys:
        """Return the (visit, index) keys of one step; without weights a visit is an epoch."""
        first = step * self._batch_size
        places = [divmod(first + place, self._num_frames) for place in (0, *self._own)]
        epochs = dict.fromkeys(epoch for epoch, _ in places)
        self._epochs = {e: self._epochs.get(e) or self._draw(e) for e in epochs}
        lead, *own = (self._epochs[epoch][place] for epoch, place in places)
        return BatchKeys(own, lead)

    def _draw(self, epoch: int) -> list[Key]:
        rng = np.random.default_rng((self._seed, epoch))
        if self._weights is None:
            return [(epoch, index) for index in rng.permutation(self._num_frames).tolist()]
        drawn, repeats = draw_epoch(self._weights, rng)
        visits = epoch * self._max_repeats + repeats
        return list(zip(visits.tolist(), drawn.tolist(), strict=True))
