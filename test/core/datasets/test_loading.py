from collections import Counter
import pickle

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.datasets.augmentation.mixing import MixConfig, mix  # noqa: E402
from offroad_seg_core.datasets.augmentation.photometric import PhotometricConfig  # noqa: E402
from offroad_seg_core.datasets.augmentation.pipeline import PipelineConfig  # noqa: E402
from offroad_seg_core.datasets.augmentation.views import ViewsConfig, augment  # noqa: E402
from offroad_seg_core.datasets.loading import (  # noqa: E402
    StepBatchSampler,
    TrainingViews,
    ValidationViews,
    ViewOptions,
)
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


class TestWeightedBatches:
    WEIGHTS = np.array([1.0, 1, 1, 5, 0, 2, 1])  # of 7 draws 0.64, 3.18, 0 and 1.27 expected

    def test_without_weights_an_epoch_is_a_permutation_by_seed_and_epoch(self):
        keys = [key for batch in StepBatchSampler(6, 4, 3, seed=9) for key in batch]
        orders = [np.random.default_rng((9, epoch)).permutation(6) for epoch in (0, 1)]
        assert keys == [(epoch, int(i)) for epoch in (0, 1) for i in orders[epoch]]

    @given(st.integers(1, 12), st.integers(0, 1000), st.integers(0, 30))
    @settings(max_examples=60, deadline=None)
    def test_every_epoch_has_its_share_and_no_key_comes_twice(self, batch_size, seed, first):
        num_steps = -(-4 * 7 // batch_size)  # of four epochs at least
        sampler = StepBatchSampler(7, batch_size, num_steps, seed, self.WEIGHTS)
        batches = list(sampler)
        keys = [key for batch in batches for key in batch]
        assert len(set(keys)) == len(keys)
        for epoch in range(4):
            drawn = Counter(index for _, index in keys[7 * epoch : 7 * epoch + 7])
            assert drawn[3] in (3, 4)
            assert drawn[4] == 0
            assert drawn[5] in (1, 2)
            assert max(drawn[index] for index in (0, 1, 2, 6)) <= 1
        sampler = StepBatchSampler(7, batch_size, num_steps, seed, self.WEIGHTS)
        sampler.first_step = lambda: first
        assert list(sampler) == batches[first:]

    def test_any_step_alone(self):
        sampler = StepBatchSampler(7, 3, 20, 1, self.WEIGHTS)
        batches = list(sampler)
        assert [sampler.keys(step) for step in (17, 2, 9)] == [batches[s] for s in (17, 2, 9)]


class TestBatchesOfViews:
    KEYS = ((0, 2), (0, 0), (1, 1))
    CONFIG = ViewsConfig()
    STILL = ViewsConfig(
        scale_range=(1.0, 1.0),
        rotation_deg=0.0,
        flip_probability=0.0,
        max_class_share=1.0,
        photometric=PhotometricConfig(strength=0.0),
    )

    def views(self, config=CONFIG, size=(32, 64), **options):
        return TrainingViews(Frames(), size, spec((64, 96)), config, 5, ViewOptions(**options))

    def test_by_default_each_view_is_what_augment_makes_of_seed_visit_and_index(self):
        views = self.views()
        for key, view in zip(self.KEYS, views.__getitems__(self.KEYS), strict=True):
            rng = np.random.default_rng((5, *key))
            image, labels = augment(
                *Frames().read(key[1]), (32, 64), spec((64, 96)), self.CONFIG, rng
            )
            for found in (view, views[key]):
                assert np.array_equal(found['image'].numpy(), image)
                assert np.array_equal(found['target'].numpy(), labels)

    def test_sizes_of_a_batch_are_equal_multiples_of_the_stride_within_the_range(self):
        views = self.views(size=(64, 128), crop_scale_range=(0.5, 2.0))
        sizes = set()
        for visit in range(60):
            keys = [(visit, 0), (visit, 1)]
            size = views.batch_crop_size(keys)
            assert size == views.batch_crop_size(keys)
            sizes.add(size)
            assert size[0] % 32 == size[1] % 32 == 0
            assert 32 <= size[0] <= 128
            assert 64 <= size[1] <= 256
        assert len({width for _, width in sizes}) == 7
        batch = views.__getitems__(keys)
        assert {view['target'].shape for view in batch} == {size}
        assert {view['image'].shape for view in batch} == {(*size, 3)}

    def test_a_small_scale_leaves_one_stride(self):
        views = self.views(size=(32, 64), crop_scale_range=(0.01, 0.01))
        assert views.batch_crop_size([(0, 0)]) == (32, 32)

    def test_rare_frames_vary_more(self):
        photometric = PhotometricConfig(strength=1.0, gray_probability=0.0)
        config = ViewsConfig(photometric=photometric)
        plain, rare = (
            self.views(config, strengths=np.array([1.0, strength, 1.0])) for strength in (1.0, 2.0)
        )
        changed = [
            not torch.equal(plain[0, index]['image'], rare[0, index]['image'])
            for index in range(3)
        ]
        assert changed == [False, True, False]

    def test_copy_paste_comes_before_the_augmentation_and_draws_from_the_view_s_generator(self):
        def paste(image, label_map, rng):
            assert image.shape[:2] == label_map.shape == (30, 40)
            return np.full_like(image, rng.integers(256)), np.full_like(label_map, 3)

        view = self.views(self.STILL, copy_paste=paste)[0, 1]
        inside = view['target'] != 255
        assert torch.unique(view['target'][inside]).tolist() == [3]
        color = np.random.default_rng((5, 0, 1)).integers(256)
        assert torch.unique(view['image'][inside]).tolist() == [color]

    @pytest.mark.parametrize('kind', ['cutmix', 'classmix'])
    def test_each_view_is_mixed_with_the_next_as_it_was(self, kind):
        config = MixConfig(kind, probability=1.0)
        plain = self.views().__getitems__(self.KEYS)
        plain = [(v['image'].numpy(), v['target'].numpy().astype(np.uint8)) for v in plain]
        mixed = self.views(mix=config).__getitems__(self.KEYS)
        for index, view in enumerate(mixed):
            rng = np.random.default_rng((5, *self.KEYS[index], 2))
            image, labels = mix(plain[index], plain[(index + 1) % 3], config, rng)
            assert np.array_equal(view['image'].numpy(), image)
            assert np.array_equal(view['target'].numpy(), labels)
        assert any((m['target'].numpy() != p[1]).any() for m, p in zip(mixed, plain, strict=True))

    def test_soft_labels_are_asked_for_where_the_view_shows_the_frame(self):
        asked = []

        def soft_labels(index, origins):
            asked.append((index, origins))
            return np.full((4, 8, 2), index, np.float16)

        views = self.views(soft_labels=soft_labels)
        plain = self.views().__getitems__(self.KEYS)
        for view, expected, key in zip(
            views.__getitems__(self.KEYS), plain, self.KEYS, strict=True
        ):
            assert torch.equal(view['image'], expected['image'])
            assert torch.equal(view['target'], expected['target'])
            assert torch.equal(view['soft'], torch.full((4, 8, 2), key[1], dtype=torch.float16))
            index, origins = asked.pop(0)
            assert index == key[1]
            assert np.array_equal(np.isnan(origins[..., 0]), expected['target'] == 255)

    def test_a_teacher_says_nothing_of_what_was_pasted(self):
        def paste(image, label_map, rng):
            image = image.copy()
            image[10:20, 5:15] = 255 - image[10:20, 5:15] | 1
            return image, label_map

        def soft_labels(index, origins):
            return np.nan_to_num(origins, nan=-1)

        view = self.views(self.STILL, copy_paste=paste, soft_labels=soft_labels)[0, 1]
        known = view['soft'][..., 0] >= 0
        x, y = (
            self.views(self.STILL, soft_labels=soft_labels)[0, 1]['soft'].numpy().T
        )  # each (width, height)
        pasted = (x >= 4.5) & (x < 14.5) & (y >= 9.5) & (y < 19.5)
        assert np.array_equal(known.numpy().T, (x >= 0) & ~pasted)

    def test_the_loader_s_batches_do_not_depend_on_its_workers(self):
        views = self.views(mix=MixConfig(), crop_scale_range=(0.5, 1.0))

        def batches(workers):
            sampler = StepBatchSampler(3, 2, 4, 1, np.array([1.0, 3, 1]))
            loader = torch.utils.data.DataLoader(views, batch_sampler=sampler, num_workers=workers)
            return [(batch['image'], batch['target']) for batch in loader]

        for alone, shared in zip(batches(0), batches(2), strict=True):
            assert all(map(torch.equal, alone, shared))

    def test_mistakes_in_a_pipeline_show_before_the_first_batch(self, tmp_path):
        transform = {'name': 'ReinhardTransfer', 'target': str(tmp_path)}
        config = PipelineConfig('pipeline', transforms=(transform,))
        with pytest.raises(ValueError, match=r'ReinhardTransfer.*no images'):
            self.views(config)

    @pytest.mark.parametrize(
        'config', [ViewsConfig(), PipelineConfig('pipeline', 'falcon_domain_gap')]
    )
    def test_can_be_sent_to_another_process(self, config):
        views = self.views(config, mix=MixConfig(), strengths=np.array([2.0, 1.0, 2.0]))
        again = pickle.loads(pickle.dumps(views))
        assert torch.equal(again[0, 1]['image'], views[0, 1]['image'])


class TestViews:
    def test_training_view_depends_on_seed_epoch_and_index_only(self):
        def view(seed, key):
            return TrainingViews(Frames(), (32, 64), spec((64, 96)), ViewsConfig(), seed)[key]

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
