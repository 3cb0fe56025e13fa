import logging

import pytest
from safetensors.torch import save_file
import torch

from offroad_seg_core.files import sha256_of
from offroad_seg_core.models import create_model, pretrained
from offroad_seg_core.models.pretrained import WeightsError, load_encoder_weights, read_weights


@pytest.fixture(scope='module')
def source():
    torch.manual_seed(1)
    return create_model('fpn', 3, encoder='resnet18').encoder.state_dict()


def fresh():
    return create_model('fpn', 5, encoder='resnet18')


def same(model, source):
    state = model.encoder.state_dict()
    return all(torch.equal(state[name], value) for name, value in source.items())


def test_safetensors_of_the_encoder(source, tmp_path, caplog):
    path = tmp_path / 'resnet18.safetensors'
    save_file({**source, 'fc.weight': torch.zeros(10, 512)}, path)
    model = fresh()
    classifier = model.network.segmentation_head[0].weight.clone()
    with caplog.at_level(logging.INFO):
        report = load_encoder_weights(model, str(path))
    assert same(model, source)
    assert torch.equal(model.network.segmentation_head[0].weight, classifier)
    assert report.unused == ('fc.weight',)
    assert report.missing == ()
    assert len(report.loaded) == len(source)
    assert sha256_of(path) == report.sha256
    assert report.sha256 in caplog.text
    assert 'unused: fc.weight' in caplog.text


@pytest.mark.parametrize('prefix', ['', 'encoder.', 'module.encoder.', 'model.backbone.'])
@pytest.mark.parametrize('container', [None, 'state_dict'])
def test_names_and_containers_of_other_projects(source, tmp_path, prefix, container):
    state = {f'{prefix}{name}': value for name, value in source.items()}
    state['decode_head.conv.weight'] = torch.zeros(1)
    path = tmp_path / 'weights.pth'
    torch.save(state if container is None else {container: state, 'epoch': 3}, path)
    model = fresh()
    load_encoder_weights(model, str(path))
    assert same(model, source)


def test_what_is_missing_is_listed_and_kept(source, tmp_path):
    state = {name: value for name, value in source.items() if not name.startswith('layer4')}
    path = tmp_path / 'part.pth'
    torch.save(state, path)
    report = load_encoder_weights(fresh(), str(path))
    assert 'layer4.0.conv1.weight' in report.missing
    assert all(name.startswith('layer4') for name in report.missing)
    assert not any('num_batches_tracked' in name for name in report.missing)


def test_another_architecture(source, tmp_path):
    path = tmp_path / 'wrong.pth'
    state = {**source, 'conv1.weight': torch.zeros(64, 4, 7, 7)}
    torch.save(state, path)
    expected = r'conv1.weight: got \(64, 4, 7, 7\), expected \(64, 3, 7, 7\) of resnet18'
    with pytest.raises(WeightsError, match=expected):
        load_encoder_weights(fresh(), str(path))
    torch.save({'some.weight': torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match='only 0 of'):
        load_encoder_weights(fresh(), str(path))


class Evil:
    def __reduce__(self):
        return print, ('this must not run',)


def test_files_that_are_no_weights(tmp_path, capsys):
    with pytest.raises(WeightsError, match='no such file'):
        read_weights(tmp_path / 'gone.pth')
    path = tmp_path / 'evil.pth'
    torch.save({'state_dict': Evil()}, path)
    with pytest.raises(WeightsError, match='would run its code'):
        read_weights(path)
    assert 'must not run' not in capsys.readouterr().out
    for suffix in ('.pth', '.safetensors'):
        (tmp_path / f'cut{suffix}').write_bytes(b'PK\x03\x04 not really')
        with pytest.raises(WeightsError, match=r'cut\..*cannot be read|cut\..*run its code'):
            read_weights(tmp_path / f'cut{suffix}')
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match='expected a state dict'):
        read_weights(path)


def test_a_model_without_an_encoder():
    with pytest.raises(WeightsError, match='init_checkpoint'):
        load_encoder_weights(create_model('ddrnet23_slim', 3), 'imagenet')


def test_offline_names_the_file_to_fetch(monkeypatch):
    def offline(*arguments, **options):
        raise ConnectionError('no network')

    monkeypatch.setattr('huggingface_hub.hf_hub_download', offline)
    expected = r'download https://huggingface.co/smp-hub/resnet18.imagenet/resolve/\w+/model'
    with pytest.raises(WeightsError, match=expected):
        load_encoder_weights(fresh(), 'imagenet')


def test_unknown_names_list_what_exists():
    with pytest.raises(WeightsError, match=r"named 'swsll'; expected one of .*swsl"):
        load_encoder_weights(fresh(), 'swsll')
    model = create_model('convnext_tiny_fpn', 3, encoder='convnext_atto')
    with pytest.raises(WeightsError, match=r'convnext_atto\.d2_in1k'):
        load_encoder_weights(model, 'nothing')


def test_names_lead_to_the_hub(source, tmp_path, monkeypatch, caplog):
    path = tmp_path / 'model.safetensors'
    save_file(source, path)
    asked = []

    def download(repository, file, revision):
        asked.append((repository, file))
        return str(path)

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    model = fresh()
    load_encoder_weights(model, 'swsl')
    assert asked == [('smp-hub/resnet18.swsl', 'model.safetensors')]
    assert same(model, source)
    assert 'CC-BY-NC-4.0' in caplog.text
    assert pretrained._hub_address('convnext_tiny', 'imagenet')[0].startswith('timm/convnext_tiny')
