"""Weights that others restrict are not passed on under this package's licence by default."""

from dataclasses import replace
from pathlib import Path

import pytest

from offroad_seg_core.distillation.config import (
    DistillationConfig,
    SoftLabelConfig,
    TeacherConfig,
)
from offroad_seg_core.models import create_model
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.checkpoint import Checkpoint
from offroad_seg_core.training.config import ModelConfig
from offroad_seg_core.training.weights_license import check_license, inherited_licenses

SHIPPED = Path(__file__).parents[2] / 'models' / 'demo_desert'


@pytest.fixture(scope='module')
def network():
    return create_model('fpn', 10, encoder='resnet18').state_dict()


@pytest.fixture
def make_checkpoint(make_config, network, tmp_path):
    """Return a function that gives a checkpoint of a run with such a beginning."""

    def make(weights=None, start=None):
        model = ModelConfig('fpn', {'encoder': 'resnet18'}, (64, 128), weights=weights)
        config = replace(make_config(), model=model, init_checkpoint=start)
        taxonomy = load_taxonomy('falcon10')
        return Checkpoint(tmp_path / 'best.ckpt', config, taxonomy, {'scores': {}}, network)

    return make


@pytest.mark.parametrize(
    ('weights', 'found'),
    [
        (None, []),
        ('imagenet', []),
        ('swsl', ['CC-BY-NC-4.0']),
        ('ssl', ['CC-BY-NC-4.0']),
        ('downloaded/model.safetensors', ['NOASSERTION']),
    ],
)
def test_of_the_encoder(make_checkpoint, weights, found):
    assert list(inherited_licenses(make_checkpoint(weights))) == found


def test_of_what_the_run_started_from(make_checkpoint, tmp_path):
    first = tmp_path / 'first.ckpt'
    make_checkpoint('swsl').save(first)
    assert list(inherited_licenses(make_checkpoint('imagenet', first))) == ['CC-BY-NC-4.0']
    make_checkpoint().save(first)
    assert inherited_licenses(make_checkpoint('imagenet', first)) == {}
    assert inherited_licenses(make_checkpoint(start=SHIPPED)) == {}
    gone = inherited_licenses(make_checkpoint('swsl', tmp_path / 'gone.ckpt'))
    assert list(gone) == ['CC-BY-NC-4.0', 'NOASSERTION']
    assert 'is not there any more' in gone['NOASSERTION']


def test_of_the_teachers_of_a_student(make_checkpoint, tmp_path):
    teacher = tmp_path / 'teacher.ckpt'
    make_checkpoint('swsl').save(teacher)
    student = make_checkpoint()
    for path, found in (
        (teacher, ['CC-BY-NC-4.0']),
        (SHIPPED, []),
        (Path('gone'), ['NOASSERTION']),
    ):
        lesson = DistillationConfig((TeacherConfig(path),), SoftLabelConfig(tmp_path / 'answers'))
        taught = replace(student, config=replace(student.config, distillation=lesson))
        assert list(inherited_licenses(taught)) == found


def test_the_user_must_state_it(make_checkpoint, load_script, tmp_path, capsys):
    checkpoint = make_checkpoint('swsl')
    check_license(checkpoint, 'CC-BY-NC-4.0')
    checkpoint.save(checkpoint.path)
    arguments = ['--checkpoint', str(checkpoint.path), '--output', str(tmp_path / 'bundle')]
    assert load_script('export').main(arguments) == 2
    told = capsys.readouterr().err
    assert "weights 'swsl' of resnet18: not for commercial use" in told
    assert "such as --license 'CC-BY-NC-4.0'" in told
    assert not (tmp_path / 'bundle').exists()
