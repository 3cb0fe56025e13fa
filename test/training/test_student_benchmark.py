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


def test_retention_is_student_by_ensemble(student, tmp_path):
    assert student.retention(tmp_path) is None
    # IoU of both classes: 80 / 120 and 90 / 110; the second pair loses nothing.
    for name, right in (('distilled_w0_1', 80), ('ensemble_w0_1', 90)):
        write(tmp_path, name, environments={'w0': counts(right, 100 - right)})
    assert student.retention(tmp_path) == pytest.approx((80 / 120) / (90 / 110))
    for name in ('distilled_w0_2', 'ensemble_w0_2'):
        write(tmp_path, name, environments={'a': counts(70, 30), 'b': counts(90, 10)})
    expected = ((80 / 120) / (90 / 110) + 1) / 2
    assert student.retention(tmp_path) == pytest.approx(expected)
    write(tmp_path, 'distilled_w0_3', environments={'w0': counts(10, 90)})  # without a partner
    assert student.retention(tmp_path) == pytest.approx(expected)


def test_environments_count_together(student):
    record = {'environments': {'a': counts(70, 30), 'b': counts(90, 10)}}
    assert student.together(record) == pytest.approx(160 / 240)


def test_int8_is_judged_by_its_worst_engine(student, tmp_path):
    assert student.int8_miou_drop(tmp_path) is None
    engines = {
        'openvino': {'fp32': counts(90, 10), 'int8': counts(90, 10)},
        'onnxruntime': {'fp32': counts(90, 10), 'int8': counts(80, 20)},
    }
    write(tmp_path, 'int8_w0_1', engines=engines)
    assert student.int8_miou_drop(tmp_path) == pytest.approx(90 / 110 - 80 / 120)
