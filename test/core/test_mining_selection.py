"""Which frames are worth labelling: signals and ranks by hand, and frames that differ."""

from hypothesis import example, given
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.mining.selection import choose, hardness, hashes_of, measure_signals

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


def test_hard_frames_that_differ_are_chosen():
    near = 0b111111  # 6 bits from 0: a near-copy
    far, middle = (1 << 64) - 1, (1 << 32) - 1
    hashes = np.array([0, near, far, middle], np.uint64)
    scores = np.array([0.9, 0.8, 0.3, 0.7])
    # Of the middle one half the bits differ: 0.7 x 32 is more than 0.3 x 64.
    assert choose(scores, hashes, 4) == [0, 3, 2]
    assert choose(scores, hashes, 2) == [0, 3]
    assert choose(np.array([0.1, 0.8, 0.3, 0.7]), hashes, 1) == [1]
    # 8 bits make another picture.
    assert choose(np.array([0.9, 0.1]), np.array([0, 0xFF], np.uint64), 2) == [0, 1]
    # Frames that nothing speaks for are still taken by their looks.
    assert choose(np.zeros(2), np.array([0, far], np.uint64), 2) == [0, 1]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=12),
    st.integers(1, 12),
)
@example([(0.0, 0), (1e-45, 0)], 1)
def test_chosen_frames_are_never_alike(frames, count):
    scores = np.array([score for score, _ in frames])
    hashes = np.array([value for _, value in frames], np.uint64)
    chosen = choose(scores, hashes, count)
    assert 1 <= len(chosen) <= count
    assert scores[chosen[0]] == scores.max()
    values = [frames[place][1] for place in chosen]
    apart = [(a ^ b).bit_count() for i, a in enumerate(values) for b in values[:i]]
    assert min(apart, default=64) > 6
    if len(chosen) < count:  # all others look like one of them
        others = [value for _, value in frames]
        assert all(min((v ^ c).bit_count() for c in values) <= 6 for v in others)


def test_hashes_keep_all_their_bits():
    columns = {'image_hash': ['00000000000000ff', 'ffffffffffffffff']}
    assert hashes_of(columns).tolist() == [255, 2**64 - 1]
    assert hashes_of(columns).dtype == np.uint64
    with pytest.raises(ValueError, match='invalid literal'):
        hashes_of({'image_hash': ['']})
