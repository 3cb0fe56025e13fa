from pathlib import Path

import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.analysis.duplicates import ImageIndex, near_pairs
from offroad_seg_core.datasets.analysis.facts import measure_image


def brute_force(hashes, groups, limit):
    return [
        (i, j, (int(hashes[i]) ^ int(hashes[j])).bit_count())
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if groups[i] != groups[j] and (int(hashes[i]) ^ int(hashes[j])).bit_count() <= limit
    ]


@pytest.mark.parametrize('limit', [0, 2, 6, 7])
@pytest.mark.parametrize('chunk', [None, 50])
def test_the_search_finds_what_brute_force_finds(limit, chunk, monkeypatch):
    if chunk:
        monkeypatch.setattr(
            'offroad_seg_core.datasets.analysis.duplicates._CANDIDATES_AT_ONCE', chunk
        )
    rng = np.random.default_rng(limit)
    bases = rng.integers(0, 2**64, 20, np.uint64)
    hashes = bases[rng.integers(0, 20, 300)]
    for _ in range(5):  # every hash is 0 to 5 flips from its base
        flip = np.uint64(1) << rng.integers(0, 64, 300).astype(np.uint64)
        hashes = np.where(rng.random(300) < 0.5, hashes ^ flip, hashes)
    groups = rng.integers(0, 3, 300)
    i, j, distance = near_pairs(hashes, groups, limit)
    expected = brute_force(hashes, groups, limit)
    assert expected
    assert list(zip(i.tolist(), j.tolist(), distance.tolist(), strict=True)) == expected


def test_nothing_to_search():
    empty = np.empty(0, np.uint64)
    assert [len(part) for part in near_pairs(empty, np.empty(0, np.int64))] == [0, 0, 0]
    with pytest.raises(ValueError, match='got 8; expected at most 7'):
        near_pairs(empty, empty, 8)


def test_a_hundred_thousand_in_seconds():
    # Quadratic search would need 5e9 comparisons; the timeout of a test is 120 s.
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 100_000, np.uint64)
    hashes[-1] = hashes[0] ^ np.uint64(0b1101)
    i, j, distance = near_pairs(hashes, np.arange(100_000) % 7)
    assert (i.tolist(), j.tolist(), distance.tolist()) == ([0], [99_999], [3])


def scene(seed):
    small = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    return cv2.resize(small, (96, 64), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def index(make_frame):
    index = ImageIndex()

    def add(stem, image, split, environment='here'):
        files = make_frame(stem, image, environment=environment)
        index.add(files, split, measure_image(files.image))

    index.plant = add
    return index


def names(pairs):
    return [(pair.first.stem, pair.second.stem, pair.is_leak) for pair in pairs]


def test_a_planted_leak_is_found(index):
    for seed in range(8):
        index.plant(f'train{seed}', scene(seed), 'train')
        index.plant(f'val{seed}', scene(100 + seed), 'validation')
    copied = cv2.imdecode(cv2.imencode('.jpg', scene(3), [1, 50])[1], 1)
    index.plant('copy', cv2.resize(copied, (80, 60)), 'validation')
    pairs, unchecked = index.near_copies()
    assert {frozenset(pair[:2]) for pair in names(pairs)} == {frozenset(('train3', 'copy'))}
    assert pairs[0].is_leak
    assert pairs[0].distance <= 6
    assert unchecked == 0
    assert index.duplicates() == []


def test_copies_within_a_group_are_no_leak_and_between_environments_another_kind(index):
    index.plant('a', scene(1), 'train')
    index.plant('b', scene(1) // 2, 'train')
    assert index.near_copies() == ([], 0)
    index.plant('c', scene(1) // 2 + 3, 'train', 'there')
    pairs, _ = index.near_copies()
    assert len(pairs) == 1
    assert not pairs[0].is_leak
    assert pairs[0].groups == (('train', 'here'), ('train', 'there'))


def test_a_nearer_copy_in_the_same_split_hides_no_leak(index):
    image = scene(1)
    index.plant('elsewhere', image, 'train', 'there')
    index.plant('seen', image // 2 + 3, 'validation')
    index.plant('copy', image, 'train')
    pairs, _ = index.near_copies()
    assert ('seen', 'copy', True) in names(pairs)
    assert ('elsewhere', 'copy', False) in names(pairs)


def test_equal_hashes_of_pictures_that_show_nothing_are_no_leak(index):
    index.plant('a', np.zeros((8, 10, 3), np.uint8), 'train')
    index.plant('b', np.full((8, 10, 3), 1, np.uint8), 'validation')
    assert index.near_copies() == ([], 0)


def test_no_more_pairs_are_looked_at_than_wanted(index):
    for seed in range(4):
        index.plant(f'a{seed}', scene(seed), 'train')
        index.plant(f'b{seed}', scene(seed) // 2, 'validation')
    pairs, unchecked = index.near_copies(max_pairs=3)
    assert len(pairs) == 3
    assert unchecked == 1


def test_files_of_equal_content(index):
    index.plant('b', scene(1), 'train')
    index.plant('a', scene(1), 'train')
    index.plant('c', scene(2), 'train')
    index.plant('d', scene(1), 'validation')
    assert [[path.stem for path in paths] for paths in index.duplicates()] == [['b', 'a', 'd']]


def test_a_file_in_two_splits_is_a_leak_but_no_duplicate(index):
    index.plant('a', scene(1), 'train')
    index.plant('a', scene(1), 'validation')
    (pair,), _ = index.near_copies()
    assert pair.first == pair.second
    assert isinstance(pair.first, Path)
    assert index.duplicates() == []
