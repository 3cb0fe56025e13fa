from math import log

from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays
import numpy as np
import pytest

from offroad_seg_core.datasets.analysis.class_weights import (
    SCHEMES,
    ClassCounts,
    class_weights,
    count_frames,
)
from offroad_seg_core.losses import LossConfig


def counts_of(*pixels, present=None):
    pixels = np.array(pixels, np.int64)
    return ClassCounts(pixels, np.array(present or [pixels.sum()] * len(pixels)))


def test_counts_of_frames():
    counts = ClassCounts.of([np.array([6, 2, 0]), np.array([4, 0, 0])], 3)
    assert counts.pixels.tolist() == [10, 2, 0]
    # class 0 is in both frames (8 + 4 labelled pixels), class 1 only in the first
    assert counts.present_pixels.tolist() == [12, 8, 0]


def test_inverse():
    # 1/share is in the ratio 1 : 4 : 4, mean 3
    np.testing.assert_allclose(
        class_weights(counts_of(16, 4, 4), 'inverse'), [1 / 3, 4 / 3, 4 / 3]
    )


def test_inverse_sqrt():
    # shares 2/3, 1/6, 1/6: 1/sqrt is in the ratio 1 : 2 : 2, mean 5/3
    weights = class_weights(counts_of(16, 4, 0, 4), 'inverse_sqrt')
    np.testing.assert_allclose(weights, [0.6, 1.2, 1.0, 1.2])


def test_enet_is_normalised_and_scaled_to_the_number_of_classes():
    raw = np.array([1 / log(1.02 + 0.9), 1 / log(1.02 + 0.1)])
    weights = class_weights(counts_of(90, 10), 'enet')
    np.testing.assert_allclose(weights, raw / raw.sum() * 2)


def test_median_frequency_looks_only_at_frames_that_hold_the_class():
    # frequencies 50/100, 10/20, 10/100: median 0.5 -> 1, 1, 5; mean 7/3
    weights = class_weights(counts_of(50, 10, 10, present=[100, 20, 100]), 'median_frequency')
    np.testing.assert_allclose(weights, np.array([1, 1, 5]) * 3 / 7)


def test_effective_number():
    # N = 2, beta = 1/2: E = (1 - 1/2^n) / (1/2) = 1 and 1.75 for n = 1 and 3
    raw = np.array([1, 1 / 1.75])
    weights = class_weights(counts_of(1, 3), 'effective_number')
    np.testing.assert_allclose(weights, raw / raw.mean())


def test_effective_number_grows_like_the_inverse_for_rare_classes():
    weights = class_weights(counts_of(10**9, 100, 10), 'effective_number')
    assert weights[2] / weights[1] == pytest.approx(10, rel=1e-6)


@pytest.mark.parametrize('scheme', SCHEMES)
@given(arrays.arrays(np.int64, strategies.integers(1, 8), elements=strategies.integers(0, 10**11)))
def test_every_scheme_is_finite_and_favours_the_rare(scheme, pixels):
    counts = ClassCounts(pixels, np.full(len(pixels), max(pixels.sum(), 1)))
    weights = class_weights(counts, scheme)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(len(pixels))
    assert (weights[pixels == 0] == 1).all()
    present = pixels > 0
    ordered = weights[present][np.argsort(pixels[present])]
    assert (np.diff(ordered) <= 1e-9 * ordered[:-1]).all()


@pytest.mark.parametrize('scheme', SCHEMES)
def test_weights_do_not_depend_on_how_many_pixels_were_counted(scheme):
    few, many = counts_of(16_000, 4_000, 400), counts_of(16_000_000, 4_000_000, 400_000)
    np.testing.assert_allclose(class_weights(few, scheme), class_weights(many, scheme), rtol=1e-3)


@pytest.mark.parametrize('scheme', SCHEMES)
def test_nothing_labelled(scheme):
    assert class_weights(counts_of(0, 0), scheme).tolist() == [1, 1]


def test_maximum_cuts_after_the_scaling():
    assert class_weights(counts_of(10**9, 1), 'inverse_sqrt', maximum=1.5)[1] == 1.5


def test_unknown_scheme():
    with pytest.raises(ValueError, match=r"got scheme 'balanced'; expected one of enet, inverse"):
        class_weights(counts_of(1), 'balanced')


def test_frames_are_counted_on_every_fourth_row_and_column(make_frame, frame_set):
    label = np.full((8, 12), 100, np.uint16)
    label[4, 8], label[0, 0], label[1, 1] = 300, 0, 7000
    frames = frame_set([make_frame('a', np.zeros((8, 12, 3), np.uint8), label)])
    # looked at: rows 0, 4 and columns 0, 4, 8; one is bush, one ignored
    assert [counts.tolist() for counts in count_frames(frames)] == [[4, 1, 0]]
    assert [counts.tolist() for counts in count_frames(frames, 1)] == [[93, 1, 1]]


@pytest.mark.parametrize('scheme', SCHEMES)
def test_training_knows_every_scheme(scheme):
    assert LossConfig(class_weights=scheme).class_weights == scheme
