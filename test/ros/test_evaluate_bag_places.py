"""Where the command writes: what is read, and what others made, is never lost."""

import subprocess
import sys

import numpy as np
import pytest

from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_ros.demo_inputs import CameraBag
from offroad_seg_ros.evaluate_bag import main

SIZE = (64, 96)
START_NS = 1_700_000_000_000_000_000
HOLDS = """
from pathlib import Path
import sys
from offroad_seg_core.evaluation.parts import in_work
with in_work(Path(sys.argv[1])):
    print(flush=True)
    input()
"""


@pytest.fixture
def drive(tmp_path):
    """Two frames of landscape, in the folder of a demo, with a node's labels beside them."""
    pixels = np.full((*SIZE, 3), load_taxonomy('falcon10').palette_bgr[8], np.uint8)
    home = tmp_path / 'demo'
    with CameraBag(home / 'drive') as bag, CameraBag(home / 'outputs') as outputs:
        for index in range(2):
            time_ns = START_NS + index * 100_000_000
            bag.write_picture('left', '/left/image_raw', time_ns, pixels, 'bgr8')
            mask = np.full(SIZE, 8, np.uint8)
            outputs.write_picture('left', '/left/segmentation/mask', time_ns, mask, 'mono8')
    (home / 'summary.json').write_text('{"made_by": "offroad_seg_ros.demo"}')
    return home / 'drive'


@pytest.fixture
def evaluate(drive, palette_bundle):
    """Return a function that runs the command on the drive with further arguments."""

    def run(*arguments):
        given = (drive, '--bundle', palette_bundle, '--engine', 'onnxruntime', '--labels', 'none')
        return main([str(word) for word in (*given, *arguments)])

    return run


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (('--output', '{demo}'), '{demo}, which holds {demo}/drive, which is read'),
        (('--output', '{demo}/drive'), 'which holds {demo}/drive'),
        (('--output', '{demo}/drive/result'), 'which lies in {demo}/drive'),
        (('--output', '{demo}/link/drive/result'), 'which lies in {demo}/drive'),
        (
            ('--output', '{demo}/outputs/x', '--labels-from', '{demo}/outputs'),
            'which lies in {demo}/outputs',
        ),
        (('--output', '{demo}/truth', '--truth', '{demo}/truth/png'), 'holds {demo}/truth/png'),
        (('--output', '{bundle}/result'), 'which lies in {bundle}'),
        (('--output', '{bundle}/x', '--reference', '{bundle}'), 'which lies in {bundle}'),
        (('--output', '{demo}/new', '--mcap', '{demo}/drive/x/y.mcap'), '--mcap: got {demo}/driv'),
        (('--output', '{demo}/truth'), 'something that is no older evaluation'),
        (('--output', '/proc'), '--output: got /proc, a mount point; expected a place that'),
        (('--output', '{demo}/summary.json/new/x'), 'in {demo}/summary.json; expected one in a f'),
        (
            ('--output', '{demo}/new', '--mcap', '{demo}/summary.json/x.mcap'),
            '--mcap: got {demo}/summary.json/x.mcap, in {demo}/summary.json; expected one in a f',
        ),
        (('--output', '.'), 'the current folder or one above it; expected a place that'),
    ],
)
def test_what_is_read_is_never_replaced(
    evaluate, drive, palette_bundle, capsys, monkeypatch, arguments, told
):
    home = drive.parent
    (home / 'truth' / 'png').mkdir(parents=True)
    (home / 'link').symlink_to('.')
    (home.parent / 'here').mkdir()
    monkeypatch.chdir(home.parent / 'here')
    before = sorted(home.rglob('*'))
    places = {'demo': home, 'bundle': palette_bundle}
    assert evaluate(*(word.format(**places) for word in arguments)) == 1
    assert told.format(**places) in capsys.readouterr().err
    assert sorted(home.rglob('*')) == before


@pytest.mark.parametrize('option', ['--output', '--mcap'])
def test_results_are_written_to_this_machine(evaluate, drive, capsys, monkeypatch, option):
    monkeypatch.chdir(drive.parent)
    before = sorted(drive.parent.rglob('*'))
    with pytest.raises(SystemExit) as ended:
        evaluate(option, 's3://bucket/x.mcap')
    assert ended.value.code == 2
    told = f'argument {option}: got a URL, s3://, expected a path; fix: write to a folder of'
    assert told in capsys.readouterr().err
    assert sorted(drive.parent.rglob('*')) == before


def test_an_evaluation_beside_its_inputs_is_replaced(evaluate, drive, tmp_path):
    live = tmp_path / 'live'
    live.mkdir()
    (live / 'frames.csv').write_text(f'camera,stamp_ns,latency_ms\nleft,{START_NS},40\n')
    output = ('--output', live / 'result', '--latencies', live, '--mcap', live / 'result/x.mcap')
    for _ in range(2):
        assert evaluate(*output) == 0
        assert (live / 'result' / 'x.mcap').is_file()
    assert sorted(path.name for path in live.iterdir()) == ['frames.csv', 'result']


def test_of_two_commands_the_second_one_waits_for_nobody(evaluate, tmp_path, capsys):
    output = tmp_path / 'result'
    (tmp_path / 'link').symlink_to(output)
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen([sys.executable, '-c', HOLDS, str(output)], **pipes) as first:
        try:
            first.stdout.readline()
            for name in ('result', 'link'):
                assert evaluate('--output', tmp_path / name, '--restart') == 1
                told = capsys.readouterr().err
                assert f'{output}: got a result that process {first.pid} on ' in told
        finally:
            first.kill()
    assert not output.exists()
    assert evaluate('--output', output) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ['demo', 'link', 'result']
