"""What the report is made of, and results it refuses."""

import json
import re
import shutil

import numpy as np
import pytest

pytest.importorskip('plotly')

from offroad_seg_core.evaluation.drive_report import build
from offroad_seg_core.evaluation.drive_report.build import write_drive_report
from offroad_seg_core.evaluation.drive_report.data import page_data, read_results
from offroad_seg_core.evaluation.drive_report.scores import operating_points
from offroad_seg_core.evaluation.summary import ResultError
from offroad_seg_core.metrics.calibration import CalibrationCounts
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix


def test_a_comparison_brings_large_frames_along(results, tmp_path, monkeypatch):
    monkeypatch.setattr(build, '_EMBEDDED_BYTES', 0)
    write_drive_report(results, tmp_path / 'compared')
    for number, result in enumerate(results):
        here = sorted((tmp_path / 'compared' / 'frames' / str(number)).rglob('*.js'))
        there = sorted((result / 'report' / 'frames').rglob('*.js'))
        assert [f.read_text() for f in here] == [f.read_text() for f in there]
        assert len(here) == 14


def test_operating_points_by_hand():
    matrix, calibration = ConfusionMatrix(2), CalibrationCounts(2)
    target = np.array([0, 0, 0, 1, 255], np.uint8)
    label_map, confidence = np.array([[0, 0, 1, 1, 0], [100, 200, 50, 255, 9]], np.uint8)
    matrix.update(label_map, target)
    calibration.update(confidence, label_map, target)
    found = operating_points(matrix, calibration)
    at = [found['threshold'].index(round(level / 255, 6)) for level in (0, 50, 55, 105, 205)]
    recall = [found['recall'][0][place] for place in at]
    assert recall == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1 / 3, 0], abs=1e-6)
    assert [found['precision'][1][place] for place in at] == [0.5, 0.5, 1.0, 1.0, 1.0]
    # A frame without confidence: how much truth the others have is not known.
    matrix.update(label_map, target)
    assert operating_points(matrix, calibration) is None


def test_labels_without_confidence(results, drives):
    data = page_data(read_results([results[0]]))
    summary = json.loads((results[0] / 'summary.json').read_text())
    counts = np.array([e['calibration'] for e in summary['counts'].values()]).sum(axis=0)
    assert counts.sum() == 0  # these labels came without confidence
    run = data['runs'][0]
    assert run['operating'] is None
    assert run['frames']['metrics']['miou_present'][:4] == [0.5] * 4
    shares = run['shares']['front']['classes']
    assert shares[drives.SKY] == shares[drives.LANDSCAPE] == [0.5] * 7


def test_what_is_no_result(tmp_path, results):
    with pytest.raises(ResultError, match=r'expected the output folder of an evaluation'):
        write_drive_report([tmp_path], tmp_path / 'x')
    with pytest.raises(ValueError, match='got none; expected at least one result'):
        write_drive_report([], tmp_path / 'x')
    other = tmp_path / 'other'
    shutil.copytree(results[0], other)
    text = (other / 'summary.json').read_text()
    (other / 'summary.json').write_text(re.sub('"Sky"', '"Heaven"', text))
    with pytest.raises(ValueError, match='expected equal ones; compare others'):
        write_drive_report([results[0], other], tmp_path / 'x')
    assert not (tmp_path / 'x').exists()
