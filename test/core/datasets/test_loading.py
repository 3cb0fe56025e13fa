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
from offroad_seg_core.inference.manifest import InputSpec  # noqa: E402


def spec(size):
    return InputSpec(size=size, mean=(123.675, 116.28, 103.53), std=(58.0, 57.0, 57.0))


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
            return TrainingViews(Frames(), (32, 64), spec((64, 96)), AugmentConfig(), seed)[key]

        first = view(1, (0, 2))
        assert first['image'].shape == (32, 64, 3)
        assert first['image'].dtype == torch.uint8
        assert first['target'].shape == (32, 64)
        assert first['target'].dtype == torch.int64
        assert torch.equal(first['image'], view(1, (0, 2))['image'])
        for other in (view(2, (0, 2)), view(1, (1, 2)), view(1, (0, 1))):
            assert not torch.equal(first['image'], other['image'])

    def test_validation_keeps_the_label_s_resolution(self):
        view = ValidationViews(Frames(), spec((64, 64)))[1]
        assert view['image'].shape == (64, 64, 3)
        assert view['content_size'] == (48, 64)
        assert np.array_equal(view['target'], Frames().read(1)[1])
        assert view['environment'] == 'here'

    @pytest.mark.parametrize(
        ('size', 'content_size'), [((64, 224), (64, 85)), ((256, 64), (48, 64))]
    )
    def test_validation_fills_the_whole_input_as_the_robot_does(self, size, content_size):
        view = ValidationViews(Frames(), spec(size))[0]
        image = view['image'].numpy().copy()
        assert image.shape == (*size, 3)
        assert view['content_size'] == content_size
        height, width = content_size
        image[:height, :width] = (124, 116, 104)
        assert np.unique(image.reshape(-1, 3), axis=0).tolist() == [[124, 116, 104]]

    def test_validation_frames_stay_as_they_are_when_the_next_is_read(self):
        views = ValidationViews(Frames(), spec((64, 64)))
        first = views[0]['image']
        before = first.clone()
        assert not torch.equal(views[1]['image'], first)
        assert torch.equal(first, before)
