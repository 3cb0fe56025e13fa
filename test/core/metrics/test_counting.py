from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.metrics.arithmetic import plain
from offroad_seg_core.metrics.counting import (
    count_pairs,
    count_pairs_with_levels,
    count_speckled_pairs,
    count_values,
    refuse_unknown_labels,
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 40))
def test_counts_equal_numpys(seed, height, width):
    rng = np.random.default_rng(seed)
    values, others = rng.integers(0, 256, (2, height, width), np.uint8)
    mask = rng.integers(0, 3, (height, width), np.uint8)
    expected = np.bincount(values[mask > 0], minlength=256)
    np.testing.assert_array_equal(count_values(values, mask), expected)
    pairs = values.astype(np.int64) * 256 + others
    expected = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
    np.testing.assert_array_equal(count_pairs(values, others), expected)
    np.testing.assert_array_equal(count_pairs(values[:, ::-1], others[:, ::-1]), expected)
    for rows in (1, 20, 256):
        counts = count_speckled_pairs(values, others, rows)
        np.testing.assert_array_equal(counts, expected[:rows])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(0, 20), st.integers(1, 400))
def test_pairs_with_levels_equal_numpys(seed, num_classes, size, part_px):
    rng = np.random.default_rng(seed)
    known = np.array([255, *range(num_classes)], np.uint8)
    true, predicted = rng.integers(0, num_classes + 1, (2, size, 20))
    levels = rng.integers(0, 256, true.shape, np.uint8)
    expected = np.zeros((num_classes + 1, num_classes + 1, 256), np.int64)
    np.add.at(expected, (true, predicted, levels), 1)
    maps = [known[true], known[predicted], levels]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('offroad_seg_core.metrics.counting._PART_PX', part_px)
        for turned in (maps, [array.T for array in maps], [array[:, ::-1] for array in maps]):
            counts = count_pairs_with_levels(*turned, num_classes)
            np.testing.assert_array_equal(counts, expected)


def test_pairs_with_levels_leave_unknown_ids_out():
    values = np.arange(256, dtype=np.uint8)
    for num_classes in (1, 10, 24):
        for maps in ((values, values * 0), (values * 0, values)):
            counts = count_pairs_with_levels(*maps, values, num_classes)
            assert counts.sum() == num_classes + 1
            assert counts[..., 255].sum() == 1


def test_counts_beyond_what_a_float_holds_are_exact():
    values = np.zeros((1 << 12, (1 << 12) + 1), np.uint8)
    counts = count_values(values, values + 1)
    assert counts[0] == values.size == (1 << 24) + (1 << 12)
    values[0, 0] = 1
    assert count_values(values, ~values)[:2].tolist() == [values.size - 1, 1]
    assert count_speckled_pairs(values, values, 2)[:, 0].tolist() == [values.size - 1, 0]


def test_unknown_labels():
    labels = np.array([[0, 1, 254]], np.uint8)
    refuse_unknown_labels(labels, labels, 255)
    with pytest.raises(ValueError, match=r'target: got ids 254 \(1 px\); expected 0 to 1 or 255'):
        refuse_unknown_labels(labels[:, :2], labels, 2)


def test_plain_values():
    given_value = {'a': [1.5, float('nan')], 'b': {'c': (np.float64('nan'), 2)}}
    assert plain(given_value) == {'a': [1.5, None], 'b': {'c': [None, 2]}}
