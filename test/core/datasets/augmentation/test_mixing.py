from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.datasets.augmentation.mixing import MixConfig, mix

CUT = MixConfig('cutmix', probability=1.0)
CLASSES = MixConfig('classmix', probability=1.0)


class Fixed:
    """Generator whose draws are known: share kept 1/4, rectangle around (4, 3), classes given."""

    def __init__(self, center=(4, 3), chosen=()):
        self.centers = iter(center)
        self.chosen = chosen

    def random(self):
        return 0.0

    def beta(self, a, b):
        return 0.75

    def integers(self, high):
        return next(self.centers)

    def choice(self, present, count, replace):
        assert not replace
        assert count == len(self.chosen)
        assert set(self.chosen) <= set(present)
        return np.array(self.chosen)


def view(labels):
    """Return a view whose colours are ten times its labels."""
    labels = np.array(labels, np.uint8)
    return np.repeat(labels[..., None], 3, axis=2) // 10, labels


def flat(value, size=(8, 12)):
    return view(np.full(size, value))


def rng(seed=0):
    return np.random.default_rng(seed)


class TestCutMix:
    def test_hand_computed(self):
        image, labels = mix(flat(10), flat(20), CUT, Fixed())
        expected = np.full((8, 12), 10)
        expected[2:6, 0:6] = 20  # half of each side: 4 x 6 pixels around (4, 3)
        assert np.array_equal(labels, expected)
        assert np.array_equal(image[..., 1], expected // 10)

    def test_what_goes_along_at_a_quarter_becomes_the_mean_of_its_pixels(self):
        first, second = np.full((2, 3, 1), 1.0, np.float16), np.full((2, 3, 1), 3.0, np.float16)
        *_, soft = mix((*flat(10), first), (*flat(20), second), CUT, Fixed())
        # Rows 2 to 5 and columns 0 to 5: half of the blocks' rows, then half of their columns.
        expected = np.array([[1 + 2 * 0.5, 1 + 2 * 0.25, 1]] * 2)
        assert soft.dtype == np.float16
        assert np.allclose(soft[..., 0], expected)
        assert (first == 1).all()

    def test_what_leaves_the_view_is_cut_off(self):
        _, labels = mix(flat(1), flat(2), CUT, Fixed(center=(0, 11)))
        expected = np.full((8, 12), 1)
        expected[0:2, 8:12] = 2
        assert np.array_equal(labels, expected)

    def test_share_before_the_cut_is_uniform(self):
        # Of each side of length s a rectangle around any pixel covers s - s²/4 on average; with
        # s² uniform in [0, 1] the mean of the square is 1/2 - 1/5 + 1/48.
        size = (100, 140)
        views = flat(1, size), flat(2, size)
        shares = [(mix(*views, CUT, rng(seed))[1] == 2).mean() for seed in range(1000)]
        assert np.mean(shares) == pytest.approx(0.3208, abs=0.025)  # 3 standard errors


class TestClassMix:
    SECOND = ((0, 0, 1, 1), (2, 2, 3, 255))

    @pytest.mark.parametrize(
        ('chosen', 'expected'),
        [
            ((0, 3), [[0, 0, 9, 9], [9, 9, 3, 9]]),
            ((1, 2), [[9, 9, 1, 1], [2, 2, 9, 9]]),
        ],
    )
    def test_hand_computed(self, chosen, expected):
        image, labels = mix(flat(9, (2, 4)), view(self.SECOND), CLASSES, Fixed(chosen=chosen))
        assert labels.tolist() == expected
        assert (image[..., 0] == labels // 10).all()

    def test_half_is_rounded_up(self):
        assert mix(flat(9), flat(4), CLASSES, rng())[1].tolist() == flat(4)[1].tolist()

    def test_nothing_labelled_changes_nothing(self):
        assert np.array_equal(mix(flat(9), flat(255), CLASSES, rng())[1], flat(9)[1])


@pytest.mark.parametrize('config', [CUT, CLASSES], ids=lambda config: config.kind)
class TestBoth:
    @given(seed=st.integers(0, 2**32))
    @settings(max_examples=60, deadline=None)
    def test_each_pixel_is_of_one_view_and_255_is_never_laid_over(self, config, seed):
        draw = np.random.default_rng(seed)
        first, second = (
            (
                draw.integers(0, 256, (9, 7, 3)).astype(np.uint8),
                draw.choice(np.array([0, 1, 2, 255], np.uint8), (9, 7)),
            )
            for _ in range(2)
        )
        copies = [array.copy() for array in (*first, *second)]
        image, labels = mix(first, second, config, rng(seed))
        kept = (image == first[0]).all(-1) & (labels == first[1])
        laid = (image == second[0]).all(-1) & (labels == second[1])
        assert (kept | laid).all()
        assert not (~kept & (labels == 255)).any()
        assert all(map(np.array_equal, copies, (*first, *second)))
        assert image.dtype == labels.dtype == np.uint8

    def test_the_generator_decides(self, config):
        first, second = flat(1), view(np.arange(96).reshape(8, 12) % 12)
        results = [mix(first, second, config, rng(seed))[1].tobytes() for seed in (1, 1, 2)]
        assert results[0] == results[1] != results[2]

    def test_as_often_as_configured(self, config):
        rare = MixConfig(config.kind, probability=0.2)
        first = flat(1)
        kept = [mix(first, flat(2), rare, rng(seed)) is first for seed in range(500)]
        assert 0.74 < np.mean(kept) < 0.86

    def test_sizes_differ(self, config):
        with pytest.raises(ValueError, match=r'\(8, 12\) and \(2, 4\); expected the same'):
            mix(flat(1), flat(2, (2, 4)), config, rng())


@pytest.mark.parametrize('wrong', [{'kind': 'mixup'}, {'probability': 1.5}, {'alpha': 0}])
def test_bad_values(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        load_config(MixConfig, wrong)
