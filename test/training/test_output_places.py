"""Every script writes to this machine, and to a place that can be replaced."""

from pathlib import Path

import pytest

from offroad_seg_core.world.__main__ import main as write_world

FOLDERS = (
    'analyze_data',
    'evaluate',
    'export',
    'make_copy_paste',
    'make_report',
    'prune',
    'quantize',
    'select_student',
    'show_augmentation',
)
TOLD = 'argument --output: got a URL, s3://, expected a path; fix: write to a folder of'


@pytest.mark.parametrize('name', FOLDERS)
def test_urls_are_refused(load_script, name, capsys):
    with pytest.raises(SystemExit) as ended:
        load_script(name).main(['--output', 's3://bucket/x'])
    assert ended.value.code == 2
    assert TOLD in capsys.readouterr().err


def test_urls_are_refused_for_rendered_drives(capsys):
    with pytest.raises(SystemExit):
        write_world(['--output', 's3://bucket/x'])
    assert TOLD in capsys.readouterr().err


def test_the_list_is_complete():
    scripts = (Path(__file__).parents[2] / 'training').glob('*.py')
    writing = {path.stem for path in scripts if "'--output'" in path.read_text(encoding='utf-8')}
    assert writing | {'evaluate'} == set(FOLDERS)


@pytest.mark.parametrize(
    ('name', 'inputs'),
    [('export', ['--checkpoint', 'none']), ('quantize', ['--bundle', 'x', '--calibration', 'y'])],
)
def test_a_bundle_takes_no_mount_point(load_script, capsys, name, inputs):
    assert load_script(name).main([*inputs, '--output', '/proc']) == 2
    assert '--output: got /proc, a mount point; expected a place' in capsys.readouterr().err
