from fractions import Fraction
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.metrics.calibration import CalibrationCounts


def counts_of(num_classes, confidence, label_map, target):
    counts = CalibrationCounts(num_classes)
    counts.update(confidence, np.array(label_map, np.uint8), np.array(target, np.uint8))
    return counts


def test_by_hand():
    # Levels 51, 204 and 255 are 0.2, 0.8 and 1 exactly; the last two pixels count nowhere.
    levels = np.array([[51, 51, 51], [204, 204, 255], [255, 9, 9]], np.uint8)
    target = [[0, 0, 0], [1, 1, 1], [0, 255, 0]]
    labels = [[0, 1, 1], [1, 0, 1], [1, 0, 255]]
    scores = counts_of(2, levels, labels, target).scores(5)
    np.testing.assert_array_equal(scores.bin_pixels, [3, 0, 0, 2, 2])
    np.testing.assert_allclose(scores.bin_accuracy, [1 / 3, np.nan, np.nan, 1 / 2, 1 / 2])
    np.testing.assert_allclose(scores.bin_confidence, [0.2, np.nan, np.nan, 0.8, 1.0])
    gaps = [1 / 3 - 0.2, 0.8 - 1 / 2, 1 - 1 / 2]
    assert scores.ece == pytest.approx((3 * gaps[0] + 2 * gaps[1] + 2 * gaps[2]) / 7)
    assert scores.mce == pytest.approx(0.5)


def test_classes_by_hand():
    levels = np.array([[255, 255, 0, 51]], np.uint8)
    zero, one, never = counts_of(3, levels, [[0, 0, 1, 1]], [[0, 1, 0, 0]]).class_scores(10)
    assert zero.ece == pytest.approx(0.5)  # sure twice, right once
    assert one.ece == pytest.approx((0 + 0.2) / 2)
    assert math.isnan(never.ece)
    assert math.isnan(never.mce)
    np.testing.assert_array_equal(one.bin_pixels, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_floats_count_as_their_level(dtype):
    levels = np.arange(256, dtype=np.uint8)[None]
    labels = np.zeros((1, 256), np.uint8)
    published = counts_of(1, levels, labels, labels)
    floats = counts_of(1, (levels / 255).astype(dtype), labels, labels)
    np.testing.assert_array_equal(floats.counts, published.counts)


def test_a_softmax_may_be_above_one_by_a_rounding():
    labels = np.zeros((1, 1), np.uint8)
    counts = counts_of(1, np.full((1, 1), 1 + 1e-6, np.float32), labels, labels)
    assert counts.counts[0, 1, 255] == 1


def naive_errors(confidence, right, num_bins):
    """Return ECE and MCE, pixel by pixel; ``confidence`` holds fractions, so edges are exact."""
    bins = {}
    for value, is_right in zip(confidence, right, strict=True):
        bins.setdefault(max(1, math.ceil(value * num_bins)), []).append((value, is_right))
    gaps = []
    for members in bins.values():
        values, hits = zip(*members, strict=True)
        gap = abs(Fraction(sum(hits), len(hits)) - sum(values) / len(values))
        gaps.append((float(gap), len(members) / len(confidence)))
    return sum(gap * share for gap, share in gaps), max(gap for gap, _ in gaps)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 254), st.sampled_from([3, 127, 128, 255]))
def test_agreement_with_the_definition(seed, num_bins, num_classes):
    rng = np.random.default_rng(seed)
    target, labels = rng.integers(0, num_classes, (2, 4, 50), np.uint8)
    labels[:2] = target[:2]
    levels = rng.integers(0, 256, target.shape, np.uint8)
    scores = counts_of(num_classes, levels, labels, target).scores(num_bins)
    confidence = [Fraction(int(level), 255) for level in levels.ravel()]
    ece, mce = naive_errors(confidence, (labels == target).ravel().tolist(), num_bins)
    assert scores.ece == pytest.approx(ece, abs=1e-12)
    assert scores.mce == pytest.approx(mce, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_rounding_a_float_moves_little(seed):
    rng = np.random.default_rng(seed)
    confidence = rng.random((1, 500))
    target = np.zeros((1, 500), np.uint8)
    labels = (rng.random((1, 500)) > confidence).astype(np.uint8)
    # One bin, so that none changes its members.
    score = counts_of(2, confidence, labels, target).scores(1).ece
    exact = abs((labels == target).mean() - confidence.mean())
    assert abs(score - exact) <= 1 / 510


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_merged_parts_equal_the_whole(seed, cut):
    rng = np.random.default_rng(seed)
    confidence, labels, target = rng.random(30), *rng.integers(0, 4, (2, 30), np.uint8)
    target[rng.random(30) < 0.3] = 255
    whole = counts_of(4, confidence, labels, target)
    first = counts_of(4, confidence[:cut], labels[:cut], target[:cut])
    second = counts_of(4, confidence[cut:], labels[cut:], target[cut:])
    np.testing.assert_array_equal(second.merge(first).counts, whole.counts)
    order = rng.permutation(30)
    shuffled = counts_of(4, confidence[order], labels[order], target[order])
    np.testing.assert_array_equal(shuffled.counts, whole.counts)
    assert whole.counts.sum() == np.count_nonzero(target != 255)


def test_nothing_measured_is_nan():
    scores = CalibrationCounts(2).scores()
    assert math.isnan(scores.ece)
    assert math.isnan(scores.mce)
    assert not scores.bin_pixels.any()


@pytest.mark.parametrize(
    ('confidence', 'message'),
    [
        (np.zeros((1, 2)), r'confidence: got \(1, 2\) float64; expected \(1, 1\) uint8 or float'),
        (np.zeros((1, 1), np.int64), r'got \(1, 1\) int64'),
        (np.full((1, 1), 1.5), 'got 0.0 to 1.5; expected 0 to 1'),
        (np.full((1, 1), -0.5), 'got -0.5 to 0.0; expected 0 to 1'),
        (np.full((1, 1), np.nan), 'got nan to nan; expected 0 to 1'),
    ],
)
def test_update_refuses_confidences(confidence, message):
    labels = np.zeros((1, 1), np.uint8)
    with pytest.raises(ValueError, match=message):
        counts_of(1, confidence, labels, labels)


def test_other_errors():
    with pytest.raises(ValueError, match=r'label_map: got ids 5 \(1 px\); expected 0 to 1'):
        counts_of(2, np.zeros((1, 1)), [[5]], [[0]])
    with pytest.raises(ValueError, match='num_classes: got 0; expected 1 to 255'):
        CalibrationCounts(0)
    with pytest.raises(ValueError, match='got 2 and 3 classes'):
        CalibrationCounts(2).merge(CalibrationCounts(3))
    with pytest.raises(ValueError, match='num_bins: got 256; expected 1 to 255'):
        CalibrationCounts(2).scores(256)
