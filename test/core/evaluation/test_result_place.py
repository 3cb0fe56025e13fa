"""What a result replaces, and what it never does."""

import argparse
import json
import os

import pytest

from offroad_seg_core.evaluation.output_options import settle_places
from offroad_seg_core.evaluation.parts import Unfinished, in_work
from offroad_seg_core.evaluation.summary import (
    FORMAT_VERSION,
    ResultError,
    read_summary,
    write_summary,
)
from offroad_seg_core.places import OutputError

OTHERS = {
    'of the demo': '{"made_by": "offroad_seg_ros.demo", "cameras": {}}',
    'of nobody': '{}',
    'of a list': '[]',
    'of another version': '{"format_version": 0, "counts": {}}',
    'of another tool': '{"counts": {"a": 1}}',
    'cut off': '{"format_version": 1',
}


@pytest.fixture
def drive(drives, tmp_path):
    return drives.write_drive(tmp_path / 'drive', ('front',), 2)


@pytest.mark.parametrize('content', OTHERS.values(), ids=OTHERS)
def test_a_folder_of_something_else_keeps_its_place(drives, predictor, drive, tmp_path, content):
    output = tmp_path / 'result'
    output.mkdir()
    (output / 'summary.json').write_text(content)
    (output / 'precious').touch()
    with pytest.raises(OutputError, match=r'no older evaluation \(.*expected a new folder; fix'):
        drives.run(drive, predictor, output)
    assert (output / 'summary.json').read_text() == content
    assert (output / 'precious').exists()


def test_what_comes_to_the_place_meanwhile_is_kept(drives, predictor, drive, tmp_path):
    output = tmp_path / 'result'

    def come(count):
        output.mkdir(exist_ok=True)
        (output / 'summary.json').write_text('{"cameras": []}')

    with pytest.raises(OutputError, match='no older evaluation'):
        drives.run(drive, predictor, output, come)
    assert (output / 'summary.json').read_text() == '{"cameras": []}'
    output.rename(tmp_path / 'theirs')
    resumed = []
    assert drives.run(drive, predictor, output, resumed.append) == output
    assert resumed == [2]  # in one call: nothing is done twice
    assert drives.summary(output)['num_frames'] == 2
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ['drive', 'result', 'theirs']


def test_what_a_link_leads_to_is_replaced(drives, predictor, drive, tmp_path):
    disk, output = tmp_path / 'disk', tmp_path / 'result'
    disk.mkdir()
    output.symlink_to(disk / 'result')
    seen = []
    for _ in range(2):
        folder = drives.run(drive, predictor, output, lambda count: seen.append(os.listdir(disk)))
        assert folder == disk / 'result'
        assert output.is_symlink()
        assert read_summary(output)['num_frames'] == 2
    assert all('result.unfinished' in names for names in seen)
    assert os.listdir(disk) == ['result']
    assert sorted(os.listdir(tmp_path)) == ['disk', 'drive', 'result']


def test_a_link_that_leads_in_circles_is_told(drives, predictor, drive, tmp_path):
    (tmp_path / 'result').symlink_to('result')
    with pytest.raises(OutputError, match='no older evaluation'):
        drives.run(drive, predictor, tmp_path / 'result')


@pytest.mark.parametrize('given', ['/proc', '.'])
def test_a_place_that_nothing_can_take_is_refused_at_once(
    drives, predictor, drive, tmp_path, monkeypatch, given
):
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')

    def no_frame(count):
        raise AssertionError('work was done')

    with pytest.raises(OutputError, match='expected a place that is replaced'):
        drives.run(drive, predictor, given, no_frame)


def test_an_older_result_that_cannot_be_removed_stops_no_later_one(ordinary_folder, caplog):
    output = ordinary_folder / 'result'
    for number in range(3):
        unfinished = Unfinished(output, {}, restart=False)
        write_summary(
            unfinished.folder, {'format_version': FORMAT_VERSION, 'counts': {}, 'number': number}
        )
        assert unfinished.finish() == output
        assert read_summary(output)['number'] == number
        assert len(caplog.messages) == number
        caplog.clear()
        output.chmod(0o555)  # as one of another user
    assert len(os.listdir(ordinary_folder)) == 3


def test_inside_of_the_result_nothing_needs_a_place(ordinary_folder):
    output = ordinary_folder / 'result'
    output.mkdir()
    write_summary(output, {'format_version': FORMAT_VERSION, 'counts': {}})
    output.chmod(0o555)
    given = argparse.Namespace(output=output, mcap=output / 'drive.mcap')
    settle_places(given, [])
    assert given.mcap == output / 'drive.mcap'


def test_a_summary_of_something_else_names_the_evaluations_below_it(tmp_path):
    for place, content in (('.', {'cameras': {}}), ('evaluation', {}), ('drive/deep', {})):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / 'summary.json').write_text(json.dumps(content))
    with pytest.raises(ResultError, match=r'got the summary of something else; .*') as told:
        read_summary(tmp_path)
    assert str(told.value).endswith(f'; fix: give {tmp_path / "evaluation"}')


def test_who_works_at_a_result_is_named(tmp_path):
    with in_work(tmp_path / 'result'):
        told = f'a result that process {os.getpid()} on .* works at; expected none; fix: wait'
        with pytest.raises(OutputError, match=told):
            in_work(tmp_path / 'result').__enter__()
        with in_work(tmp_path / 'other'):
            pass
    assert os.listdir(tmp_path) == []


def test_a_lock_that_cannot_be_taken_is_told_with_a_way_out(tmp_path):
    (tmp_path / '.result.lock').mkdir()
    told = (
        rf'^{tmp_path}/result: got "Is a directory" of {tmp_path}/\.result\.lock, .*; expected a '
        'file that this user can write; fix: remove it where no command is at work, or --output'
    )
    with pytest.raises(OutputError, match=told):
        in_work(tmp_path / 'result').__enter__()


def test_what_fails_in_the_work_is_told_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match='frame'), in_work(tmp_path / 'result'):
        (tmp_path / 'frame').read_bytes()
    assert os.listdir(tmp_path) == []
