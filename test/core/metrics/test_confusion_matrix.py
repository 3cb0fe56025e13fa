import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix


def matrix_of(num_classes, label_map, target):
    matrix = ConfusionMatrix(num_classes)
    matrix.update(np.array(label_map, np.uint8), np.array(target, np.uint8))
    return matrix


@pytest.fixture
def by_hand():
    """Five classes; class 3 is only ever invented, class 4 never occurs."""
    target = [[0, 0, 0, 0], [1, 1, 1, 255], [2, 2, 255, 255]]
    labels = [[0, 0, 1, 255], [1, 1, 1, 0], [1, 3, 2, 255]]
    return matrix_of(5, labels, target)


def test_counts_by_hand(by_hand):
    expected = np.zeros((5, 6), np.int64)
    expected[0, [0, 1, 5]] = [2, 1, 1]
    expected[1, 1] = 3
    expected[2, [1, 3]] = 1
    np.testing.assert_array_equal(by_hand.counts, expected)
    assert by_hand.num_pixels == 9
    np.testing.assert_array_equal(by_hand.true_pixels, [4, 3, 2, 0, 0])


def test_scores_by_hand(by_hand):
    # 0: 2 right of 4 true, none invented. 1: 3 right, 2 invented. 2: none. 3: one invented.
    np.testing.assert_allclose(by_hand.iou(), [2 / 4, 3 / 5, 0, 0, np.nan])
    assert by_hand.pixel_accuracy == pytest.approx(5 / 9)
    assert by_hand.miou == pytest.approx((0.5 + 0.6 + 0 + 0) / 4)
    assert by_hand.miou_present == pytest.approx((0.5 + 0.6 + 0) / 3)


def test_unlabeled_predictions_are_misses():
    matrix = matrix_of(2, [[0, 255]], [[0, 0]])
    assert matrix.iou()[0] == 0.5
    assert matrix.pixel_accuracy == 0.5


def test_empty_matrix_has_no_scores():
    matrix = matrix_of(3, [[1, 2]], [[255, 255]])
    assert matrix.num_pixels == 0
    for score in (matrix.pixel_accuracy, matrix.miou, matrix.miou_present):
        assert math.isnan(score)


def test_perfect_prediction_with_255_classes():
    ids = np.arange(255, dtype=np.uint8)[None]
    matrix = matrix_of(255, ids, ids)
    assert matrix.miou == matrix.miou_present == matrix.pixel_accuracy == 1.0


@pytest.mark.parametrize(
    ('label_map', 'target', 'message'),
    [
        ([[0, 3]], [[0, 0]], r'label_map: got ids 3 \(1 px\); expected 0 to 2 or 255'),
        ([[0, 0]], [[7, 7]], r'target: got ids 7 \(2 px\); expected 0 to 2 or 255'),
        ([[0, 9]], [[0, 255]], r'label_map: got ids 9 \(1 px\)'),
        ([[0]], [[0, 0]], r'label_map: got \(1, 1\) uint8; expected \(1, 2\) uint8'),
    ],
)
def test_update_refuses(label_map, target, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=message):
        matrix.update(np.array(label_map, np.uint8), np.array(target, np.uint8))
    assert matrix.num_pixels == 0


def test_update_refuses_other_types():
    with pytest.raises(ValueError, match=r'target: got \(1, 1\) int64; expected \(1, 1\) uint8'):
        ConfusionMatrix(3).update(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.int64))


@pytest.mark.parametrize('num_classes', [0, 256])
def test_refuses_class_counts(num_classes):
    with pytest.raises(ValueError, match=f'got {num_classes}; expected 1 to 255'):
        ConfusionMatrix(num_classes)


def test_merge_refuses_other_sizes():
    with pytest.raises(ValueError, match='got 2 and 3 classes'):
        ConfusionMatrix(2).merge(ConfusionMatrix(3))


def test_save_and_load(by_hand, tmp_path):
    path = tmp_path / 'results' / 'matrix.json'
    by_hand.save(path)
    np.testing.assert_array_equal(ConfusionMatrix.load(path).counts, by_hand.counts)
    assert [entry.name for entry in path.parent.iterdir()] == ['matrix.json']


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'expected JSON'),
        ('[]', 'got None; expected format_version 1'),
        ('{"format_version": 2}', 'got 2; expected format_version 1'),
        ('{"format_version": 1}', 'expected N rows'),
        ('{"format_version": 1, "counts": []}', 'expected N rows'),
        ('{"format_version": 1, "counts": [[1]]}', 'expected N rows'),
        ('{"format_version": 1, "counts": [[1, -1]]}', 'expected N rows'),
        ('{"format_version": 1, "counts": [[1, 0.5]]}', 'expected N rows'),
        ('{"format_version": 1, "counts": [[1, true]]}', 'expected N rows'),
    ],
)
def test_load_refuses(tmp_path, content, message):
    path = tmp_path / 'matrix.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix.load(path)


def test_saved_file_is_plain_json(by_hand, tmp_path):
    by_hand.save(tmp_path / 'm.json')
    content = json.loads((tmp_path / 'm.json').read_text())
    assert content['counts'][0] == [2, 1, 0, 0, 0, 1]


@st.composite
def labelled_images(draw):
    num_classes = draw(st.integers(1, 6))
    size = draw(st.integers(1, 60))
    ids = st.sampled_from([*range(num_classes), 255])
    images = st.lists(ids, min_size=size, max_size=size)
    return num_classes, np.array([draw(images), draw(images)], np.uint8)


@settings(max_examples=60, deadline=None)
@given(labelled_images(), st.randoms(use_true_random=False))
def test_properties(images, random):
    num_classes, (labels, target) = images
    joint = matrix_of(num_classes, labels, target)
    assert joint.num_pixels == np.count_nonzero(target != 255)

    order = list(range(len(target)))
    random.shuffle(order)
    shuffled = matrix_of(num_classes, labels[order], target[order])
    np.testing.assert_array_equal(shuffled.counts, joint.counts)

    cut = random.randint(0, len(target))
    first = matrix_of(num_classes, labels[:cut], target[:cut])
    merged = first.merge(matrix_of(num_classes, labels[cut:], target[cut:]))
    np.testing.assert_array_equal(merged.counts, joint.counts)
    first.update(labels[cut:], target[cut:])
    np.testing.assert_array_equal(first.counts, joint.counts)

    renamed = np.array([*random.sample(range(num_classes), num_classes)], np.uint8)
    table = np.full(256, 255, np.uint8)
    table[:num_classes] = renamed
    moved = matrix_of(num_classes, table[labels], table[target])
    np.testing.assert_array_equal(moved.iou()[renamed], joint.iou())

    assert math.isnan(joint.miou_present) or joint.miou <= joint.miou_present + 1e-12


def test_counts_beyond_what_a_float_holds_are_exact():
    labels = np.zeros((3, 1 << 23), np.uint8)
    labels[0, 0] = 1
    matrix = ConfusionMatrix(2)
    matrix.update(labels, labels)
    assert matrix.counts[:, :2].tolist() == [[3 * (1 << 23) - 1, 0], [0, 1]]
