"""Ratios that come from training are computed anew from committed counts."""

import json
from pathlib import Path
import sys

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture(scope='module')
def student():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import student

        yield student
    finally:
        sys.path.remove(str(BENCHMARKS))


def counts(right, wrong):
    """Two classes of 100 pixels each; of each, so many are called the other one."""
    return {'confusion_matrix': [[right, wrong, 0], [wrong, right, 0]]}


def write(folder, name, **content):
    (folder / f'{name}.json').write_text(json.dumps(content))


def test_retention_is_student_by_ensemble_on_known_places(student, tmp_path):
    assert student.mean_retention(tmp_path) is None
    # IoU of both classes: 80 / 120 and 90 / 110 on what they know; the second pair loses nothing.
    for name, right in (('kl_cc_1', 80), ('ensemble_cc_1', 90)):
        known, new = counts(right, 100 - right), counts(right - 30, 130 - right)
        write(tmp_path, name, environments={'w0': known, 'cc': new})
    assert student.mean_retention(tmp_path) == pytest.approx((80 / 120) / (90 / 110))
    shares = student.retention(tmp_path)
    assert shares['cc_1'].new == pytest.approx((50 / 150) / (60 / 140))
    for name in ('kl_w0_2', 'ensemble_w0_2'):
        known = {'cc': counts(70, 30), 'ww': counts(90, 10)}
        write(tmp_path, name, environments={**known, 'w0': counts(60, 40)})
    expected = ((80 / 120) / (90 / 110) + 1) / 2
    assert student.mean_retention(tmp_path) == pytest.approx(expected)
    known = {'w0': counts(10, 90), 'cc': counts(10, 90)}
    write(tmp_path, 'kl_cc_3', environments=known)  # without a partner
    write(tmp_path, 'kl_features_cc_1', environments=known)  # another variant
    assert student.mean_retention(tmp_path) == pytest.approx(expected)


def test_environments_count_together(student, tmp_path):
    known = {'a': counts(70, 30), 'b': counts(90, 10)}
    write(tmp_path, 'alone_cc_1', environments={**known, 'cc': counts(50, 50)})
    import distillation_table

    ((place, scores),) = distillation_table.kept_scores(tmp_path, 'alone')
    assert place == 'cc_1'
    assert scores == pytest.approx((160 / 240, 50 / 150))
    rows, ratios = distillation_table.table(tmp_path)
    assert rows[0]['known mIoU'] == pytest.approx(160 / 240)
    assert not ratios


def test_int8_is_judged_by_its_worst_engine(student, tmp_path):
    assert student.int8_miou_drop(tmp_path) is None
    engines = {
        'openvino': {'fp32': counts(90, 10), 'int8': counts(90, 10)},
        'onnxruntime': {'fp32': counts(90, 10), 'int8': counts(80, 20)},
    }
    write(tmp_path, 'int8_w0_1', engines=engines)
    assert student.int8_miou_drop(tmp_path) == pytest.approx(90 / 110 - 80 / 120)
