import numpy as np
import pytest

from offroad_seg_core.evaluation.boundary_errors import (
    BIN_NAMES,
    LIMITS_PX,
    BoundaryErrors,
    border_distance,
)


def test_distances_of_a_straight_border():
    target = np.zeros((2, 8), np.uint8)
    target[:, 5:] = 1
    np.testing.assert_array_equal(border_distance(target), [[4, 3, 2, 1, 0, 0, 1, 2]] * 2)


def test_a_corner_is_measured_across():
    target = np.zeros((6, 6), np.uint8)
    target[4, 4] = 1
    distance = border_distance(target)
    assert distance[4, 4] == distance[3, 4] == distance[4, 3] == 0
    assert distance[3, 3] == 1  # touches the other class by a corner only
    assert distance[0, 4] == 3
    assert distance[0, 0] == pytest.approx(5.0)  # from (3, 4) or (4, 3): 3 and 4 px


def test_ignored_pixels_make_no_border():
    target = np.zeros((3, 6), np.uint8)
    target[:, 2] = 255
    target[:, 3:] = 1
    assert np.isinf(border_distance(target)).all()


def test_errors_are_counted_by_their_distance():
    target = np.zeros((1, 200), np.uint8)
    target[0, 100:] = 1
    target[0, 199] = 255
    label_map = target.copy()
    label_map[0, [99, 100, 97, 0, 199]] = 5  # distances 0, 0, 2, 99, ignored
    errors = BoundaryErrors()
    errors.update(label_map, target)
    # Either side: distances 0 to 99, but the last of the right one is ignored.
    assert dict(zip(BIN_NAMES, errors.pixels.tolist(), strict=True)) == {
        '0': 2,
        '1': 2,
        '2': 2,
        '3–4': 4,
        '5–8': 8,
        '9–16': 16,
        '17–32': 32,
        '33–64': 64,
        '> 64': 69,
    }
    assert errors.errors.tolist() == [2, 0, 1, 0, 0, 0, 0, 0, 1]
    assert errors.shares_within(4) == (10 / 199, 0.75)
    assert len(BIN_NAMES) == len(LIMITS_PX) + 1


def test_sums_over_images_and_images_without_border():
    errors = BoundaryErrors()
    assert np.isnan(errors.shares_within(4)).all()
    for _ in range(2):
        errors.update(np.ones((2, 3), np.uint8), np.zeros((2, 3), np.uint8))
    assert errors.pixels.tolist() == errors.errors.tolist() == [0] * 8 + [12]
    errors.update(np.zeros((2, 3), np.uint8), np.full((2, 3), 255, np.uint8))
    assert errors.pixels.sum() == 12
