from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.datasets.loading import (  # noqa: E402
    StepBatchSampler,
    TrainingViews,
    ValidationViews,
)
from offroad_seg_core.datasets.transforms import AugmentConfig  # noqa: E402


class Frames:
    """Three frames in memory."""

    class File:
        environment = 'here'

    files = (File,) * 3

    def __len__(self):
        return 3

    def read(self, index):
        rng = np.random.default_rng(index)
        image = rng.integers(0, 255, (30, 40, 3)).astype(np.uint8)
        return image, rng.integers(0, 4, (30, 40)).astype(np.uint8)


class TestStepBatchSampler:
    def test_every_epoch_has_every_frame_once(self):
        sampler = StepBatchSampler(5, 4, 5, seed=1)
        keys = [key for batch in sampler for key in batch]
        assert len(sampler) == 5
        assert Counter(keys) == {(epoch, index): 1 for epoch in range(4) for index in range(5)}
        assert [epoch for epoch, _ in keys] == sorted(epoch for epoch, _ in keys)

    def test_epochs_and_seeds_shuffle_differently(self):
        def order(seed, epoch):
            batches = StepBatchSampler(20, 20, 9, seed)
            return [index for _, index in batches.keys(epoch)]

        orders = [order(1, 0), order(1, 1), order(2, 0)]
        assert order(1, 0) == orders[0]
        assert len({tuple(order) for order in orders}) == 3

    def test_goes_on_where_it_is_told_to(self):
        whole = StepBatchSampler(7, 3, 6, seed=4)
        rest = StepBatchSampler(7, 3, 6, seed=4)
        rest.first_step = lambda: 4
        assert list(rest) == list(whole)[4:]


class TestViews:
    def test_training_view_depends_on_seed_epoch_and_index_only(self):
        def view(seed, key):
            return TrainingViews(Frames(), (32, 64), (64, 96), AugmentConfig(), seed)[key]

        first = view(1, (0, 2))
        assert first['image'].shape == (32, 64, 3)
        assert first['image'].dtype == torch.uint8
        assert first['target'].shape == (32, 64)
        assert first['target'].dtype == torch.int64
        assert torch.equal(first['image'], view(1, (0, 2))['image'])
        for other in (view(2, (0, 2)), view(1, (1, 2)), view(1, (0, 1))):
            assert not torch.equal(first['image'], other['image'])

    def test_validation_keeps_the_label_s_resolution(self):
        view = ValidationViews(Frames(), (64, 64), 32)[1]
        assert view['image'].shape == (64, 64, 3)
        assert view['content_size'] == (48, 64)
        assert np.array_equal(view['target'], Frames().read(1)[1])
        assert view['environment'] == 'here'
