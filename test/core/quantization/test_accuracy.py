"""The gate, by hand."""

import numpy as np
import pytest

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.quantization.accuracy import AccuracyLimits, compare
from offroad_seg_core.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy('falcon10')
LANDSCAPE, ROCKS, LOGS = (TAXONOMY.index(name) for name in ('Landscape', 'Rocks', 'Logs'))


def matrix(rocks_right, rocks_missed, ground=900):
    """Ground, all of it right, and rocks of which some are called ground."""
    made = ConfusionMatrix(10)
    made.counts[LANDSCAPE, LANDSCAPE] = ground
    made.counts[ROCKS, ROCKS] = rocks_right
    made.counts[ROCKS, LANDSCAPE] = rocks_missed
    return made


def test_losses_by_hand():
    loss = compare(matrix(100, 0), matrix(80, 20), TAXONOMY, AccuracyLimits(), 'openvino')
    # Rocks 1 -> 80/100, ground 1 -> 900/920.
    assert loss.class_drops['Rocks'] == pytest.approx(0.2)
    assert loss.class_drops['Landscape'] == pytest.approx(20 / 920)
    assert loss.miou_before == 1
    assert loss.miou_drop == pytest.approx((0.2 + 20 / 920) / 2)
    assert np.isnan(loss.class_drops['Sky'])
    assert loss.to_dict()['class_drops']['Sky'] is None
    mean, rocks = loss.violations
    assert mean.startswith('mIoU fell by 11.09 points, allowed are 1; the most: Rocks -20.0, ')
    assert rocks == 'Rocks (dangerous) fell by 20.00 points, allowed are 3'


def test_trees_and_logs_are_dangerous_and_were_not_seen():
    loss = compare(matrix(100, 0), matrix(100, 0), TAXONOMY, AccuracyLimits())
    assert loss.unseen == ('Trees', 'Logs')
    assert loss.violations == ()


@pytest.mark.parametrize(
    ('limits', 'num_violations'),
    [
        (AccuracyLimits(0.12, 0.21), 0),
        (AccuracyLimits(0.12, 0.19), 1),
        (AccuracyLimits(0.11, 0.21), 1),
        (AccuracyLimits(0, 0), 2),
    ],
)
def test_limits_are_a_choice(limits, num_violations):
    loss = compare(matrix(100, 0), matrix(80, 20), TAXONOMY, limits)
    assert len(loss.violations) == num_violations


def test_a_harmless_class_may_fall_alone():
    before, after = matrix(100, 0, 10_000), matrix(100, 0, 10_000)
    bushes = TAXONOMY.index('Dry Bushes')
    before.counts[bushes, bushes] = 100
    after.counts[bushes, [bushes, LANDSCAPE]] = [90, 10]
    limits = AccuracyLimits(max_miou_drop=0.05)
    assert compare(before, after, TAXONOMY, limits).violations == ()
    after.counts[ROCKS, [ROCKS, LANDSCAPE]] = [90, 10]
    violations = compare(before, after, TAXONOMY, AccuracyLimits(max_miou_drop=0.5)).violations
    assert violations == ('Rocks (dangerous) fell by 10.00 points, allowed are 3',)


def test_a_gain_is_no_violation():
    loss = compare(matrix(80, 20), matrix(100, 0), TAXONOMY, AccuracyLimits(0, 0))
    assert loss.miou_drop < 0
    assert loss.violations == ()


def test_nothing_in_the_truth_cannot_pass():
    empty = ConfusionMatrix(10)
    assert compare(empty, empty, TAXONOMY, AccuracyLimits()).violations


@pytest.mark.parametrize('name', ['max_miou_drop', 'max_dangerous_drop'])
def test_points_are_not_taken_for_shares(name):
    with pytest.raises(ConfigError, match=rf'{name}.*less than 1'):
        load_config(AccuracyLimits, {name: 1})
