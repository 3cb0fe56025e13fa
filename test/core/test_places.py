"""Places that a result cannot take are refused in words, before any work."""

import argparse
import os
from pathlib import Path

import pytest

from offroad_seg_core.places import OutputError, check_writable, local_path, output_place


def test_a_link_is_followed(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'link').symlink_to('disk')
    assert output_place(tmp_path / 'link') == tmp_path / 'disk'
    assert output_place(tmp_path / 'link' / 'new') == tmp_path / 'disk' / 'new'


def test_a_relative_place_is_one_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output_place('result') == tmp_path / 'result'


def test_a_mount_point_keeps_its_place():
    with pytest.raises(OutputError, match=r'^--output: got /proc, a mount point; .*/proc/result$'):
        output_place('/proc')
    with pytest.raises(OutputError, match=r'^--mcap: got /proc'):
        output_place('/proc', option='--mcap')


@pytest.mark.parametrize('given', ['.', '..', 'sub/..', '/'])
def test_the_current_folder_keeps_its_place(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'sub').mkdir()
    with pytest.raises(OutputError, match=r'a place that is replaced .* such as /.*result$'):
        output_place(given)


@pytest.mark.parametrize(
    ('output', 'entry', 'relation'),
    [
        ('demo', 'demo/drive', 'holds'),
        ('demo', 'demo/drive/drive.mcap', 'holds'),
        ('demo/drive', 'demo/drive', 'holds'),
        ('demo/drive/result', 'demo/drive', 'lies in'),
        ('link', 'demo/drive', 'holds'),
        ('demo', 'file://{}/demo/drive', 'holds'),
    ],
)
def test_what_is_read_stays(tmp_path, output, entry, relation):
    (tmp_path / 'demo' / 'drive').mkdir(parents=True)
    (tmp_path / 'demo' / 'drive' / 'drive.mcap').touch()
    (tmp_path / 'link').symlink_to('demo')
    entry = entry.format(tmp_path) if '{}' in entry else tmp_path / entry
    with pytest.raises(OutputError, match=f'which {relation} {entry}, which is read; expected'):
        output_place(tmp_path / output, [None, '', entry])


def test_names_and_urls_lie_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    long_url = 'https://host/x.mcap?signature=' + 'a' * 5000
    inputs = ['falcon10', 's3://bucket/falcon10', long_url]
    assert output_place('falcon10', inputs) == tmp_path / 'falcon10'


def test_a_url_is_no_path():
    assert local_path('results/today') == Path('results/today')
    with pytest.raises(argparse.ArgumentTypeError, match='got a URL, s3://, expected a path; fix'):
        local_path('s3://name:password@host/x')


def test_a_link_in_circles_is_left_to_who_reads_it(tmp_path):
    (tmp_path / 'circle').symlink_to('circle')
    assert os.path.islink(output_place(tmp_path / 'circle'))


@pytest.mark.parametrize('given', ['result', 'new/result', 'older'])
def test_a_folder_that_cannot_be_written_is_told(ordinary_folder, given):
    place = ordinary_folder / given
    (ordinary_folder / 'older').mkdir()
    check_writable(place)
    (ordinary_folder / 'older').chmod(0o555)
    check_writable(place)  # an older result goes aside whole
    ordinary_folder.chmod(0o555)
    told = rf'^--mcap: got {place}, in {ordinary_folder}; expected .* can be written; fix: name'
    with pytest.raises(OutputError, match=told):
        check_writable(place, '--mcap')


def test_a_file_holds_no_result(tmp_path):
    (tmp_path / 'file').touch(0o777)
    with pytest.raises(OutputError, match=rf'in {tmp_path}/file; expected one in a folder that'):
        check_writable(tmp_path / 'file' / 'result')
