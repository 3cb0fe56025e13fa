"""Commands that are given a compressed bag, and no room to unpack it, say so in words."""

import errno
import os

import pytest
import yaml

pytest.importorskip('rosbags')

from offroad_seg_core.bags import unpacking
from offroad_seg_core.bags.library import zstd
from offroad_seg_core.config import dump_config
from offroad_seg_core.training.student_selection import Student


@pytest.fixture
def bag(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unpacking, '_unpack', full)
    folder = tmp_path / 'drive'
    folder.mkdir()
    (folder / 'drive.mcap.zstd').write_bytes(zstd.compress(bytes(2_000_000)))
    (folder / 'metadata.yaml').touch()
    return folder


def check_told(bag, told):
    assert told.startswith(f'error: {bag / "drive.mcap.zstd"}: got "No space left on device"')
    assert 'expected room for 2.0 MB; fix: set TMPDIR' in told


def test_calibration(load_script, palette_bundle, frames_root, bag, tmp_path, capsys):
    data = tmp_path / 'data.yaml'
    data.write_text(yaml.safe_dump({'kind': 'folder', 'root': str(frames_root)}))
    given = ['--bundle', palette_bundle, '--output', tmp_path / 'int8', '--data', data]
    given += ['--calibration', bag]
    assert load_script('quantize').main([*map(str, given)]) == 2
    check_told(bag, capsys.readouterr().err)


@pytest.mark.parametrize(
    ('script', 'more'),
    [
        ('train', ()),
        ('distill', ()),
        ('select_student', ('--budget-ms', '1', '--candidates', 'ddrnet23_slim')),
    ],
)
def test_unlabelled_frames(
    load_script, finished, make_config, bag, tmp_path, capsys, monkeypatch, script, more
):
    config = make_config(
        f'distillation.teachers=[{{path: {finished[0].folder / "last.ckpt"}}}]',
        f'distillation.soft_labels.folder={tmp_path / "answers"}',
        f'distillation.unlabelled={{path: {bag}}}',
    )
    source = tmp_path / 'config.yaml'
    source.write_text(yaml.safe_dump(dump_config(config)))
    command = load_script(script)
    if more:
        more = (*more, '--output', str(tmp_path / 'students'))
        monkeypatch.setattr(command, 'measure', lambda _, names, __: [Student(names[0], 1, 0.5)])
    assert command.main(['--config', str(source), *more]) == 2
    check_told(bag, capsys.readouterr().err)
