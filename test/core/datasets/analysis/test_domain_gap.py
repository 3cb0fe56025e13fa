from dataclasses import replace

import numpy as np
import pytest

from offroad_seg_core.datasets.analysis.domain_gap import (
    ELSEWHERE,
    GroupStatistics,
    compare,
    compare_groups,
    merge,
)
from offroad_seg_core.datasets.analysis.gap_findings import (
    enumerate_words,
    find,
    find_in,
    number,
    percent,
)
from offroad_seg_core.datasets.analysis.gap_suggestions import suggest

NAMES = ('Sky', 'Rocks', 'Flowers', 'Logs')


def group(name, pixels, *, rgb=(120, 120, 120), std=(60, 60, 60), frames=None, features=None):
    pixels = np.array(pixels, np.int64)
    if features is None:
        seed = sum(map(ord, name))
        features = np.random.default_rng(seed).normal(0.1, 0.02, (20, 4)).astype(np.float32)
    return GroupStatistics(
        name=name,
        num_frames=20,
        class_pixels=pixels,
        class_frames=np.array(frames if frames is not None else 20 * (pixels > 0), np.int64),
        mean_rgb=np.array(rgb, np.float64),
        std_rgb=np.array(std, np.float64),
        features=features,
    )


def texts(findings):
    return [finding.text for finding in findings]


def test_class_shift_by_hand():
    gap = compare(group('a', [50, 50, 0, 0]), group('b', [25, 50, 25, 0]), NAMES)
    np.testing.assert_allclose(gap.classes.shares_a, [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(gap.classes.shares_b, [0.25, 0.5, 0.25, 0])
    np.testing.assert_array_equal(gap.classes.log2_ratio, [1, 0, -np.inf, np.nan])
    assert gap.classes.total_variation == 0.25
    assert (gap.classes.absent_a, gap.classes.absent_b) == ((2,), ())


def test_color_shift_by_hand():
    a = group('a', [1, 1, 1, 1], rgb=(50, 60, 90), std=(30, 30, 30))
    b = group('b', [1, 1, 1, 1], rgb=(100, 100, 100), std=(40, 40, 40))
    color = compare(a, b, NAMES).color
    np.testing.assert_allclose(color.shift_rgb, [-50, -40, -10])
    pooled = ((30**2 + 40**2) / 2) ** 0.5
    np.testing.assert_allclose(color.shift_in_std, np.array([-50, -40, -10]) / pooled)
    assert color.contrast_ratio == 0.75
    assert color.luminance_a == pytest.approx(0.299 * 50 + 0.587 * 60 + 0.114 * 90)
    assert color.luminance_b == pytest.approx(100)
    np.testing.assert_allclose(color.tint, [0.25 - 1 / 3, 0.3 - 1 / 3, 0.45 - 1 / 3])


def test_merge_is_what_the_joined_pixels_have():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, high, (40, 3)).astype(np.float64) for high in (100, 250)]
    parts = [
        group(str(i), [1, 2, 0, 0], rgb=image.mean(0), std=image.std(0))
        for i, image in enumerate(images)
    ]
    joined, everything = merge(parts), np.concatenate(images)
    assert (joined.name, joined.num_frames) == (ELSEWHERE, 40)
    np.testing.assert_allclose(joined.mean_rgb, everything.mean(0))
    np.testing.assert_allclose(joined.std_rgb, everything.std(0))
    assert joined.class_pixels.tolist() == [2, 4, 0, 0]
    assert joined.features.shape == (40, 4)


def test_each_of_three_against_the_rest():
    groups = [
        group(name, pixels) for name, pixels in zip('xyz', np.eye(3, 4, dtype=int), strict=True)
    ]
    comparison = compare_groups(groups, NAMES)
    assert [(gap.a.name, gap.b.name) for gap in comparison.gaps] == [
        (name, ELSEWHERE) for name in 'xyz'
    ]
    assert list(comparison.distances) == [(0, 1), (0, 2), (1, 2)]
    assert comparison.gaps[0].classes.shares_b.tolist() == [0, 0.5, 0.5, 0]


def test_of_two_the_second_is_described():
    a, b = group('train', [1, 1, 1, 1]), group('test', [1, 1, 1, 1])
    comparison = compare_groups([a, b], NAMES)
    (gap,) = comparison.gaps
    assert (gap.a.name, gap.b.name) == ('test', 'train')
    forward, backward = comparison.distances[0, 1], gap.distance
    assert (forward.value, forward.low) == (backward.value, backward.low)
    assert (forward.within_a, forward.within_b) == (backward.within_b, backward.within_a)


def test_findings_of_three_groups():
    groups = [
        group('cc', [900, 100, 0, 0], frames=[20, 20, 0, 0]),
        group('w0', [850, 58, 90, 2], frames=[20, 20, 20, 20]),
        group('ww', [850, 58, 90, 2], frames=[20, 20, 20, 20], rgb=(70, 75, 80)),
    ]
    found = [finding for finding in find(compare_groups(groups, NAMES)) if finding.kind != 'alike']
    assert texts(found) == [
        'cc has no Flowers and no Logs (9.0 % and 0.2 % of the pixels elsewhere)',
        'ww is dark: mean luminance 74 against 120',
        'cc is rather bright: mean luminance 120 against 97',
        'w0 is rather bright: mean luminance 120 against 97',
        'ww is bluer: blue makes up 36 % of its mean colour against 33 %',
        'w0 has a larger share of Flowers: 9.0 % of the pixels against 4.5 %',
        'ww has a larger share of Flowers: 9.0 % of the pixels against 4.5 %',
    ]
    assert [(finding.kind, finding.group) for finding in found[:2]] == [
        ('absent', 'cc'),
        ('color', 'ww'),
    ]
    assert found[0].classes == ('Flowers', 'Logs')


