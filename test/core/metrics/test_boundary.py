"""Boundary IoU and F1: by hand, and against every pair of pixels on tiny images."""

import math

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.metrics.boundary import BoundaryConfig, BoundaryCounts

VOID = 255


def counts_of(num_classes, label_map, target, **config):
    counts = BoundaryCounts(num_classes, BoundaryConfig(**config))
    counts.update(np.array(label_map, np.uint8), np.array(target, np.uint8))
    return counts


def naive_band(labels, void, distance, image_edge):
    """Mark pixels with another class within ``distance``: every pixel against every other."""
    height, width = labels.shape
    band = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(width):
            if void[y, x]:
                continue
            outside = min(y, x, height - 1 - y, width - 1 - x) < distance
            band[y, x] = image_edge and outside
            for v in range(height):
                for u in range(width):
                    near = max(abs(v - y), abs(u - x)) <= distance
                    if near and not void[v, u] and labels[v, u] != labels[y, x]:
                        band[y, x] = True
    return band


def naive_matches(edges, others, distance):
    """Count the pixels of ``edges`` that have one of ``others`` within ``distance``."""
    other = np.argwhere(others)
    return sum(
        bool(len(other)) and np.abs(other - pixel).max(axis=1).min() <= distance
        for pixel in np.argwhere(edges)
    )


def naive_counts(num_classes, label_map, target, width, tolerance, image_edge):
    void = target == VOID
    bands = [naive_band(m, void, width, image_edge) for m in (target, label_map)]
    edges = [naive_band(m, void, 1, image_edge) for m in (target, label_map)]
    rows = []
    for entry in range(num_classes):
        in_true, in_predicted = target == entry, label_map == entry
        true_edge, predicted_edge = edges[0] & in_true, edges[1] & in_predicted
        rows.append(
            [
                (bands[0] & in_true).sum(),
                (bands[1] & in_predicted).sum(),
                (bands[0] & in_true & bands[1] & in_predicted).sum(),
                true_edge.sum(),
                predicted_edge.sum(),
                naive_matches(true_edge, predicted_edge, tolerance),
                naive_matches(predicted_edge, true_edge, tolerance),
            ]
        )
    return np.array(rows).T


@st.composite
def label_pairs(draw):
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_classes = draw(st.sampled_from([1, 2, 3, 11]))
    target, labels = rng.integers(0, num_classes, (2, height, width), np.uint8)
    target[rng.random(target.shape) < draw(st.sampled_from([0, 0.3]))] = VOID
    labels[rng.random(target.shape) < draw(st.sampled_from([0, 0.3]))] = VOID
    return num_classes, labels, target


