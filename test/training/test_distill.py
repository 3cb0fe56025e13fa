"""Students in whole runs: what they learn, that they resume, and what they are refused."""

import csv
from dataclasses import replace
import json
from pathlib import Path
import shutil
import signal

import cv2
import numpy as np
import pytest
import torch

from offroad_seg_core.config import ConfigError, dump_config, load_config
from offroad_seg_core.distillation.pictures import (
    NEITHER_RGB,
    ONLY_STUDENT_RGB,
    ONLY_TEACHERS_RGB,
    difference,
)
from offroad_seg_core.distillation.retention import answer_training_frames, measure_teachers
from offroad_seg_core.distillation.soft_labels import ClassSet
from offroad_seg_core.distillation.task import DistillationTask
from offroad_seg_core.distillation.teachers import Ensemble
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.recorder import Recorder, TrainingInterruptedError
from offroad_seg_core.training.run import train

RECIPES = sorted((Path(__file__).parents[2] / 'config' / 'distill').glob('*.yaml'))


@pytest.fixture(scope='module')
def answers(tmp_path_factory):
    """Return the folder of the teacher's answers, which the tests share."""
    return tmp_path_factory.mktemp('answers')


@pytest.fixture
def make_student(finished, make_config, answers):
    """Return a function that builds a distillation of the finished run from overrides."""
    teacher = finished[0].folder / 'last.ckpt'

    def make(*overrides):
        return make_config(
            'name=student',
            'seed=2',
            'optimizer.max_steps=2',
            f'distillation.teachers=[{{path: {teacher}}}]',
            f'distillation.soft_labels.folder={answers}',
            *overrides,
        )

    return make


def steps_of(config):
    with open(config.folder / 'steps.csv') as stream:
        return [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)
        ]


def state_of(config):
    content = torch.load(config.folder / 'last.ckpt', weights_only=True)
    moments = content['optimizer_states'][0]['state']
    return content['state_dict'] | {
        f'optimizer.{key}.{name}': value
        for key, values in moments.items()
        for name, value in values.items()
    }


class TestRuns:
    EVERYTHING = (
        'distillation.terms=[{name: kl}, {name: cwd, weight: 0.5}, {name: dist}]',
        'distillation.features=[{student_layer: detail5, teacher_layer: context4}]',
        'mix={kind: cutmix}',
        'log_every=1',
    )

    def test_with_everything_resumed_equals_uninterrupted(
        self, make_student, frames_root, tmp_path, monkeypatch
    ):
        # Copies, because frames of the validation themselves are refused.
        pictures = shutil.copytree(frames_root / 'validation' / 'images', tmp_path / 'pictures')
        unlabelled = f'distillation.unlabelled={{path: {pictures}, confidence: 0}}'
        whole = make_student(*self.EVERYTHING, unlabelled, 'name=whole')
        train(whole)
        rows = steps_of(whole)
        assert [row['step'] for row in rows] == [1, 2]
        names = {'cross_entropy', 'dice', 'kl', 'cwd', 'dist', 'features_0', 'total'}
        assert names < set(rows[0])
        parts = rows[0]['cross_entropy'] + rows[0]['dice'] + rows[0]['kl'] + rows[0]['dist']
        assert rows[0]['total'] == pytest.approx(parts + 0.5 * rows[0]['cwd'], rel=1e-4)
        assert min(rows[0][name] for name in names) > 0

        original = Recorder.on_train_batch_end

        def interrupt(self, trainer, *arguments):
            if trainer.global_step == 1:
                signal.raise_signal(signal.SIGINT)
            original(self, trainer, *arguments)

        # A second run does not ask the teachers again.
        monkeypatch.setattr(Ensemble, '__call__', None)
        monkeypatch.setattr(Recorder, 'on_train_batch_end', interrupt)
        parts = make_student(*self.EVERYTHING, unlabelled, 'name=parts')
        with pytest.raises(TrainingInterruptedError):
            train(parts)
        monkeypatch.setattr(Recorder, 'on_train_batch_end', original)
        train(parts, resume=True)
        expected, found = state_of(whole), state_of(parts)
        assert expected.keys() == found.keys()
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []

        # The projectors were trained, and are gone from what is exported.
        projector = 'features.projectors.0.weight'
        assert expected[projector].shape == (256, 128, 1, 1)
        weights = load_checkpoint(whole.folder / 'last.ckpt').weights
        assert (
            weights.keys()
            == load_checkpoint(whole.folder / 'last.ckpt').build().state_dict().keys()
        )
        assert not any('teacher' in name or 'projector' in name for name in weights)

        with pytest.raises(ConfigError, match='these sections differ: distillation'):
            train(replace(parts, distillation=None), resume=True)

    def test_the_teachers_alone(self, make_student):
        """Without hard labels, many small steps bring a student towards its teacher."""
        config = make_student(
            'distillation.hard_weight=0',
            'distillation.terms=[{name: kl, options: {temperature: 1}}]',
            'optimizer.max_steps=12',
            'validate_every=12',
            'model.options={auxiliary: false}',
            'augment.photometric.strength=0',
            'log_every=1',
        )
        train(config)
        rows = steps_of(config)
        assert rows[0]['total'] == pytest.approx(rows[0]['kl'])
        assert np.mean([row['kl'] for row in rows[-3:]]) < 0.7 * rows[0]['kl']

    def test_answers_first_and_what_they_are_worth(self, make_student, finished, monkeypatch):
        config = make_student('optimizer.max_steps=1')
        answer_training_frames(config)
        scores = measure_teachers(config)
        # The teacher's own validation saw the same frames, and took the same way to full size.
        assert scores.miou_present == pytest.approx(finished[1].miou_present, abs=0.005)
        content = json.loads((config.folder / 'teachers.json').read_text())
        assert content['scores'] == scores.to_dict()
        counts = np.array(content['environments']['validation']['confusion_matrix'])
        assert counts.sum() == 2 * 64 * 128
        monkeypatch.setattr(Ensemble, '__call__', None)
        answer_training_frames(config)

    def test_answers_of_another_teacher_are_refused(self, make_student, whole):
        answer_training_frames(make_student())
        other = make_student(f'distillation.teachers=[{{path: {whole / "last.ckpt"}}}]')
        with pytest.raises(
            ConfigError, match=r'soft labels of other teachers.*teachers\[0\]\.sha'
        ):
            train(other)


