from collections import namedtuple
import shutil

import pytest

from offroad_seg_core.datasets.acquisition.disk_space import (
    DiskSpaceError,
    check_space,
    nearest_existing,
)

Usage = namedtuple('Usage', 'total used free')


def test_the_peak_of_writing_and_deleting_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(1000, 890, 110))
    steps = [(tmp_path, 60), (tmp_path / 'not/there', 40), (tmp_path, -60), (tmp_path, 50)]
    check_space(steps, 10, 'fix')  # 60, 100, 40, 90
    with pytest.raises(DiskSpaceError, match=r'but only 0\.0 GB are free; fix'):
        check_space(steps, 11, 'fix')


def test_nothing_to_write_needs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(1000, 1000, 0))
    check_space([(tmp_path, 0), (tmp_path, -5)], 10**9, 'fix')


def test_nearest_existing(tmp_path):
    assert nearest_existing(tmp_path / 'a' / 'b') == tmp_path
    assert nearest_existing(tmp_path) == tmp_path
