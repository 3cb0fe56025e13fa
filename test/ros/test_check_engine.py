"""check_engine as its users run it: status, table and JSON."""

import json
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest

from offroad_seg_core.evaluation import engine_check
from offroad_seg_core.inference import engines
from offroad_seg_core.inference.bundle import Bundle, write_bundle
from offroad_seg_core.inference.engines import EngineOutput
from offroad_seg_ros import check_engine

ROOT = Path(__file__).parents[2]


def test_as_a_process_without_ros(palette_bundle, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'offroad_seg_ros.check_engine', '--bundle', palette_bundle),
            *('--engine', 'onnxruntime', '--engine', 'tensorrt', '--runs', '3'),
            *('--engine-cache', tmp_path, '--json', tmp_path / 'report.json'),
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['good']
    assert report['num_frames'] == 2
    assert report['frames_from'] == 'the procedural desert'
    assert {'cpu', 'gpu_name'} <= set(report['machine'])
    assert {'python', 'onnxruntime'} <= set(report['versions'])
    (reference,) = [entry for entry in report['engines'] if entry['engine'] == 'onnxruntime']
    assert reference['status'] == 'agrees'
    assert reference['label_agreement'] == 1.0
    assert 'label_agreement' in done.stdout
    assert report['auto'] in done.stdout


def test_it_checks_on_the_frames_of_the_bundle(palette_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('offroad_seg_core.inference.engines.selection.BUDGET_S', 0.0)
    bundle = Bundle.load(palette_bundle)
    manifest = bundle.manifest.model_dump(mode='json', exclude={'files'})
    picture = np.full((48, 64, 3), bundle.taxonomy.palette_bgr[9], np.uint8)
    cv2.imwrite(str(tmp_path / 'sky.png'), picture)
    files = {'model.onnx': bundle.model_file('fp32'), 'frames/00.png': tmp_path / 'sky.png'}
    write_bundle(tmp_path / 'bundle', manifest, files)
    status = check_engine.main(
        [
            *('--bundle', str(tmp_path / 'bundle'), '--engine', 'onnxruntime', '--runs', '1'),
            *('--engine-cache', str(tmp_path), '--json', str(tmp_path / 'report.json')),
        ]
    )
    assert status == 0
    report = json.loads((tmp_path / 'report.json').read_text())
    assert (report['num_frames'], report['frames_from']) == (1, 'the bundle')
    assert all(set(entry['iou_drop']) == {'Sky'} for entry in report['engines'])
    assert 'the bundle' in capsys.readouterr().out


def test_a_disagreement_is_the_exit_status(palette_bundle, tmp_path, monkeypatch, capsys):
    original = engines.ENGINES['onnxruntime']
    made = []

    def alternating(bundle, settings):
        engine = original(bundle, settings)
        made.append(engine)
        if len(made) > 2:  # after auto's and the reference's
            run = engine.run
            engine.run = lambda images: EngineOutput(-run(images).logits)
        return engine

    monkeypatch.setattr(engines, 'ENGINES', {'onnxruntime': alternating})
    monkeypatch.setattr(engine_check, 'precisions_of', lambda _: ('fp32',))
    monkeypatch.setattr('offroad_seg_core.inference.engines.selection.BUDGET_S', 0.0)
    status = check_engine.main(
        [
            *('--bundle', str(palette_bundle), '--engine', 'onnxruntime', '--runs', '2'),
            *('--engine-cache', str(tmp_path)),
        ]
    )
    assert status == 1
    printed = capsys.readouterr().out
    assert 'onnxruntime fp32: disagrees: got a label agreement of 0.' in printed


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [(['--bundle', '/nowhere'], 'no such folder'), (['--images', '/nowhere'], 'No such file')],
)
def test_nothing_to_check(arguments, reason, capsys):
    assert check_engine.main(arguments) == 2
    assert reason in capsys.readouterr().err


def test_one_engine_that_is_not_there_is_no_success(palette_bundle, tmp_path):
    pytest.importorskip('onnxruntime')
    arguments = ['--bundle', str(palette_bundle), '--engine', 'torch2trt']
    assert check_engine.main([*arguments, '--engine-cache', str(tmp_path)]) == 1


def test_the_command_is_declared():
    setup = (ROOT / 'setup.py').read_text()
    assert "'check_engine = offroad_seg_ros.check_engine:main'" in setup


def test_cells():
    assert [check_engine._text(value) for value in (None, 'x', 0.123456)] == ['', 'x', '0.1235']
    result = check_engine.EngineResult(
        'a', 'fp16', 'agrees', iou_drop={'Sky': 0.0, 'Rocks': np.float64(0.25)}
    )
    row = dict(zip(check_engine._COLUMNS, check_engine._row(result), strict=True))
    assert row['worst_class'] == 'Rocks -0.250 IoU'
