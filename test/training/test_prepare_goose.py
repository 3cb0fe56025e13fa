"""The script end to end, against a real server that has a tiny GOOSE."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import urllib3
import yaml

HELPERS = Path(__file__).parents[1] / 'core' / 'datasets' / 'acquisition'


def load_helper(name):
    spec = spec_from_file_location(name, HELPERS / f'{name}.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server():
    with load_helper('file_server').serve() as running:
        yield running


@pytest.fixture
def config(server, tmp_path):
    """A configuration file for the server's tiny GOOSE."""
    goose = load_helper('goose_archives')
    archives = [
        {'name': name, 'url': server.add(name, goose.zipped(files))}
        for name, files in goose.tiny_goose().items()
    ]
    content = {'root': str(tmp_path / 'goose'), 'archives': archives, 'reserve_gb': 0}
    content['retry'] = {'attempts': 3, 'first_wait_s': 0}
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump(content))
    return ['--config', str(path)]


@pytest.fixture
def main(load_script):
    return load_script('prepare_goose').main


def state_of(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob('*')}


def test_twice_the_second_time_nothing(main, config, server, tmp_path, capsys):
    server.pages['/goose_2d_train.zip'].drop_at = [300, 700]
    server.pages['/goose_2d_val.zip'].statuses = [503]
    assert main(config) == 0
    printed = capsys.readouterr().out
    assert (
        'train  2 scenarios; images: camera_left 1, windshield_nir 1, windshield_vis 1' in printed
    )
    assert printed.splitlines()[-1] == f'{tmp_path / "goose"}: 27 files, CC BY-SA 4.0'
    state = state_of(tmp_path / 'goose')
    server.requests.clear()
    assert main(config) == 0
    assert capsys.readouterr().out == printed
    assert server.requests == []
    assert state_of(tmp_path / 'goose') == state


def test_ctrl_c_says_how_to_go_on(main, config, server, tmp_path, monkeypatch, capsys):
    read = urllib3.HTTPResponse.read1
    calls = []

    def interrupted(response, _):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(response, 100)

    with monkeypatch.context() as patch:
        patch.setattr(urllib3.HTTPResponse, 'read1', interrupted)
        assert main(config) == 130
    assert 'run the same command again to go on' in capsys.readouterr().err
    have = (tmp_path / 'goose/archives/goose_2d_train.zip.part').stat().st_size
    assert 0 < have <= 200
    assert main(config) == 0
    assert ('/goose_2d_train.zip', f'bytes={have}-') in server.requests


def test_verify(main, config, tmp_path, capsys):
    assert main([*config, '--verify']) == 2
    assert 'prepare the folder first' in capsys.readouterr().err
    assert main([*config, '--delete-archives']) == 0
    assert main([*config, '--verify', 'content']) == 0
    assert 'everything is as it was extracted' in capsys.readouterr().out
    image = next((tmp_path / 'goose/images').rglob('*.png'))
    image.write_bytes(bytes(image.stat().st_size))
    assert main([*config, '--verify']) == 0  # sizes only
    assert main([*config, '--verify', 'content']) == 1
    assert f'{image.name}: has other content' in capsys.readouterr().err


def test_only_some_archives(main, config, server, tmp_path):
    assert main([*config, '--only', 'goose_2d_val.zip']) == 0
    assert {path for path, _ in server.requests} == {'/goose_2d_val.zip'}
    assert [p.name for p in (tmp_path / 'goose/images').iterdir()] == ['val']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--only', 'typo.zip'], 'no such archive'),
        (['rooot=x'], "did you mean 'root'"),
        (['reserve_gb=1e9'], 'should stay free'),
    ],
)
def test_mistakes(main, config, arguments, message, capsys):
    assert main([*config, *arguments]) == 2
    assert message in capsys.readouterr().err
