import json

import pytest
import yaml

from offroad_seg_core.config import dump_config
from offroad_seg_core.evaluation.report.student_front import draw_front
from offroad_seg_core.training import student_selection
from offroad_seg_core.training.student_selection import Student, front


def test_the_front_holds_those_that_no_other_beats():
    students = [
        Student('slow and worse', 1, 40.0, 0.5),
        Student('fast', 1, 10.0, 0.4),
        Student('as fast, worse', 1, 10.0, 0.3),
        Student('good', 1, 30.0, 0.6),
        Student('never trained', 1, 5.0),
    ]
    assert [student.name for student in front(students)] == ['fast', 'good']
    axes = draw_front(students, 35.0).axes[0]
    texts = {text.get_text() for text in axes.texts}
    assert {'fast', 'never trained, not trained', 'budget 35 ms'} <= texts
    assert axes.lines[0].get_xdata().tolist() == [10.0, 30.0]


def test_a_candidate_gets_nothing_of_another_architecture(make_config, finished):
    features = '[{student_layer: a, teacher_layer: b}]'
    config = make_config(
        f'init_checkpoint={finished[0].folder / "best.ckpt"}',
        'distillation.teachers=[{path: x}]',
        'distillation.soft_labels.folder=y',
        f'distillation.features={features}',
    )
    same = student_selection.candidate_config(config, 'ddrnet23_slim', config.output)
    assert same.init_checkpoint == config.init_checkpoint
    assert len(same.distillation.features) == 1
    other = student_selection.candidate_config(config, 'segformer_b0', config.output)
    assert other.model.name == 'segformer_b0'
    assert other.init_checkpoint is None
    assert other.distillation.features == ()
    assert other.distillation.teachers == config.distillation.teachers


def test_a_candidate_with_another_encoder_is_another_architecture(make_config):
    config = make_config(
        'model={name: convnext_tiny_fpn, options: {encoder: efficientnet_lite0, width: 96}}',
        'init_checkpoint=start.ckpt',
    )
    other = student_selection.candidate_config(config, 'mobilenetv3_large', config.output)
    assert other.init_checkpoint is None
    without = make_config('model={name: convnext_tiny_fpn, weights: imagenet}')
    for name, expected in (('convnext_tiny', 'imagenet'), ('mobilenetv3_large', None)):
        run = student_selection.candidate_config(without, name, config.output)
        assert run.model.weights == expected


@pytest.fixture
def arguments(make_config, tmp_path):
    config = make_config('optimizer.max_steps=2')
    source = tmp_path / 'tiny.yaml'
    source.write_text(yaml.safe_dump(dump_config(config)))
    given = ['--config', source, '--output', tmp_path / 'out', '--engine', 'onnxruntime']
    return [*map(str, given), '--candidates', 'tiny', '--budget-ms']


def test_what_is_fast_enough_is_trained_once(
    load_script, arguments, tmp_path, monkeypatch, capsys
):
    main = load_script('select_student').main
    tiny = {'tiny': ('ddrnet23_slim', {'auxiliary': True})}
    monkeypatch.setattr(student_selection, 'CANDIDATES', tiny)
    assert main([*arguments, '1e-9']) == 0
    (student,) = json.loads((tmp_path / 'out' / 'students.json').read_text())['students']
    assert student['miou_present'] is None
    assert student['num_parameters'] == 5_695_338
    assert not (tmp_path / 'out' / 'tiny').exists()

    measured = [Student('tiny', 1, 3.0)]
    script = load_script('select_student')
    monkeypatch.setattr(script, 'measure', lambda *_: list(measured))
    for _ in range(2):  # the second time it is read
        assert script.main([*arguments, '60000']) == 0
        assert 'on the front' in capsys.readouterr().out
        (student,) = json.loads((tmp_path / 'out' / 'students.json').read_text())['students']
        assert student['miou_present'] >= 0
        written = (tmp_path / 'out' / 'tiny' / 'last.ckpt').stat().st_mtime_ns
        monkeypatch.setattr(student_selection, 'train', None)
    assert (tmp_path / 'out' / 'tiny' / 'last.ckpt').stat().st_mtime_ns == written
    assert (tmp_path / 'out' / 'students.png').stat().st_size > 1000


def test_unknown_candidates_are_named(load_script, arguments, capsys):
    assert load_script('select_student').main([*arguments, '10']) == 2
    assert "got 'tiny', expected some of ddrnet23_slim" in capsys.readouterr().err