def test_findings_of_two_groups_go_both_ways():
    train = group('train', [0, 12, 968, 20])
    test = group('test', [300, 181, 519, 0])
    assert texts(find_in(compare(test, train, NAMES))) == [
        'train has no Sky (30.0 % of the pixels in test)',
        'test has no Logs (2.0 % of the pixels in train)',
        'test has a larger share of Rocks: 18.1 % of the pixels against 1.2 %',
    ]


def test_only_one_group_has_a_class_and_another_almost_none():
    groups = [
        group('a', [900, 50, 0, 50]),
        group('b', [99_000, 990, 10, 0]),
        group('c', [900, 50, 50, 0]),
    ]
    found = texts(find(compare_groups(groups, NAMES)))
    assert 'only a has Logs (5.0 % of its pixels)' in found
    assert 'b has no Logs (2.5 % of the pixels elsewhere)' in found
    assert 'b has almost no Flowers: 0.01 % of the pixels against 2.5 %' in found


def test_a_class_of_few_frames_may_be_missing_by_chance():
    a = group('a', [99, 0, 1, 0])
    b = group('b', [90, 5, 4, 1], frames=[20, 20, 20, 1])
    found = find_in(compare(a, b, NAMES))
    assert found[0].text == (
        'a has no Rocks and no Logs (5.0 % and 1.0 % of the pixels in b); '
        'Logs may be missing by chance'
    )


def test_looks():
    rng = np.random.default_rng(1)
    looks = [rng.normal(mean, 0.1, (30, 4)).astype(np.float32) for mean in (0, 0, 1)]
    same = [
        group(name, [1, 1, 1, 1], features=look) for name, look in zip('abc', looks, strict=True)
    ]
    (alike,) = find(compare_groups(same[:2], NAMES))
    assert alike.text.startswith('pictures of b and a look alike: distance ')
    (apart,) = find(compare_groups(same[1:], NAMES))
    assert apart.text.startswith('pictures of c and b look different: distance 0.8')
    first = find(compare_groups(same, NAMES))[0]
    assert first.text.startswith('pictures of c look like those of no other group: the nearest, ')
    assert [finding.kind for finding in find(compare_groups(same, NAMES))][1:] == ['alike'] * 2


def test_what_is_not_known_is_said():
    nothing = np.zeros((0, 4), np.float32)
    unlabelled = group('target', [0, 0, 0, 0], rgb=[np.nan] * 3, features=nothing)
    found = find(compare_groups([group('train', [1, 1, 1, 1]), unlabelled], NAMES))
    assert texts(found) == [
        'target has no labels: its classes are not compared',
        'target has no readable pictures: its colours are not compared',
        'target has 0 described frames, fewer than 8: how different target looks is not known',
    ]


def test_contrast():
    a = group('a', [1, 1, 1, 1], std=(30, 30, 30))
    found = find_in(compare(a, group('b', [1, 1, 1, 1]), NAMES))
    assert texts(found) == ['a has less contrast: standard deviation 30 against 60']


def test_suggestions_fit_the_findings():
    a = group('a', [99, 0, 1, 0], rgb=(40, 40, 40))
    suggestions = suggest(find_in(compare(a, group('b', [90, 5, 4, 1]), NAMES)))
    assert [suggestion.reason for suggestion in suggestions] == [
        'Classes that a group has not (a: Rocks, Logs)',
        'Other light and colours (a)',
        'Other class shares (Flowers)',
    ]
    assert 'absent_classes' in suggestions[0].action
    assert 'FourierAdaptation' in suggestions[1].action
    assert all(suggestion.doubt for suggestion in suggestions)
    assert suggest([]) == []


@pytest.mark.parametrize(
    ('share', 'text'),
    [(0, '0.0 %'), (1e-7, 'under 0.001 %'), (0.00024, '0.024 %'), (0.0012, '0.12 %')]
    + [(0.0123, '1.2 %'), (0.00996, '1.0 %'), (1, '100.0 %')],
)
def test_percent(share, text):
    assert percent(share) == text


def test_words_and_numbers():
    assert [enumerate_words('abc'[:count]) for count in (1, 2, 3)] == [
        'a',
        'a and b',
        'a, b and c',
    ]
    assert (number(-0.001), number(0.126)) == ('0.00', '0.13')


def test_bad_groups():
    a, b = group('a', [1, 1, 1, 1]), group('b', [1, 1])
    with pytest.raises(ValueError, match="group 'b': got counts of 2 classes; expected 4"):
        compare(a, b, NAMES)
    with pytest.raises(ValueError, match='two or more with different names'):
        compare_groups([a], NAMES)
    with pytest.raises(ValueError, match=r"got \['a', 'a'\]"):
        compare_groups([a, replace(a)], NAMES)


def test_drift_is_said():
    rng = np.random.default_rng(2)
    looks = rng.normal(0, 0.1, (2, 40, 4)).astype(np.float32)
    looks[1, :20, 0] += 1
    looks[1, 20:, 1] += 1
    a, b = (
        group(name, [1, 1, 1, 1], features=look) for name, look in zip('ab', looks, strict=True)
    )
    (found,) = find(compare_groups([a, b], NAMES))
    assert '; the first and second half of b are 0.' in found.text
    (found,) = find(compare_groups([b, a], NAMES))
    assert found.text.startswith('pictures of a and b look different')
    assert 'second half' not in found.text
