from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.datasets.analysis.features import (
    FEATURE_NAMES,
    NUM_FEATURES,
    describe_image,
    lightness_shares,
)


def plain(level, size=(60, 96)):
    return np.full((*size, 3), level, np.uint8)


def named(features):
    return dict(zip(FEATURE_NAMES, features.tolist(), strict=True))


def test_black_above_white():
    image = plain(0)
    image[20:] = 255
    features = named(describe_image(image))
    # Each third has one lightness: its whole histogram, sqrt(1 / (2 * 9 histograms)).
    one = pytest.approx(18**-0.5, rel=1e-6)
    assert features['top/lightness/0'] == one
    assert features['middle/lightness/11'] == one
    assert features['bottom/lightness/11'] == one
    assert features['bottom/chroma/12'] == one  # grey: the middle of 5 x 5 bins
    assert features['bottom/edges/0'] == one
    # The level edge lies on one row of 20 above and one below; the gradient points down: 90 deg.
    assert features['top/edges/14'] == pytest.approx((1 / 20 / 18) ** 0.5, rel=1e-6)
    assert features['middle/edges/14'] == pytest.approx((1 / 20 / 18) ** 0.5, rel=1e-6)


def test_upright_edges_have_another_orientation():
    image = plain(0)
    image[:, 48:] = 255
    features = named(describe_image(image))
    assert features['top/edges/12'] == pytest.approx((2 / 96 / 18) ** 0.5, rel=1e-6)


@pytest.mark.parametrize(
    ('color', 'position'), [((200, 60, 60), 4), ((60, 160, 60), 0), ((60, 60, 200), 4)]
)
def test_chroma_is_where_the_color_is(color, position):
    image = np.broadcast_to(np.array(color, np.uint8), (60, 96, 3))
    chroma = np.argmax([named(describe_image(image))[f'top/chroma/{k}'] for k in range(25)])
    assert chroma // 5 == position  # a*: green below, red and blue above


def test_distances_are_between_0_and_1():
    black, white = describe_image(plain(0)), describe_image(plain(255))
    assert np.linalg.norm(black - black) == 0
    # Lightness differs in all thirds, chroma and edges in none: a third of the histograms.
    assert np.linalg.norm(black - white) == pytest.approx((1 / 3) ** 0.5, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1), st.sampled_from([1, 7])
)
def test_any_size_gives_unit_histograms(height, width, seed, grain):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (-(-height // grain), -(-width // grain), 3), np.uint8)
    image = small.repeat(grain, 0).repeat(grain, 1)[:height, :width]
    features = describe_image(image)
    assert features.shape == (NUM_FEATURES,)
    assert features.dtype == np.float32
    assert np.square(features, dtype=np.float64).sum() == pytest.approx(0.5, rel=1e-5)
    np.testing.assert_array_equal(features, describe_image(image.copy()))


def test_a_larger_picture_of_the_same_looks_the_same():
    small = np.random.default_rng(0).integers(0, 256, (60, 96, 3), np.uint8)
    large = small.repeat(8, 0).repeat(8, 1)
    np.testing.assert_array_equal(describe_image(small), describe_image(large))


def test_lightness_shares_of_two_pictures():
    shares = lightness_shares(np.stack([describe_image(plain(0)), describe_image(plain(255))]))
    assert shares.shape == (3, 12)
    np.testing.assert_allclose(shares[:, [0, 11]], 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    'image', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3))]
)
def test_not_a_picture(image):
    with pytest.raises(ValueError, match=r'expected RGB \(H, W, 3\) uint8'):
        describe_image(image)
