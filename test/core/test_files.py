import errno
import fcntl
import os
import socket
import subprocess
import sys
import tempfile

import pytest

from offroad_seg_core.files import ProcessAtWorkError, only_process, replace_folder, scratch_folder

HOLDS_ONE = """
from offroad_seg_core.files import scratch_folder
with scratch_folder() as folder:
    (folder / 'drive').write_text('fetched')
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    return tmp_path


def test_a_scratch_folder_ends_with_its_block(temporary):
    with scratch_folder() as folder:
        (folder / 'file').write_text('here')
        assert folder.parent == temporary
    assert list(temporary.iterdir()) == []


def test_scratch_folders_of_killed_processes_are_removed_and_no_others(temporary):
    kept = temporary / 'offroad_seg_results'
    kept.mkdir()
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen([sys.executable, '-c', HOLDS_ONE], **pipes) as process:
        try:
            theirs = temporary / process.stdout.readline().strip()
            with scratch_folder() as first, scratch_folder() as second:
                assert {*temporary.iterdir()} == {kept, theirs, first, second}
        finally:
            process.kill()
    assert (theirs / 'drive').read_text() == 'fetched'
    with scratch_folder() as folder:
        assert {*temporary.iterdir()} == {kept, folder}


@pytest.mark.parametrize('other', ['robot-2', 'robot_2', 'two/robots*'])
def test_scratch_folders_of_other_hosts_stay(temporary, monkeypatch, other):
    """On network file systems nobody sees the locks that they hold."""

    def leave_one(host):
        monkeypatch.setattr(socket, 'gethostname', lambda: host)
        with scratch_folder() as folder:
            pass
        folder.mkdir()
        return folder

    theirs = leave_one(other)
    leave_one('robot')
    with scratch_folder() as folder:
        assert {*temporary.iterdir()} == {theirs, folder}
    monkeypatch.setattr(socket, 'gethostname', lambda: other)
    with scratch_folder() as folder:
        assert {*temporary.iterdir()} == {folder}


def new_folder(parent, content):
    folder = parent / 'new'
    folder.mkdir()
    (folder / 'file').write_text(content)
    return folder


def test_a_folder_takes_the_place_of_an_older_one(tmp_path, caplog):
    place = tmp_path / '[result]'
    (tmp_path / '.[result].older_0123abcd').mkdir()  # of a process that was killed in between
    others = [tmp_path / name for name in ('.r.older_0123abcd', '.[result].older_0123abcd.lock')]
    for other in others:
        other.mkdir()
    for content in ('first', 'second'):
        replace_folder(new_folder(tmp_path, content), place)
        assert (place / 'file').read_text() == content
        assert {*tmp_path.iterdir()} == {place, *others}
    assert caplog.messages == []


def test_an_older_folder_that_cannot_be_removed_stops_no_later_one(ordinary_folder, caplog):
    """As where another user has made it."""
    place = ordinary_folder / 'result'
    for number in range(3):
        replace_folder(new_folder(ordinary_folder, str(number)), place)
        assert (place / 'file').read_text() == str(number)
        place.chmod(0o555)
        left = {*ordinary_folder.iterdir()} - {place}
        assert len(left) == number
        assert {text.partition(':')[0] for text in caplog.messages} == {*map(str, left)}
        caplog.clear()
    for path in left:
        path.chmod(0o755)
    place.chmod(0o755)
    replace_folder(new_folder(ordinary_folder, 'last'), place)
    assert [*ordinary_folder.iterdir()] == [place]
    assert caplog.messages == []


def test_an_older_folder_comes_back_where_no_new_one_follows(tmp_path):
    place = new_folder(tmp_path, 'older').rename(tmp_path / 'result')
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / 'none', place)
    assert (place / 'file').read_text() == 'older'
    assert [*tmp_path.iterdir()] == [place]


HOLDS_A_FILE = """
from pathlib import Path
import sys
from offroad_seg_core.files import only_process
with only_process(Path(sys.argv[1])):
    print(flush=True)
    input()
"""


def test_one_process_at_a_time_and_none_after_it_was_killed(tmp_path):
    file = tmp_path / 'lock'
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    command = [sys.executable, '-c', HOLDS_A_FILE, str(file)]
    with subprocess.Popen(command, **pipes) as process:
        try:
            process.stdout.readline()
            with pytest.raises(ProcessAtWorkError, match=f'^process {process.pid} on '):
                only_process(file).__enter__()
        finally:
            process.kill()
    assert file.exists()
    with only_process(file):
        assert file.read_text().startswith(f'process {os.getpid()} on ')
    assert not file.exists()


def test_a_file_that_its_process_removes_meanwhile_is_locked_anew(tmp_path, monkeypatch):
    file, lock, seen = tmp_path / 'lock', fcntl.flock, []

    def removed_before(descriptor, kind):
        seen.append(os.fstat(descriptor).st_ino)
        if len(seen) == 1:
            file.unlink()
        return lock(descriptor, kind)

    monkeypatch.setattr(fcntl, 'flock', removed_before)
    with only_process(file):
        assert os.stat(file).st_ino == seen[-1]
        assert len(seen) == 2


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_everybody_is_let_in(tmp_path, monkeypatch, number):
    def refuse(stream, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, 'flock', refuse)
    with only_process(tmp_path / 'lock'), only_process(tmp_path / 'lock'):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_another_user_left_is_replaced(ordinary_folder):
    file = ordinary_folder / 'lock'
    file.write_text('process 1 on earth')
    file.chmod(0o444)
    with only_process(file):
        assert file.read_text().startswith(f'process {os.getpid()} on ')
    assert list(ordinary_folder.iterdir()) == []


def test_a_file_that_another_user_holds_names_that_one(ordinary_folder):
    file = ordinary_folder / 'lock'
    with only_process(file):
        file.chmod(0o444)
        with pytest.raises(ProcessAtWorkError, match=f'^process {os.getpid()} on '):
            only_process(file).__enter__()
        assert file.exists()


def test_a_file_in_a_folder_that_cannot_be_written_is_told(ordinary_folder):
    ordinary_folder.chmod(0o555)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*/lock'$"):
        only_process(ordinary_folder / 'lock').__enter__()


def test_who_holds_a_file_need_not_be_readable(tmp_path, monkeypatch):
    """As on SMB, where the lock keeps others from reading, too."""

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    file = tmp_path / 'lock'
    with only_process(file):
        monkeypatch.setattr(os, 'read', refuse)
        with pytest.raises(ProcessAtWorkError, match=r'^another process$'):
            only_process(file).__enter__()


def test_other_errors_of_a_lock_are_told(tmp_path, monkeypatch):
    def fail(stream, kind):
        raise OSError(errno.EIO, 'the disk is broken')

    monkeypatch.setattr(fcntl, 'flock', fail)
    with pytest.raises(OSError, match='the disk is broken'):
        only_process(tmp_path / 'lock').__enter__()
