import errno
import fcntl
import os
import socket
import subprocess
import sys
import tempfile

import pytest

from offroad_seg_core.files import ProcessAtWorkError, only_process, scratch_folder

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

    def removed_before(stream, kind):
        seen.append(os.fstat(stream.fileno()).st_ino)
        if len(seen) == 1:
            file.unlink()
        return lock(stream, kind)

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


def test_other_errors_of_a_lock_are_told(tmp_path, monkeypatch):
    def fail(stream, kind):
        raise OSError(errno.EIO, 'the disk is broken')

    monkeypatch.setattr(fcntl, 'flock', fail)
    with pytest.raises(OSError, match='the disk is broken'):
        only_process(tmp_path / 'lock').__enter__()