@settings(max_examples=80, deadline=None)
@given(label_pairs(), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_every_count_equals_the_naive_one(images, width, tolerance, image_edge):
    num_classes, labels, target = images
    diagonal = math.hypot(*target.shape)
    counts = counts_of(
        num_classes,
        labels,
        target,
        band_width=min(1.0, width / diagonal),
        tolerance=min(1.0, tolerance / diagonal),
        image_edge_is_boundary=image_edge,
    )
    limit = round(diagonal)
    distances = min(width, limit), min(tolerance, limit)
    expected = naive_counts(num_classes, labels, target, *distances, image_edge)
    np.testing.assert_array_equal(counts.counts, expected)


@pytest.mark.parametrize('image_edge', [False, True])
def test_larger_images_equal_one_class_at_a_time(image_edge):
    """Each class by itself, with the erosions of the reference implementation."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 20, (2, 9, 12), np.uint8)
    target, labels = (np.kron(c, np.ones((9, 9), np.uint8)) for c in coarse)
    labels[:40] = np.roll(target[:40], 2, axis=1)
    counts = counts_of(
        20, labels, target, band_width=0.05, tolerance=0.02, image_edge_is_boundary=image_edge
    )
    diagonal = math.hypot(81, 108)
    width, tolerance = round(0.05 * diagonal), round(0.02 * diagonal)
    kernel = np.ones((3, 3), np.uint8)

    def band(mask, distance):
        border = {'borderType': cv2.BORDER_CONSTANT, 'borderValue': 0 if image_edge else 1}
        return mask - cv2.erode(mask, kernel, iterations=distance, **border)

    for entry in range(20):
        masks = [(m == entry).astype(np.uint8) for m in (target, labels)]
        true, predicted = (band(mask, width) for mask in masks)
        edges = [band(mask, 1) for mask in masks]
        near = [cv2.dilate(mask, kernel, iterations=tolerance) for mask in edges]
        rows = (true, predicted, true & predicted, *edges, edges[0] & near[1], edges[1] & near[0])
        assert counts.counts[:, entry].tolist() == [int(row.sum()) for row in rows]


def test_views_of_other_arrays():
    rng = np.random.default_rng(0)
    target, labels = rng.integers(0, 3, (2, 12, 14), np.uint8)
    copies = counts_of(3, labels[::-1, ::2].copy(), target[::-1, ::2].copy())
    views = BoundaryCounts(3)
    views.update(labels[::-1, ::2], target[::-1, ::2])
    np.testing.assert_array_equal(views.counts, copies.counts)


def test_nothing_to_see():
    assert not counts_of(2, np.zeros((0, 4)), np.zeros((0, 4))).counts.any()
    assert not counts_of(2, [[0, 1]], [[VOID, VOID]]).counts.any()


def test_by_hand():
    # The edge between two classes is one column too far right. Distances: one pixel.
    target = [[0, 0, 1, 1, 1]] * 3
    labels = [[0, 0, 0, 1, 1]] * 3
    counts = counts_of(2, labels, target, band_width=0.1, tolerance=0.1)
    scores = counts.scores()
    # Bands: class 0 column 1 against column 2, class 1 column 2 against 3: nothing in common.
    np.testing.assert_array_equal(scores.iou, [0, 0])
    # Yet every edge pixel has its match one column away.
    np.testing.assert_array_equal(scores.f1, [1, 1])
    # With bands of two pixels, class 0: columns 0, 1 against 1, 2; class 1: 2, 3 against 3, 4.
    wide = counts_of(2, labels, target, band_width=2 / 5.8, tolerance=0.1).scores()
    np.testing.assert_allclose(wide.iou, [1 / 3, 1 / 3])
    assert wide.mean_iou == pytest.approx(1 / 3)


def test_precision_and_recall_by_hand():
    target = np.zeros((9, 9), np.uint8)
    target[:, 4] = 1
    labels = target.copy()
    labels[:5, 4] = 0  # half of the line was not found: 4 pixels are left
    scores = counts_of(2, labels, target, band_width=0.01, tolerance=0.01).scores()
    # The row just above what was found is within the tolerance of one pixel.
    assert scores.precision[1] == 1
    assert scores.recall[1] == pytest.approx(5 / 9)
    assert scores.f1[1] == pytest.approx(2 * (5 / 9) / (1 + 5 / 9))
    assert scores.iou[1] == pytest.approx(4 / 9)


def test_void_makes_no_edge():
    target = [[0, 0, VOID, VOID, 0]]
    labels = [[0, 0, 1, 1, 0]]
    assert not counts_of(2, labels, target).counts.any()


def test_class_on_one_side_only():
    target = [[0, 0, 1, 1]]
    scores = counts_of(3, [[0, 0, 0, 0]], target).scores()
    np.testing.assert_array_equal(scores.iou, [0, 0, np.nan])
    np.testing.assert_array_equal(scores.f1, [0, 0, np.nan])
    assert np.isnan(scores.precision[1])
    assert scores.recall[1] == 0
    assert scores.mean_f1 == 0


def test_perfect_prediction_and_empty_set():
    target = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((5, 5), np.uint8))
    scores = counts_of(12, target, target).scores()
    assert scores.mean_iou == scores.mean_f1 == 1
    assert math.isnan(BoundaryCounts(3).scores().mean_iou)


def test_image_edge_as_in_the_reference_implementation():
    target = np.zeros((4, 4), np.uint8)
    assert not counts_of(1, target, target).counts.any()
    counts = counts_of(1, target, target, image_edge_is_boundary=True, band_width=0.01)
    assert counts.counts[0, 0] == 12  # all but the inner 2x2


@settings(max_examples=30, deadline=None)
@given(label_pairs(), label_pairs())
def test_merged_parts_equal_the_whole(first, second):
    whole, parts = BoundaryCounts(11), []
    for _, labels, target in (first, second):
        whole.update(labels, target)
        parts.append(counts_of(11, labels, target))
    np.testing.assert_array_equal(parts[1].merge(parts[0]).counts, whole.counts)


@pytest.mark.parametrize(
    ('label_map', 'target', 'message'),
    [
        ([[0]], [[0, 0]], r'label_map: got \(1, 1\) uint8; expected \(1, 2\) uint8'),
        ([[[0]]], [[[0]]], r'target: got \(1, 1, 1\); expected \(H, W\); give one image'),
        ([[7, 7]], [[0, 0]], r'label_map: got ids 7 \(2 px\); expected 0 to 1 or 255'),
        ([[0, 0]], [[0, 2]], r'target: got ids 2 \(1 px\)'),
    ],
)
def test_update_refuses(label_map, target, message):
    with pytest.raises(ValueError, match=message):
        counts_of(2, label_map, target)


def test_other_errors():
    with pytest.raises(ValueError, match=r'band_width: got 3\.0; expected a share'):
        BoundaryConfig(band_width=3)
    with pytest.raises(ValueError, match='num_classes: got 255; expected 1 to 254'):
        BoundaryCounts(255)
    with pytest.raises(ValueError, match='num_classes: got 2 and 3'):
        BoundaryCounts(2).merge(BoundaryCounts(3))
    with pytest.raises(ValueError, match=r'config: got .*0\.02.* and .*0\.005'):
        BoundaryCounts(2).merge(BoundaryCounts(2, BoundaryConfig(band_width=0.005)))
