import json
import math

import numpy as np
import pytest

from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.metrics.segmentation import (
    false_alarm_rate,
    false_safe_rate,
    segmentation_scores,
)
from offroad_seg_core.taxonomy import load_taxonomy

TREES, DRY_GRASS, DRY_BUSHES, ROCKS, LANDSCAPE, SKY = 0, 2, 3, 7, 8, 9


@pytest.fixture
def matrix():
    """Fill the counts by hand: costly truth in three classes, free truth in two, and sky."""
    matrix = ConfusionMatrix(10)
    matrix.counts[ROCKS, [ROCKS, LANDSCAPE, DRY_GRASS, SKY]] = [50, 20, 5, 3]
    matrix.counts[ROCKS, 10] = 2
    matrix.counts[TREES, [TREES, DRY_BUSHES]] = [15, 5]
    matrix.counts[LANDSCAPE, [LANDSCAPE, ROCKS, DRY_GRASS]] = [180, 10, 10]
    matrix.counts[SKY, [SKY, LANDSCAPE, TREES]] = [90, 6, 4]
    return matrix


def test_false_safe_rate_by_hand(matrix):
    costs = load_taxonomy('falcon10').cost_table()
    # Costly: 80 rocks, 20 trees; 25 rocks were called free ground. Sky and unlabeled are neither.
    assert false_safe_rate(matrix, costs) == pytest.approx(25 / 100)
    assert false_alarm_rate(matrix, costs) == pytest.approx(10 / 200)


def test_threshold_and_overrides_move_the_rate(matrix):
    taxonomy = load_taxonomy('falcon10')
    # Above Dry Bushes' 180 the five trees called bushes become false-safe too.
    assert false_safe_rate(matrix, taxonomy.cost_table(), 200) == pytest.approx(30 / 100)
    tank = taxonomy.cost_table({'Rocks': 90})
    assert false_safe_rate(matrix, tank) == 0.0


def test_nothing_costly_is_nan():
    matrix = ConfusionMatrix(10)
    matrix.counts[LANDSCAPE, LANDSCAPE] = 5
    costs = load_taxonomy('falcon10').cost_table()
    assert math.isnan(false_safe_rate(matrix, costs))
    assert false_alarm_rate(matrix, costs) == 0.0


def test_scores(matrix):
    taxonomy = load_taxonomy('falcon10')
    scores = segmentation_scores(matrix, taxonomy)
    assert scores.num_pixels == 400
    assert scores.pixel_accuracy == pytest.approx((50 + 15 + 180 + 90) / 400)
    assert scores.iou['Rocks'] == pytest.approx(50 / (80 + 10))
    assert scores.iou['Dry Grass'] == 0.0
    assert math.isnan(scores.iou['Logs'])
    present = [50 / 90, 15 / 24, 180 / (200 + 26), 90 / (100 + 3)]
    assert scores.miou_present == pytest.approx(sum(present) / 4)
    assert scores.miou == pytest.approx(sum(present) / 6)
    assert scores.false_safe_rate == pytest.approx(0.25)


def test_scores_become_json_without_nan(matrix):
    plain = segmentation_scores(matrix, load_taxonomy('falcon10')).to_dict()
    assert plain['iou']['Logs'] is None
    assert plain['costly_from'] == 128
    json.dumps(plain, allow_nan=False)


def test_refuses_other_taxonomy(matrix):
    with pytest.raises(ValueError, match='got 10 classes; expected 7 of falcon7'):
        segmentation_scores(matrix, load_taxonomy('falcon7'))


@pytest.mark.parametrize('threshold', [0, 255])
def test_refuses_threshold(matrix, threshold):
    costs = load_taxonomy('falcon10').cost_table()
    with pytest.raises(ValueError, match=f'costly_from: got {threshold}; expected 1 to 254'):
        false_safe_rate(matrix, costs, threshold)


def test_refuses_other_cost_tables(matrix):
    with pytest.raises(ValueError, match=r'cost_table: got \(10,\) float64'):
        false_safe_rate(matrix, np.zeros(10))
