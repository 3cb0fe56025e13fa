"""Bundles: what is written is what is loaded, and nothing else is accepted."""

import os
from pathlib import Path
import shutil

import pytest
import yaml

from offroad_seg_core.files import sha256_of
from offroad_seg_core.inference.bundle import Bundle, BundleError, write_bundle
from offroad_seg_core.inference.engines import EngineError, create_engine
from offroad_seg_core.taxonomy import load_taxonomy


@pytest.fixture
def folder(tmp_path, palette_bundle):
    """A copy that a test may damage."""
    return Path(shutil.copytree(palette_bundle, tmp_path / 'copy'))


def edit(folder, **changes):
    file = folder / 'manifest.yaml'
    content = yaml.safe_load(file.read_text())
    content.update(changes)
    file.write_text(yaml.safe_dump(content))


def test_loads_what_was_written(palette_bundle):
    bundle = Bundle.load(palette_bundle)
    assert bundle.manifest.input.size == (64, 96)
    assert bundle.manifest.input.resize == 'letterbox'
    assert bundle.taxonomy == load_taxonomy('falcon10')
    assert bundle.precisions == ('fp32',)
    model = bundle.model_file('fp32')
    assert bundle.manifest.files == {'model.onnx': sha256_of(model)}
    assert bundle.identity == f'palette ({sha256_of(model)[:12]})'


def test_unknown_precision_names_what_there_is(palette_bundle):
    with pytest.raises(BundleError, match=r"'int8'.*\['fp32'\]"):
        Bundle.load(palette_bundle).model_file('int8')


def test_missing_folder_and_missing_manifest(tmp_path):
    with pytest.raises(BundleError, match='no such folder'):
        Bundle.load(tmp_path / 'nowhere')
    with pytest.raises(BundleError, match=r'without manifest\.yaml'):
        Bundle.load(tmp_path)


@pytest.mark.parametrize('version', [3, None, '1', 'new'])
def test_unknown_format_version(folder, version):
    edit(folder, format_version=version)
    with pytest.raises(BundleError, match=r'format_version.*expected one of \(1, 2\)'):
        Bundle.load(folder)


def test_a_bundle_of_the_first_format_means_the_same(folder):
    second = Bundle.load(folder)
    content = yaml.safe_load((folder / 'manifest.yaml').read_text())
    del content['models'][0]['is_checked'], content['outputs']['label_stride']
    edit(folder, format_version=1, models=content['models'], outputs=content['outputs'])
    first = Bundle.load(folder)
    assert first.manifest.model_copy(update={'format_version': 2}) == second.manifest


@pytest.mark.parametrize(
    ('wanted', 'there', 'file'),
    [
        ('fp32', ('fp32',), 'fp32.onnx'),
        ('bf16', ('fp32', 'int8'), 'fp32.onnx'),
        ('fp16', ('fp32', 'fp16'), 'fp16.onnx'),
        ('int8', ('fp32', 'int8'), 'int8.onnx'),
    ],
)
def test_the_file_that_a_precision_is_computed_from(tmp_path, folder, wanted, there, file):
    bundle = write_precisions(tmp_path / 'new', folder, there)
    assert bundle.source_file(wanted) == tmp_path / 'new' / file


@pytest.mark.parametrize(('wanted', 'there'), [('int8', ('fp32',)), ('bf16', ('int8',))])
def test_a_precision_that_no_file_gives(tmp_path, folder, wanted, there):
    with pytest.raises(BundleError, match='expected one of'):
        write_precisions(tmp_path / 'new', folder, there).source_file(wanted)


def write_precisions(path, folder, precisions):
    content = yaml.safe_load((folder / 'manifest.yaml').read_text())
    del content['files']
    content['models'] = [{'precision': name, 'file': f'{name}.onnx'} for name in precisions]
    files = {f'{name}.onnx': folder / 'model.onnx' for name in precisions}
    return write_bundle(path, content, files)


def test_changed_file(folder):
    with open(folder / 'model.onnx', 'ab') as stream:
        stream.write(b'\0')
    with pytest.raises(BundleError, match='damaged'):
        Bundle.load(folder)


def test_missing_file(folder):
    (folder / 'model.onnx').unlink()
    with pytest.raises(BundleError, match=r'model\.onnx is missing'):
        Bundle.load(folder)


