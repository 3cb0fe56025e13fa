import subprocess
import sys
import tempfile

import pytest

from offroad_seg_core.files import scratch_folder

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
