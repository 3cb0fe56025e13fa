from types import SimpleNamespace

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.sampling import (
    SamplingConfig,
    class_counts,
    class_shares,
    draw_epoch,
    expected_draws,
    frame_boosts,
    plan_sampling,
)

NAMES = ('sky', 'ground', 'log', 'never')
# Four classes in ten frames: sky in all, ground in 8, a log in one, never in none.
PRESENCE = np.zeros((10, 4), bool)
PRESENCE[:, 0] = True
PRESENCE[:8, 1] = True
PRESENCE[3, 2] = True


class Frames:
    """Label maps in memory."""

    def __init__(self, label_maps, weights=None):
        self.label_maps = label_maps
        self.files = [SimpleNamespace(label=index) for index in range(len(label_maps))]
        self.taxonomy = SimpleNamespace(num_classes=len(NAMES), names=NAMES)
        self.weights = np.ones(len(label_maps)) if weights is None else np.array(weights)

    def __len__(self):
        return len(self.label_maps)

    def reader_of(self, index):
        return SimpleNamespace(read=self.label_maps.__getitem__)


def strip(*ids):
    """Return a label map of 100 pixels of each id."""
    return np.repeat(np.array(ids, np.uint8), 100)[None]


class TestFrameBoosts:
    @pytest.mark.parametrize(
        ('kind', 'of_sky', 'of_ground', 'of_log'),
        [
            ('uniform', 1, 1, 1),
            ('rare_class', 1, 1 / 0.8, 1 / 0.1),
            ('repeat_factor', 1, 1, np.sqrt(0.4 / 0.1)),
        ],
    )
    def test_the_rarest_class_of_a_frame_decides(self, kind, of_sky, of_ground, of_log):
        shares = class_shares(PRESENCE, np.ones(10))
        assert shares == pytest.approx([1, 0.8, 0.1, 0])
        boosts = frame_boosts(PRESENCE, shares, SamplingConfig(kind, threshold=0.4))
        expected = [of_ground] * 3 + [of_log] + [of_ground] * 4 + [of_sky] * 2
        assert boosts == pytest.approx(expected)

    @pytest.mark.parametrize('kind', ['rare_class', 'repeat_factor'])
    def test_bounded(self, kind):
        shares = np.array([1, 1e-9, 0.5, 0])
        config = SamplingConfig(kind, max_boost=4)
        assert frame_boosts(PRESENCE, shares, config).tolist() == [4] * 8 + [1] * 2

    def test_a_frame_without_classes_that_count_is_not_boosted(self):
        config = SamplingConfig('rare_class')
        assert frame_boosts(np.zeros((1, 4), bool), np.zeros(4), config).tolist() == [1]

    def test_shares_are_of_what_is_drawn(self):
        # The frame with the log is drawn three times as often as each of the nine others.
        weights = np.where(PRESENCE[:, 2], 3.0, 1.0)
        assert class_shares(PRESENCE, weights) == pytest.approx([1, 10 / 12, 3 / 12, 0])


class TestDrawEpoch:
    def test_hand_computed_counts(self):
        for seed in range(20):
            frames, repeats = draw_epoch(np.array([3.0, 0, 1, 1, 1]), np.random.default_rng(seed))
            counts = np.bincount(frames, minlength=5)
            assert counts[0] in (2, 3)  # 2.5 expected
            assert counts[1] == 0
            assert set(counts[2:]) <= {0, 1}  # 5/6 expected
            assert counts.sum() == 5
            drawn = sorted(zip(frames.tolist(), repeats.tolist(), strict=True))
            assert drawn == [(i, n) for i in range(5) for n in range(counts[i])]

    @given(
        hnp.arrays(
            np.float64,
            st.integers(1, 40),
            elements=st.floats(0, 1e6) | st.sampled_from([0.0, 1.0, 1 / 3, 1e-7]),
        ).filter(lambda weights: weights.sum() > 0),
        st.integers(0, 2**32),
    )
    @settings(max_examples=300, deadline=None)
    def test_every_frame_is_drawn_as_often_as_expected_to_within_one(self, weights, seed):
        frames, repeats = draw_epoch(weights, np.random.default_rng(seed))
        counts = np.bincount(frames, minlength=len(weights))
        expected = expected_draws(weights)
        assert len(frames) == len(weights)
        assert (counts >= np.floor(expected)).all()
        assert (counts <= np.ceil(expected)).all()
        assert len(set(zip(frames.tolist(), repeats.tolist(), strict=True))) == len(weights)
        assert (repeats < counts[frames]).all()

    def test_over_many_epochs_the_mean_is_what_is_expected(self):
        weights = np.array([1.0, 2, 4, 0.3, 0.7])
        epochs = [draw_epoch(weights, np.random.default_rng((7, e)))[0] for e in range(4000)]
        mean = np.bincount(np.concatenate(epochs)) / len(epochs)
        assert mean == pytest.approx(5 * weights / 8, abs=0.03)  # 4 standard errors

    def test_order_is_shuffled_and_the_generator_s_alone(self):
        weights = np.arange(1.0, 51)

        def order(seed):
            return draw_epoch(weights, np.random.default_rng(seed))[0].tolist()

        assert order(1) == order(1)
        assert order(1) != order(2)
        assert order(1) != sorted(order(1))

    def test_even_weights_draw_every_frame_once(self):
        frames, repeats = draw_epoch(np.full(30, 0.1), np.random.default_rng(3))
        assert sorted(frames) == list(range(30))
        assert not repeats.any()