@pytest.mark.parametrize('name', ['../model.onnx', '/etc/passwd', 'a/../../b', 'a\\b'])
def test_escaping_names(folder, name):
    digest = sha256_of(folder / 'model.onnx')
    edit(folder, files={'model.onnx': digest, name: digest})
    with pytest.raises(BundleError, match='inside the bundle folder'):
        Bundle.load(folder)


def test_escaping_link(folder, tmp_path):
    outside = tmp_path / 'outside.onnx'
    shutil.move(folder / 'model.onnx', outside)
    os.symlink(outside, folder / 'model.onnx')
    with pytest.raises(BundleError, match='outside the bundle folder'):
        Bundle.load(folder)


def test_a_folder_of_links_to_a_bundle_is_a_bundle(folder, tmp_path):
    linked = tmp_path / 'linked'
    linked.mkdir()
    for file in folder.iterdir():
        os.symlink(file, linked / file.name)
    assert Bundle.load(linked).manifest == Bundle.load(folder).manifest


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'colour': 'blue'}, 'colour'),
        ({'input': {'size': [60, 96], 'mean': [0] * 3, 'std': [1] * 3}}, r'fix: \(64, 96\)'),
        ({'input': {'size': [64, 96], 'mean': [0] * 3, 'std': [1, 0, 1]}}, 'above 0'),
        ({'models': []}, 'models'),
        ({'outputs': {'kind': 'fused', 'stride': 8, 'num_classes': 10}}, 'label_stride None'),
        ({'outputs': {'stride': 8, 'num_classes': 10, 'label_stride': 8}}, 'none for others'),
        (
            {'outputs': {'kind': 'fused', 'stride': 8, 'num_classes': 10, 'label_stride': 3}},
            'a divisor of the stride 8',
        ),
        ({'models': [{'precision': 'fp32', 'file': 'other.onnx'}]}, r'other\.onnx'),
        ({'suppressed_classes': ['Lava']}, 'Lava'),
        ({'taxonomy': {'name': 'x'}}, r'manifest\.yaml'),
    ],
)
def test_inconsistent_manifests(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


def test_garbage_manifest(folder):
    (folder / 'manifest.yaml').write_text('{[')
    with pytest.raises(BundleError, match='not valid YAML'):
        Bundle.load(folder)
    (folder / 'manifest.yaml').write_text('- a list')
    with pytest.raises(BundleError, match='expected a mapping'):
        Bundle.load(folder)


def test_taxonomy_that_does_not_fit_the_declared_outputs(folder):
    edit(folder, taxonomy=load_taxonomy('falcon7').to_dict())
    with pytest.raises(BundleError, match=r'outputs 10 classes.*has 7'):
        Bundle.load(folder)


@pytest.mark.parametrize('name', ['onnxruntime', 'openvino'])
def test_taxonomy_that_does_not_fit_the_model(folder, name):
    taxonomy = load_taxonomy('falcon7').to_dict()
    edit(folder, taxonomy=taxonomy, outputs={'stride': 8, 'num_classes': 7})
    with pytest.raises(BundleError, match=r'outputs 10 classes.*has 7'):
        create_engine(Bundle.load(folder), name, 'fp32')


@pytest.mark.parametrize('name', ['onnxruntime', 'openvino'])
def test_model_that_is_no_onnx(folder, name):
    (folder / 'model.onnx').write_bytes(b'not a model')
    edit(folder, files={'model.onnx': sha256_of(folder / 'model.onnx')})
    with pytest.raises(EngineError, match=r'model\.onnx'):
        create_engine(Bundle.load(folder), name, 'fp32')


def test_writing_replaces_a_bundle_and_leaves_no_rest(folder, tmp_path):
    content = yaml.safe_load((folder / 'manifest.yaml').read_text())
    content.pop('files')
    content['name'] = 'second'
    source = tmp_path / 'new.onnx'
    source.write_bytes(b'other weights')
    assert write_bundle(folder, content, {'model.onnx': source}).manifest.name == 'second'
    assert (folder / 'model.onnx').read_bytes() == b'other weights'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['copy', 'new.onnx']


def test_invalid_manifest_writes_nothing(folder, tmp_path):
    with pytest.raises(BundleError, match='name'):
        write_bundle(tmp_path / 'new', {}, {'model.onnx': folder / 'model.onnx'})
    assert not (tmp_path / 'new').exists()


def test_other_folders_are_not_replaced(folder, tmp_path):
    (tmp_path / 'home').mkdir()
    with pytest.raises(BundleError, match='no bundle'):
        write_bundle(tmp_path / 'home', {}, {'model.onnx': folder / 'model.onnx'})