class TestTask:
    def batch(self, soft):
        target = torch.full((2, 64, 128), 8, dtype=torch.uint8)
        target[:, :, :64] = 255
        image = torch.randint(0, 255, (2, 64, 128, 3), dtype=torch.uint8)
        return {'image': image, 'target': target, 'soft': soft}

    def test_ignored_pixels_are_taught_or_not(self, make_student):
        torch.manual_seed(0)
        soft = torch.rand(2, 8, 16, 10).softmax(dim=-1)
        logits = torch.randn(2, 10, 8, 16)
        values = []
        for on_ignored in ('true', 'false'):
            task = DistillationTask(make_student(f'distillation.on_ignored={on_ignored}'), 10)
            values.append(task._loss_of(logits, self.batch(soft))['kl'])
            soft[:, :, :8] = soft[:, :, :8].roll(1, dims=-1)  # what is said of ignored pixels
        assert values[0] != values[1]
        changed = task._loss_of(logits, self.batch(soft))['kl']
        torch.testing.assert_close(changed, values[1])

    def test_silent_teachers_and_ignored_labels_leave_finite_gradients(self, make_student):
        task = DistillationTask(make_student(*TestRuns.EVERYTHING[:2]), 10).train()
        batch = self.batch(torch.zeros(2, 8, 16, 10))
        batch['target'][:] = 255
        terms, total = task.compute_terms(batch)
        total.backward()
        assert {terms[name].item() for name in ('cross_entropy', 'dice', 'kl', 'cwd', 'dist')} == {
            0
        }
        assert all(
            torch.isfinite(w.grad).all() for w in task.model.parameters() if w.grad is not None
        )
        trained = {id(w) for group in task.build_optimizer().param_groups for w in group['params']}
        assert trained == {id(w) for w in task.trained_parameters()}
        assert trained >= {id(w) for w in task.features.projectors.parameters()}

    def test_classes_that_no_teacher_knows_are_left_to_the_labels(self, make_student):
        task = DistillationTask(make_student(), 10, classes=ClassSet(10, (0, 1, 8)))
        soft = torch.zeros(2, 8, 16, 10)
        soft[..., 8] = 1
        logits = torch.randn(2, 10, 8, 16, requires_grad=True)
        task._loss_of(logits, self.batch(soft))['kl'].backward()
        assert logits.grad[:, [2, 3, 4, 5, 6, 7, 9]].abs().max() == 0
        assert logits.grad[:, [0, 1, 8]].abs().min() > 0


class TestConfiguration:
    def test_what_has_no_teachers_is_written_as_before(self, make_config):
        config = make_config()
        assert config.distillation is None
        assert 'distillation' not in dump_config(config)
        assert load_config(TrainConfig, dump_config(config)) == config

    @pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
    def test_recipes_round_trip(self, path):
        config = load_config(TrainConfig, path)
        assert config.distillation is not None
        assert load_config(TrainConfig, dump_config(config)) == config


def test_the_difference_tells_who_is_right():
    target = np.array([[1, 1, 1, 1, 255]], np.uint8)
    teachers = np.array([[1, 1, 2, 2, 2]], np.uint8)
    student = np.array([[1, 3, 1, 2, 1]], np.uint8)
    image = np.full((1, 5, 3), 100, np.uint8)
    colors = difference(image, target, teachers, student)[0].tolist()
    assert colors[0] == [150] * 3
    assert [tuple(color) for color in colors[1:4]] == [
        ONLY_TEACHERS_RGB, ONLY_STUDENT_RGB, NEITHER_RGB,
    ]  # fmt: skip
    assert colors[4] == [0] * 3


class TestScript:
    def test_the_trial_of_a_recipe(self, load_script, tmp_path, capsys):
        recipe = next(path for path in RECIPES if path.stem == 'goose_groups')
        arguments = ['--config', str(recipe), '--smoke', f'output={tmp_path}']
        assert load_script('distill').main(arguments) == 0
        assert 'it keeps' in capsys.readouterr().out
        folder = tmp_path / 'goose_groups-dev'
        assert json.loads((folder / 'result.json').read_text())['step'] == 2
        assert (folder / 'teachers.json').is_file()
        sheet = cv2.imread(str(folder / 'teachers.png'))
        assert sheet.shape[1] > 5 * 360

    def test_without_teachers(self, load_script, capsys):
        recipe = RECIPES[0].parents[1] / 'train' / 'falcon_loeo.yaml'
        assert load_script('distill').main(['--config', str(recipe)]) == 2
        assert 'has no section distillation; add its teachers' in capsys.readouterr().err
