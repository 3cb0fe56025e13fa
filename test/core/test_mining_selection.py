"""Which frames are worth labelling: signals and ranks by hand, and frames that differ."""

from hypothesis import example, given
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.mining.selection import (
    choose,
    hardness,
    hashes_of,
    looks_of,
    measure_signals,
)

NAN = float('nan')


def table(**columns):
    shares = {'share_ground': [0.5, 1.0, 0.9], 'share_rock': [0.5, 0.0, 0.1]}
    default = {
        'mean_confidence': [0.75, NAN, 0.5],
        'unlabeled_share': [0.0, 1.0, 0.5],
        'pixel_accuracy': [0.9, 0.5, 1.0],
        'flicker': [NAN, 0.25, 0.125],
        **shares,
        **columns,
    }
    return {name: np.array(values, np.float64) for name, values in default.items()}


def test_signals_by_hand():
    found = measure_signals(table(), has_reference=True)
    # Half of the last frame has no label, the rest confidence 0.5; the second has no label at all.
    np.testing.assert_allclose(found['uncertainty'], [0.25, 1.0, 0.75])
    np.testing.assert_allclose(found['disagreement'], [0.1, 0.5, 0.0])
    ground, rock = -np.log(0.8), -np.log(0.2)
    np.testing.assert_allclose(
        found['rarity'], [0.5 * ground + 0.5 * rock, ground, 0.9 * ground + 0.1 * rock]
    )
    np.testing.assert_array_equal(found['flicker'], [NAN, 0.25, 0.125])


def test_signals_that_say_nothing_are_left_out():
    silent = table(flicker=[NAN] * 3, mean_confidence=[NAN] * 3, unlabeled_share=[0.0] * 3)
    # Scores that are held against truth are no disagreement of two models.
    assert list(measure_signals(silent, has_reference=False)) == ['rarity']
    # A class that is nowhere is no reason for infinite rarity.
    absent = table(share_rock=[0.0] * 3, share_ground=[1.0] * 3)
    np.testing.assert_array_equal(measure_signals(absent, False)['rarity'], [0.0] * 3)


def test_hardness_is_the_mean_rank():
    signals = {
        'a': np.array([1.0, 3.0, 2.0]),  # ranks 0, 1, 0.5
        'b': np.array([5.0, 5.0, -1e9]),  # ranks 0.75, 0.75, 0
        'c': np.array([NAN, 1.0, 2.0]),  # ranks 0.5 (unknown), 0, 1
    }
    np.testing.assert_allclose(hardness(signals), [1.25 / 3, 1.75 / 3, 1.5 / 3])
    np.testing.assert_array_equal(hardness({'a': np.full(2, 7.0)}), [0.5, 0.5])


def test_a_frame_that_stands_for_many_comes_before_a_harder_one():
    looks = np.array([[0.0], [0.0], [0.0], [1.0], [1.0], [5.0]])
    hashes = np.array([0, 0, 0, 0xFF, 0xFF, 0xFF00], np.uint64)
    scores = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 1.0])
    # Two frames at random are sqrt(2 x variance) = 2.506 apart. Gains: at 0 it is
    # 0.5 (1.5 x 2.506 + 1 x 1.506) = 2.632, at 1 2.382, at 5 1 x 2.506; then 0.5 and 2.506.
    assert choose(scores, hashes, looks, 1) == [0]
    assert choose(scores, hashes, looks, 3) == [0, 5, 3]
    assert choose(scores, hashes, looks, 6) == [0, 5, 3]  # the others are near-copies
    # Two of the three are easy: at 0 0.5 (0.9 x 2.506 + 1 x 1.506) = 1.880, at 1 1.930.
    easy = np.array([0.5, 0.2, 0.2, 0.5, 0.5, 1.0])
    assert choose(easy, hashes, looks, 3) == [5, 3, 0]


def test_where_nothing_is_gained_the_hardest_comes_first():
    hashes = np.array([0, 0xFF, 0xFF00], np.uint64)
    assert choose(np.array([0.2, 0.9, 0.5]), hashes, np.zeros((3, 2)), 2) == [1, 2]
    # 6 bits are a near-copy, 8 are not.
    for other, expected in ((0x3F, [1]), (0xFF, [1, 0])):
        hashes = np.array([other, 0], np.uint64)
        assert choose(np.array([0.1, 0.9]), hashes, np.zeros((2, 1)), 2) == expected


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 2**64 - 1), st.integers(0, 9)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 12),
)
@example([(0.0, 0, 0), (1e-45, 0, 1)], 1)
def test_chosen_frames_are_the_greedy_ones_and_never_alike(frames, count):
    scores = np.array([score for score, _, _ in frames])
    hashes = np.array([value for _, value, _ in frames], np.uint64)
    looks = np.array([[float(look)] for _, _, look in frames])
    chosen = choose(scores, hashes, looks, count)
    assert 1 <= len(chosen) <= count
    values = hashes.tolist()
    alike = np.array([[(a ^ b).bit_count() <= 6 for b in values] for a in values])
    distances = np.abs(looks - looks.T)
    far = np.full(len(frames), np.sqrt(2 * looks.var()))
    allowed = np.ones(len(frames), bool)
    for place in chosen:
        gains = scores * (np.maximum(far - distances, 0) @ scores)
        assert allowed[place]
        assert gains[place] >= gains[allowed].max() - 1e-4
        allowed &= ~alike[place]
        far = np.minimum(far, distances[place])
    assert len(chosen) == count or not allowed.any()


def test_looks_are_those_of_picture_and_classes():
    features = ['ff' * 4, '00' * 4]
    columns = {'image_features': features, 'share_a': np.array([1.0, 0.0])}
    columns['share_b'] = np.array([0.0, 1.0])
    looks = looks_of(columns)
    # Other classes: 1; features of a third in four bins: 2/3.
    assert np.linalg.norm(looks[0] - looks[1]) == pytest.approx(np.hypot(1, 2 / 3))
    with pytest.raises(ValueError, match='hexadecimal'):
        looks_of({**columns, 'image_features': ['zz', 'zz']})


def test_hashes_keep_all_their_bits():
    columns = {'image_hash': ['00000000000000ff', 'ffffffffffffffff']}
    assert hashes_of(columns).tolist() == [255, 2**64 - 1]
    assert hashes_of(columns).dtype == np.uint64
    with pytest.raises(ValueError, match='invalid literal'):
        hashes_of({'image_hash': ['']})
