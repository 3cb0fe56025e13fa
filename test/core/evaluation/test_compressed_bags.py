"""Evaluations of a bag whose file was compressed: unpacked once, and gone however they end."""

from argparse import Namespace
from contextlib import nullcontext
import errno
from functools import partial
import json
import os
import tempfile
from types import SimpleNamespace

import pytest
import yaml

from offroad_seg_core.bags import unpacking
from offroad_seg_core.bags.library import zstd
from offroad_seg_core.evaluation.command import guarded, run_with_progress, tell
from offroad_seg_core.evaluation.evaluate import Evaluation
from offroad_seg_core.evaluation.inputs import AUTO
from offroad_seg_core.mining.signals import FrameSignals


@pytest.fixture
def place(drives, tmp_path):
    """A drive as `ros2 bag record --compression-mode file` leaves it."""
    folder = drives.write_drive(tmp_path / 'drive', ('front',), 20)
    (file,) = folder.glob('*.mcap')
    file.with_name('drive.mcap.zstd').write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()
    metadata = folder / 'metadata.yaml'
    told = yaml.safe_load(metadata.read_text())
    told['rosbag2_bagfile_information'] |= {
        'relative_file_paths': ['drive.mcap.zstd'],
        'compression_format': 'zstd',
        'compression_mode': 'FILE',
    }
    metadata.write_text(yaml.safe_dump(told))
    return folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    return folder


@pytest.fixture
def unpacked(monkeypatch):
    """One entry for each time that a file was unpacked."""
    found, real = [], zstd.open

    def spy(*args, **kwargs):
        found.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(zstd, 'open', spy)
    return found


def test_a_run_unpacks_a_file_once(drives, predictor, place, tmp_path, temporary, unpacked):
    output, seen = tmp_path / 'result', []

    def run():
        given = {'sinks': (FrameSignals(),), 'num_hard': 1}
        drives.run(place, predictor, output, lambda _: seen.extend(temporary.iterdir()), **given)
        return 0

    assert guarded('evaluate', lambda: output, run) == 0
    assert len(unpacked) == 1
    assert len({*seen}) == 1
    assert list(temporary.iterdir()) == []
    told = json.loads((output / 'summary.json').read_text())
    assert (told['num_frames'], told['num_with_truth'], told['notes']) == (20, 20, [])
    assert told['scores']['together']['scores']['miou_present'] == 0.5
    assert len(list((output / 'hard_frames' / 'JPEGImages').iterdir())) == 1


def test_workers_elsewhere_have_the_room_of_what_this_process_unpacked(
    drives, fleets, predictor, place, tmp_path, temporary, monkeypatch
):
    pytest.importorskip('ray', reason='fleets need requirements/fleet.txt')
    cluster = 'offroad_seg_core.fleet.cluster'
    output, held = tmp_path / 'result', []

    def crew(evaluation):
        held.append(list(temporary.iterdir()))
        return SimpleNamespace(perform=fleets.in_this_process(evaluation))

    def run():
        evaluation = Evaluation(drives.source_of([place], AUTO), predictor, output)
        held.append([file.name for file in temporary.glob('*/*')])
        given = Namespace(ray='local', chunks='', restart=False)
        return tell(run_with_progress(evaluation, given))

    monkeypatch.setattr(f'{cluster}.ray_cluster', lambda address: nullcontext())
    monkeypatch.setattr(f'{cluster}.Crew', crew)
    assert guarded('evaluate', lambda: output, run) == 0
    assert held == [['drive.mcap'], []]
    assert list(temporary.iterdir()) == []
    assert json.loads((output / 'summary.json').read_text())['num_with_truth'] == 20


@pytest.mark.parametrize(
    ('error', 'code'),
    [(KeyboardInterrupt(), 130), (OSError('no more'), 1)],
    ids=['Ctrl-C', 'error'],
)
def test_however_a_run_ends_nothing_is_left(
    drives, predictor, place, tmp_path, temporary, error, code
):
    def stop(_):
        assert len(list(temporary.glob('*/drive.mcap'))) == 1
        raise error

    output = tmp_path / 'result'
    ended = guarded('evaluate', lambda: output, lambda: drives.run(place, predictor, output, stop))
    assert ended == code
    assert list(temporary.iterdir()) == []


def test_no_room_is_told_with_a_fix_that_helps(
    drives, predictor, place, tmp_path, temporary, monkeypatch, capsys
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unpacking, '_unpack', full)
    run = partial(drives.run, place, predictor, tmp_path / 'result')
    assert guarded('evaluate', lambda: tmp_path / 'result', run) == 1
    told = capsys.readouterr().err
    assert told.startswith(f'evaluate: {place / "drive.mcap.zstd"}: got "No space left on device"')
    assert f'into {temporary}, expected room for 0.5 MB; fix: set TMPDIR' in told
    assert '--output' not in told
