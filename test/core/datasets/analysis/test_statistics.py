import random

import numpy as np
import pytest

from offroad_seg_core.datasets.analysis import statistics as statistics_module
from offroad_seg_core.datasets.analysis.class_weights import class_weights
from offroad_seg_core.datasets.analysis.features import describe_image
from offroad_seg_core.datasets.analysis.scan import ScanOptions, scan
from offroad_seg_core.datasets.analysis.statistics import DatasetStatistics, draw, join_groups
from offroad_seg_core.datasets.masks import MaskReader


@pytest.fixture
def add_up(taxonomy, reader, frame_set):
    def add_up(files, split='train', statistics=None, options=ScanOptions(workers=1)):  # noqa: B008
        statistics = statistics or DatasetStatistics(taxonomy)
        for record in scan(frame_set(files), options):
            statistics.add(record, split, reader)
        return statistics

    return add_up


def image_of(*colors):
    """Return a picture of 8 x 10 with equal stripes of the colours."""
    return np.repeat(np.array(colors, np.uint8), 80 // len(colors), axis=0).reshape(8, 10, 3)


def test_counts_by_hand(make_frame, raw, add_up):
    statistics = add_up(
        [
            make_frame('a', label=raw(v100=10, v101=20, v300=5)),
            make_frame('b', label=raw(v300=80), environment='there'),
            make_frame('c', environment='there'),
        ]
    )
    total = statistics.total
    assert (total.num_frames, total.num_labelled, total.num_with_instances) == (3, 2, 0)
    assert total.class_pixels.tolist() == [30, 85, 0]
    assert total.class_frames.tolist() == [1, 2, 0]
    assert total.present_pixels.tolist() == [35, 115, 0]
    assert (total.ignored_pixels, total.unknown_pixels) == (45, 0)
    assert total.shares.tolist() == [30 / 115, 85 / 115, 0]
    assert statistics.environments == ('here', 'there')
    assert statistics.groups['train', 'there'].tally.class_pixels.tolist() == [0, 80, 0]
    assert statistics.image_sizes == {(8, 10): 3}
    # frequencies 30/35 and 85/115: the median is their mean, and the absent class gets 1
    frequencies = np.array([30 / 35, 85 / 115])
    expected = (1 / frequencies) / (1 / frequencies).mean()
    weights = class_weights(total.counts, 'median_frequency')
    np.testing.assert_allclose(weights, [*expected, 1])


def test_mean_and_deviation_by_hand(make_frame, add_up):
    files = [
        make_frame('a', image_of((0, 10, 200), (2, 10, 100))),
        make_frame('b', image_of((4, 10, 0))),
    ]
    total = add_up(files).total
    # red: 0 on 40 px, 2 on 40 px, 4 on 80 px
    np.testing.assert_allclose(total.mean_rgb, [2.5, 10, 75])
    np.testing.assert_allclose(total.std_rgb, [np.sqrt(9 - 6.25), 0, np.sqrt(12500 - 75**2)])


def test_mean_of_pictures_of_several_sizes_is_over_pixels(make_frame, add_up):
    files = [
        make_frame('a', np.full((2, 2, 3), 100, np.uint8)),
        make_frame('b', np.full((6, 6, 3), 200, np.uint8)),
    ]
    assert add_up(files).total.mean_rgb.tolist() == [190, 190, 190]


def test_without_pictures_there_is_no_mean(make_frame, raw, add_up):
    options = ScanOptions(images=False)
    total = add_up([make_frame('a', label=raw(v100=80))], options=options).total
    assert np.isnan(total.mean_rgb).all()
    assert total.class_pixels.tolist() == [80, 0, 0]


def test_unknown_values_are_collected_over_the_whole_set(make_frame, raw, add_up):
    statistics = add_up(
        [
            make_frame('a', label=raw(v100=70)),
            make_frame('b', label=raw(v42=3, v100=5)),
            make_frame('c', label=raw(v42=4, v43=1)),
        ]
    )
    assert set(statistics.unknown) == {'42', '43'}
    assert vars(statistics.unknown['42']) == {
        'pixels': 7,
        'frames': 2,
        'example': str(statistics.groups['train', 'here'].examples[0].files.label).replace(
            'a.', 'b.'
        ),
    }
    assert statistics.total.unknown_pixels == 8
    assert [problem.kind for problem in statistics.problems] == ['unknown values'] * 2


def test_instances_are_counted_by_class(make_frame, raw, add_up):
    ids = np.zeros((8, 10), np.uint16)
    ids.ravel()[:6] = [1, 2, 3, 3, 0, 9]  # raw 100: 1, 2; raw 101: 3; raw 300: 9
    files = make_frame('a', label=raw(v100=2, v101=2, v300=2), instances=ids)
    total = add_up([files, make_frame('b', label=raw(v300=80))]).total
    assert total.class_instances.tolist() == [3, 1, 0]
    assert total.num_with_instances == 1


def test_splits_are_kept_apart_and_joined(make_frame, raw, add_up, taxonomy):
    white, black = np.full((8, 10, 3), 255, np.uint8), np.zeros((8, 10, 3), np.uint8)
    statistics = add_up([make_frame('a', white, raw(v100=80))])
    add_up([make_frame('b', black, raw(v300=80))], 'validation', statistics)
    assert statistics.splits == ('train', 'validation')
    group = join_groups('all', statistics.groups.values(), taxonomy.num_classes)
    assert group.num_frames == 2
    assert group.class_frames.tolist() == [1, 1, 0]
    np.testing.assert_allclose(group.mean_rgb, 127.5)
    np.testing.assert_allclose(group.std_rgb, 127.5)
    assert group.features.shape[0] == 2
    assert [example.files.stem for example in group.examples] == ['a', 'b']


def test_examples_are_of_every_group_each_with_its_reader(
    make_frame, raw, add_up, taxonomy, frame_set
):
    statistics = add_up([make_frame(f'a{number}', label=raw(v100=80)) for number in range(20)])
    other = MaskReader(taxonomy, 'class_ids')
    places = [make_frame(f'{p}{n}', environment=p) for p in 'bc' for n in range(5)]
    for record in scan(frame_set(places), ScanOptions(workers=1)):
        statistics.add(record, 'validation', other)
    examples = join_groups('all', statistics.groups.values(), taxonomy.num_classes).examples
    assert [sum(e.files.stem[0] == p for e in examples) for p in 'abc'] == [4, 4, 4]
    assert {e.files.stem[0] for e in examples if e.reader is other} == {'b', 'c'}


def test_broken_frames_are_no_examples(make_frame, raw, add_up):
    statistics = add_up(
        [make_frame('a', label=raw(v7000=80)), make_frame('b', b'', raw(v7000=80))]
    )
    examples = statistics.groups['train', 'here'].examples
    assert [example.files.stem for example in examples] == ['a']
    assert [sample.files.stem for sample in statistics.samples[2]] == ['a']


def test_features_stay_few_evenly_spaced_and_in_order(make_frame, add_up, monkeypatch):
    monkeypatch.setattr(statistics_module, '_MAX_FEATURES', 8)
    images = [scene(seed) for seed in range(25)]
    files = [make_frame(f's{seed:02}', image) for seed, image in enumerate(images)]
    few = [make_frame('few', images[0], environment='there')]
    groups = add_up([*few, *files]).groups
    kept = [describe_image(images[place]) for place in (0, 4, 8, 12, 16, 20, 24)]
    assert np.array_equal(groups['train', 'here'].features, kept)
    assert len(groups['train', 'there'].features) == 1


def scene(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)


def test_draw_is_fair():
    rng, hits = random.Random(0), np.zeros(10)
    for _ in range(3000):
        kept = []
        for item in range(10):
            draw(kept, item, item, 3, rng)
        hits[kept] += 1
    assert len(kept) == 3
    # 3 of 10: 900 each, deviation sqrt(3000 * 0.3 * 0.7) = 25
    assert np.abs(hits - 900).max() < 100
