"""The hash of the code knows the code, and nothing else that lies beside it."""

import os

import pytest

from offroad_seg_core import provenance


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A folder with the files of a package, whose hash is asked for."""
    (tmp_path / 'part').mkdir()
    for name in ('provenance.py', 'part/frame.py'):
        (tmp_path / name).write_text('one = 1\n')
    monkeypatch.setattr(provenance, '__file__', str(tmp_path / 'provenance.py'))
    return tmp_path


def code_sha256():
    return provenance.code_sha256.__wrapped__()


def test_what_editors_leave_beside_the_code_is_none(package):
    before = code_sha256()
    os.symlink('me@machine.1234', package / 'part' / '.#frame.py')  # the lock of Emacs
    os.symlink('gone.py', package / 'part' / 'link.py')
    (package / 'part' / '._frame.py').write_text('of a Mac')
    (package / '.ipynb_checkpoints').mkdir()
    (package / '.ipynb_checkpoints' / 'frame-checkpoint.py').write_text('one = 0\n')
    (package / 'folder.py').mkdir()
    assert code_sha256() == before


def test_other_code_is_told(package):
    seen = {code_sha256()}
    (package / 'part' / 'frame.py').write_text('one = 2\n')
    seen.add(code_sha256())
    (package / 'part' / 'frame.py').rename(package / 'part' / 'pictures.py')
    seen.add(code_sha256())
    assert len(seen) == 3


def test_code_below_a_hidden_folder_is_read(package, monkeypatch):
    """As of an environment in ~/.venv."""
    hidden = package / '.venv'
    hidden.mkdir()
    for name in ('part', 'provenance.py'):
        (package / name).rename(hidden / name)
    monkeypatch.setattr(provenance, '__file__', str(hidden / 'provenance.py'))
    before = code_sha256()
    (hidden / 'part' / 'frame.py').write_text('one = 2\n')
    assert code_sha256() != before
