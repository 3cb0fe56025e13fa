"""The composite of the GOOSE challenge: published tables, and label maps by hand."""

import math

import numpy as np
import pytest

from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.metrics.goose import (
    COARSE_CATEGORIES,
    FINE_CLASSES,
    GOOSE64,
    GooseScores,
)

# The official per-class and per-category table of a published challenge entry (64 classes,
# composite 63.80), in the order of the ids.
PUBLISHED_FINE = [
    25.56,
    0.00,
    67.67,
    87.26,
    53.99,
    19.74,
    49.20,
    0.00,
    91.97,
    0.00,
    71.51,
    72.07,
    93.73,
    70.06,
    86.77,
    87.79,
    70.40,
    38.97,
    1.27,
    70.61,
    42.61,
    66.88,
    63.23,
    92.28,
    31.68,
    35.35,
    78.25,
    53.52,
    65.07,
    25.62,
    77.21,
    61.59,
    44.85,
    30.41,
    51.78,
    84.62,
    80.90,
    27.69,
    85.81,
    54.83,
    20.05,
    84.46,
    62.40,
    7.62,
    0.00,
    50.44,
    70.61,
    70.84,
    27.02,
    1.44,
    73.01,
    59.68,
    33.35,
    97.54,
    51.23,
    31.55,
    0.00,
    48.78,
    59.42,
    48.98,
    92.30,
    0.00,
    0.00,
    0.00,
]
PUBLISHED_COARSE = {
    'Animal': 30.41,
    'Construction': 78.37,
    'Human': 86.67,
    'Object': 40.42,
    'Road': 69.99,
    'Sign': 72.07,
    'Sky': 97.54,
    'Terrain': 89.14,
    'Vegetation': 93.39,
    'Vehicle': 86.77,
    'Water': 51.23,
}


def test_class_sets():
    assert len(FINE_CLASSES) == 56
    assert 'ego_vehicle' in FINE_CLASSES
    assert not {'undefined', 'outlier', 'pipe', 'tunnel'} & set(FINE_CLASSES)
    assert len(COARSE_CATEGORIES) == 11
    assert 'Void' not in COARSE_CATEGORIES


def test_published_table_gives_the_published_composite():
    table = dict(zip(GOOSE64.names, PUBLISHED_FINE, strict=True))
    scores = GooseScores({name: table[name] for name in FINE_CLASSES}, PUBLISHED_COARSE)
    assert round(scores.fine, 2) == 55.24
    assert round(scores.coarse, 2) == 72.36
    assert round(scores.composite, 2) == 63.80


def label_map(*names):
    return np.array([[255 if name is None else GOOSE64.index(name) for name in names]], np.uint8)


def score(truth, predicted):
    matrix = ConfusionMatrix(64)
    matrix.update(label_map(*predicted), label_map(*truth))
    return GooseScores.of(matrix)


def test_label_maps_by_hand():
    scores = score(
        truth=['car', 'car', 'truck', 'sky', 'undefined', 'outlier', 'forest', None],
        predicted=['car', 'truck', 'outlier', 'sky', 'car', 'sky', None, 'sky'],
    )
    # car: 1 hit; a car was called truck; the undefined pixel that was called car counts nowhere.
    assert scores.fine_iou['car'] == pytest.approx(1 / 2)
    # truck: no hit, one miss (called outlier, which is not scored), one false alarm.
    assert scores.fine_iou['truck'] == 0
    assert scores.fine_iou['sky'] == 1
    # A scored pixel without any prediction is a miss as well.
    assert scores.fine_iou['forest'] == 0
    assert math.isnan(scores.fine_iou['bus'])
    assert scores.fine == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    # Vehicle: three pixels, two hits across its classes, one called Void.
    assert scores.coarse_iou['Vehicle'] == pytest.approx(2 / 3)
    assert scores.coarse_iou['Vegetation'] == 0
    assert scores.coarse == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores.composite == pytest.approx((0.375 + 5 / 9) / 2)


def test_unscored_fine_classes_still_count_in_their_category():
    # bikeway is no fine class, but Road like sidewalk.
    scores = score(truth=['bikeway', 'sidewalk'], predicted=['sidewalk', 'bikeway'])
    assert scores.fine_iou['sidewalk'] == 0
    assert scores.coarse_iou['Road'] == 1


def test_nothing_scored():
    scores = score(truth=['undefined'], predicted=['car'])
    assert math.isnan(scores.fine)
    assert math.isnan(scores.composite)


def test_errors():
    with pytest.raises(ValueError, match='got 10 classes; expected 64'):
        GooseScores.of(ConfusionMatrix(10))
    with pytest.raises(ValueError, match=r'fine_iou: missing or not scored: .*undefined'):
        GooseScores({**dict.fromkeys(FINE_CLASSES, 0.0), 'undefined': 0.0}, PUBLISHED_COARSE)
