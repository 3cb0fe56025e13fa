"""The curves of a training report."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('matplotlib')

from offroad_seg_core.evaluation.report.curves import loss_columns, smooth, spread
from offroad_seg_core.evaluation.run_record import read_run


def test_a_single_term_is_drawn_once(write_run):
    record = read_run(write_run())
    assert loss_columns(record) == ['total', 'dice']
    equal = replace(record, steps={**record.steps, 'total': record.steps['dice']})
    assert loss_columns(equal) == ['dice']


def test_smoothing_keeps_length_and_mean_of_a_line():
    np.testing.assert_allclose(smooth(np.arange(200.0))[50:150], np.arange(50, 150))
    assert smooth(np.array([3.0])).tolist() == [3.0]
    peak = np.where(np.arange(100) == 50, 5.0, 0.0)  # 4 % of 100: two neighbours either side
    assert smooth(peak)[47:54].tolist() == [0, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ([], []),
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.0, 0.0, 0.01], [0.0, 0.1, 0.2]),
        ([0.1, 0.4, 0.5, 0.5], [0.1, 0.4 - 1 / 30, 0.5 - 1 / 30, 0.6 - 1 / 30]),
        ([1.0, 1.0], [0.9, 1.0]),
    ],
)
def test_labels_are_moved_apart_as_little_as_possible(values, expected):
    np.testing.assert_allclose(spread(np.array(values), 0.1), expected)
