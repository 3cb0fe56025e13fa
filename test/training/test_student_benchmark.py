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


def write(folder, name, source='', **content):
    record = {'config_sha256': f'of {name}', 'source_config_sha256': f'of {source}', **content}
    (folder / f'{name}.json').write_text(json.dumps(record))


@pytest.fixture
def pair(student, tmp_path):
    """Return a function that writes a student that learned, one that was alone, and teachers."""

    def make(place, new, taught, ensemble, alone):
        known = [name for name in ('cc', 'w0', 'ww') if name != new][:1]
        for name, right, source in (
            (f'kl_{place}', taught, ''),
            (f'{student.BEST}_{place}', taught, ''),
            (f'ensemble_{place}', ensemble, f'kl_{place}'),
            (f'alone_{place}', alone, ''),
        ):
            environments = {known[0]: counts(right, 100 - right)}
            environments[new] = counts(right - 30, 130 - right)
            write(tmp_path, name, source, environments=environments)

    return make


def test_retention_is_student_by_ensemble_on_known_places(student, tmp_path, pair):
    assert student.mean_retention(tmp_path) is None
    # IoU of both classes: 80 / 120, 90 / 110 and 70 / 130 on what they know.
    pair('cc_1', 'cc', 80, 90, 70)
    assert student.mean_retention(tmp_path) == pytest.approx((80 / 120) / (90 / 110))
    shares = student.retention(tmp_path, student.BEST)
    assert shares['cc_1'].new == pytest.approx((50 / 150) / (60 / 140))
    pair('w0_2', 'w0', 90, 90, 80)
    expected = ((80 / 120) / (90 / 110) + 1) / 2
    assert student.mean_retention(tmp_path) == pytest.approx(expected)
    known = {'w0': counts(10, 90), 'cc': counts(10, 90)}
    write(tmp_path, f'{student.BEST}_cc_3', environments=known)  # without a partner
    write(tmp_path, 'kl_features_cc_1', environments=known)  # another variant
    assert student.mean_retention(tmp_path) == pytest.approx(expected)


def test_teachers_that_are_hardly_better_than_the_student_alone_prove_nothing(
    student, tmp_path, pair
):
    pair('cc_1', 'cc', 89, 90, 89)  # 90 / 110 against 89 / 111: 1.6 points
    assert student.mean_retention(tmp_path) is None
    pair('w0_2', 'w0', 80, 90, 70)
    assert student.mean_retention(tmp_path) == pytest.approx((80 / 120) / (90 / 110))


def test_what_a_student_has_of_the_gain(student, tmp_path, pair):
    import distillation_table

    pair('cc_1', 'cc', 80, 90, 70)
    rows, ratios = distillation_table.table(tmp_path)
    gain = 90 / 110 - 70 / 130
    assert ratios['ensemble_gain_known'] == pytest.approx(gain)
    assert ratios['kl_gain_recovered_known'] == pytest.approx((80 / 120 - 70 / 130) / gain)
    assert ratios['alone_kept_known'] == pytest.approx((70 / 130) / (90 / 110))
    assert [row['variant'] for row in rows] == [
        'both teachers, mirrored', 'student alone', 'student, KL', 'student, DIST',
    ]  # fmt: skip


def test_what_was_made_of_another_training_is_refused(student, tmp_path, pair):
    import distillation_table

    pair('cc_1', 'cc', 80, 90, 70)
    write(tmp_path, 'int8_cc_1', 'kl_w0_1', environments={'w0': counts(1, 99)})
    with pytest.raises(ValueError, match=r'int8_cc_1.json: was made of another training'):
        distillation_table.table(tmp_path)


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