class TestClassCounts:
    MAPS = (strip(0, 1, 255), strip(0, 0, 2))

    def test_hand_computed(self):
        counts = class_counts(Frames(self.MAPS))
        assert counts.tolist() == [[100, 100, 0, 0], [200, 0, 100, 0]]
        assert counts.dtype == np.int64

    def test_steps_stand_for_what_they_skip(self):
        label_map = np.zeros((8, 12), np.uint8)
        label_map[:, 6:] = 1
        assert class_counts(Frames([label_map]), step=2).tolist() == [[48, 48, 0, 0]]

    def test_frames_without_labels_have_no_pixels(self):
        frames = Frames(self.MAPS)
        frames.files[0].label = None
        assert class_counts(frames).tolist() == [[0, 0, 0, 0], [200, 0, 100, 0]]

    def test_a_damaged_file_is_named(self, tmp_path):
        from offroad_seg_core.datasets.folder import FolderConfig
        from offroad_seg_core.taxonomy import load_taxonomy

        for folder in ('images', 'labels'):
            (tmp_path / 'train' / folder).mkdir(parents=True)
        for index in range(3):
            for folder in ('images', 'labels'):
                path = tmp_path / 'train' / folder / f'{index}.png'
                cv2.imwrite(str(path), np.full((6, 8), index, np.uint8))
        frames = FolderConfig('folder', tmp_path).frames('train', load_taxonomy('falcon10'))
        assert class_counts(frames)[:, :4].tolist() == np.diag([48] * 4)[:3].tolist()
        (tmp_path / 'train' / 'labels' / '1.png').write_bytes(b'torn')
        with pytest.raises(DatasetError, match=r'1\.png'):
            class_counts(frames)


class TestPlan:
    # Nine frames of sky and ground, one with a log of 100 pixels.
    MAPS = (strip(0, 1),) * 9 + (strip(0, 1, 2),)

    def test_uniform_reads_nothing(self):
        class Unread(Frames):
            def reader_of(self, index):
                raise AssertionError

        plan = plan_sampling(Unread(self.MAPS), SamplingConfig())
        assert plan.weights is None
        assert plan.is_rare is None

    def test_uniform_keeps_the_sources_shares(self):
        plan = plan_sampling(Frames(self.MAPS, [2.0] * 4 + [1.0] * 6), SamplingConfig())
        assert plan.weights.tolist() == [2.0] * 4 + [1.0] * 6

    def test_rare_frames_are_drawn_more_often(self):
        plan = plan_sampling(Frames(self.MAPS), SamplingConfig('rare_class'))
        assert plan.weights == pytest.approx([1] * 9 + [10])
        assert plan.is_rare is None

    def test_boosts_multiply_the_sources_weights(self):
        frames = Frames(self.MAPS, [1.0] * 8 + [2.0, 2.0])  # a log in 2 of 12
        plan = plan_sampling(frames, SamplingConfig('rare_class'))
        assert plan.weights == pytest.approx([1] * 8 + [2, 2 * 6])

    def test_few_pixels_do_not_count(self):
        plan = plan_sampling(Frames(self.MAPS), SamplingConfig('rare_class', min_pixels=101))
        assert plan.weights is None

    def test_only_some_classes_count(self):
        plan = plan_sampling(Frames(self.MAPS), SamplingConfig('rare_class', classes=('ground',)))
        assert plan.weights is None

    def test_rare_frames_are_marked_under_any_sampling(self):
        plan = plan_sampling(Frames(self.MAPS), SamplingConfig(rare_strength=2))
        assert plan.weights is None
        assert plan.is_rare.tolist() == [False] * 9 + [True]

    def test_unknown_class(self):
        with pytest.raises(DatasetError, match=r'got rock; expected names .*sky, ground, log'):
            plan_sampling(Frames(self.MAPS), SamplingConfig('rare_class', classes=('rock',)))

    @pytest.mark.parametrize(
        'wrong', [{'kind': 'rare'}, {'max_boost': 0.5}, {'threshold': 0}, {'min_pixels': 0}]
    )
    def test_bad_values(self, wrong):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            load_config(SamplingConfig, wrong)
