import numpy as np
import pytest
from scipy.spatial.distance import cdist

from offroad_seg_core.datasets.analysis import two_sample
from offroad_seg_core.datasets.analysis.two_sample import correlation_length, set_distance


def drive(rng, count, memory=0.0, shift=0.0):
    """Return features that follow an autoregression, as neighbouring frames do."""
    noise = rng.normal(size=(count, 6))
    features = noise.copy()
    for place in range(1, count):
        features[place] = memory * features[place - 1] + (1 - memory**2) ** 0.5 * noise[place]
    features[:, 0] += shift
    return features


def test_value_by_hand():
    # Blocks of one frame; within a set neighbours are not compared.
    a = np.array([[0.0], [1], [0], [1], [0], [1], [0], [1]])
    b = a + 10
    pairs = [(i, j) for i in range(8) for j in range(8) if abs(i - j) > 1]
    within = np.mean([abs(a[i] - a[j]) for i, j in pairs])
    expected = (2 * 10 - 2 * within) / (2 * 10)
    assert set_distance(a, b, block_length=1).value == pytest.approx(expected)


def test_blocks_keep_their_frames_together():
    rng = np.random.default_rng(1)
    a, b = drive(rng, 40), drive(rng, 41, shift=1)
    result = set_distance(a, b, block_length=5)
    assert (result.block_length, result.num_blocks) == (5, (8, 9))

    def mean_distance(x, y, far):
        block = np.arange(max(len(x), len(y))) // 5
        keep = np.abs(block[: len(x), None] - block[: len(y)]) > 1 if far else slice(None)
        return cdist(x, y)[keep].mean()

    across = mean_distance(a, b, False)
    energy = 2 * across - mean_distance(a, a, True) - mean_distance(b, b, True)
    assert result.value == pytest.approx(energy / (2 * across))


def test_equal_looks_are_calibrated():
    rng = np.random.default_rng(0)
    results = [set_distance(drive(rng, 60), drive(rng, 50), seed) for seed in range(30)]
    assert abs(np.mean([result.value for result in results])) < 0.002
    assert np.mean([result.low <= 0 <= result.high for result in results]) >= 0.9
    p_values = [result.p_value for result in results]
    assert 0.35 < np.mean(p_values) < 0.65
    assert np.mean(np.array(p_values) < 0.05) <= 0.15


def test_equal_drives_are_calibrated_although_neighbours_resemble_one_another():
    rng = np.random.default_rng(0)
    drives = [(drive(rng, 120, 0.8), drive(rng, 120, 0.8)) for _ in range(20)]
    results = [set_distance(a, b) for a, b in drives]
    assert np.mean([result.p_value < 0.05 for result in results]) <= 0.2
    assert np.mean([result.low <= 0 <= result.high for result in results]) >= 0.9
    naive = [set_distance(a, b, block_length=1) for a, b in drives]
    assert np.mean([result.p_value < 0.05 for result in naive]) > 0.4  # what blocks are for


def test_shifted_looks_are_apart():
    rng = np.random.default_rng(3)
    result = set_distance(drive(rng, 100, 0.5), drive(rng, 100, 0.5, shift=3))
    assert result.low > 0.1
    assert result.low < result.value < result.high < 1
    assert result.p_value == 0.001
    assert result.chance < 0.1
    assert max(abs(result.within_a), abs(result.within_b)) < 0.1


def test_drift_shows_between_the_halves():
    rng = np.random.default_rng(4)
    a = drive(rng, 100)
    a[50:] += 2
    result = set_distance(a, drive(rng, 100), block_length=1)
    assert result.within_a > 0.3
    assert abs(result.within_b) < 0.05


def test_two_single_looks_are_at_distance_1():
    a, b = np.zeros((10, 2)), np.ones((12, 2))
    assert set_distance(a, b).value == pytest.approx(1)
    same = set_distance(a, np.zeros((9, 2)))
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_same_seed_same_result():
    rng = np.random.default_rng(5)
    a, b = drive(rng, 50), drive(rng, 50)
    assert set_distance(a, b, 7) == set_distance(a, b, 7)
    assert set_distance(a, b, 7).p_value != set_distance(a, b, 8).p_value


def test_long_drives_are_thinned(monkeypatch):
    monkeypatch.setattr(two_sample, '_MAX_FRAMES', 100)
    monkeypatch.setattr(two_sample, '_MAX_BLOCKS', 20)
    rng = np.random.default_rng(6)
    result = set_distance(drive(rng, 20_000, shift=2), drive(rng, 30))
    assert result.block_length == 3  # 30 frames must still make eight blocks
    assert result.num_blocks == (34, 10)
    assert result.value > 0.05


@pytest.mark.parametrize(('memory', 'low', 'high'), [(0.0, 1, 1), (0.8, 7, 16)])
def test_correlation_length(memory, low, high):
    assert low <= correlation_length(drive(np.random.default_rng(0), 600, memory)) <= high


def test_correlation_length_ends_at_an_eighth():
    assert correlation_length(np.arange(80.0)[:, None]) == 10
    assert correlation_length(np.zeros((1, 3))) == 1


def test_too_few_frames():
    assert set_distance(np.zeros((7, 3)), np.zeros((99, 3))) is None
    assert set_distance(np.zeros((8, 3)), np.ones((8, 3))) is not None


def test_features_of_two_kinds():
    with pytest.raises(ValueError, match=r'got \(9, 3\) and \(9, 4\).*same function'):
        set_distance(np.zeros((9, 3)), np.zeros((9, 4)))
