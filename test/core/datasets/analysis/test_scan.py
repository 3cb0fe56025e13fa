import io
import os
from pathlib import Path
import sqlite3
import subprocess
import sys
import threading

import cv2
import numpy as np
from PIL import Image
import pytest

from offroad_seg_core.datasets.analysis import scan as scan_module
from offroad_seg_core.datasets.analysis import scan_cache
from offroad_seg_core.datasets.analysis.facts import ImageFacts, LabelFacts
from offroad_seg_core.datasets.analysis.features import NUM_FEATURES
from offroad_seg_core.datasets.analysis.scan import ScanOptions, scan
from offroad_seg_core.datasets.frames import FrameFiles
from offroad_seg_core.datasets.masks import DatasetError


@pytest.fixture
def reads(monkeypatch):
    """Return the names of the files that are measured from now on."""
    names = []
    for function in ('measure_image', 'measure_label'):
        original = getattr(scan_module, function)

        def counting(path, *rest, original=original):
            names.append(f'{path.parent.name}/{path.stem}')
            return original(path, *rest)

        monkeypatch.setattr(scan_module, function, counting)
    return names


@pytest.fixture
def three(make_frame, raw, frame_set):
    return frame_set([make_frame(stem, label=raw(v100=10, v300=4)) for stem in 'abc'])


def kinds(records):
    return [[problem.kind for problem in record.problems] for record in records]


def test_records_come_in_order_with_their_class_ids(make_frame, raw, frame_set):
    image = np.full((8, 10, 3), (1, 2, 3), np.uint8)
    frames = frame_set(
        [
            make_frame('a', image, raw(v100=10, v101=20, v7000=5)),
            make_frame('b', image, raw(v300=80)),
            make_frame('c', image),
        ]
    )
    ticks = []
    records = list(scan(frames, ScanOptions(), lambda: ticks.append(1)))
    assert len(ticks) == 3
    assert [record.position for record in records] == [0, 1, 2]
    assert [record.files for record in records] == list(frames.files)
    assert records[0].label.counts.tolist() == [45, 10, 20, 5]
    assert records[0].labels.tolist() == [255, 0, 0, 2]
    assert records[1].labels.tolist() == [1]
    assert records[2].label is None
    assert records[0].image.sums == (80, 160, 240)
    assert records[0].image.square_sums == (80, 320, 720)
    assert kinds(records) == [[], [], []]


def test_labels_alone(three, reads):
    records = list(scan(three, ScanOptions(images=False)))
    assert all(record.image is None and record.label is not None for record in records)
    assert sorted(reads) == ['label/a', 'label/b', 'label/c']


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new('RGB', (10, 8)).save(buffer, 'jpeg', exif=exif)
    return buffer.getvalue()


def cut(content, share=0.5):
    return content[: int(len(content) * share)]


def picture(size=(8, 10, 3)):
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


BROKEN = {
    'text as image': ({'image': b'no picture'}, 'unreadable', 'not a picture'),
    'empty image': ({'image': b''}, 'unreadable', 'empty file'),
    'truncated image': (
        {'image': cut(cv2.imencode('.png', picture((64, 64, 3)))[1].tobytes())},
        'unreadable',
        'without its end',
    ),
    'truncated jpeg': (
        {'image': cut(cv2.imencode('.jpg', picture((64, 64, 3)))[1].tobytes())},
        'unreadable',
        'JPEG',
    ),
    'lies on its side': ({'image': turned()}, 'unreadable', 'EXIF orientation 6'),
    'truncated mask': (
        {'label': cut(cv2.imencode('.png', picture((64, 64))[..., :1])[1].tobytes())},
        'unreadable',
        'without its end',
    ),
    'rgb mask': ({'label': picture()}, 'unreadable', 'channels|colou?r'),
    'other size': (
        {'label': np.full((8, 9), 100, np.uint16)},
        'size',
        r'got \(8, 9\), expected \(8, 10\)',
    ),
    'eight bits': (
        {'label': np.full((8, 10), 27, np.uint8)},
        'unknown values',
        r'b\.png: 27 \(80 px\) mean nothing in tiny',
    ),
    'nothing': ({'label': np.zeros((8, 10), np.uint16)}, 'no labels', 'every pixel is ignored'),
}


@pytest.mark.parametrize('case', BROKEN)
def test_a_broken_file_does_not_stop_the_scan(case, make_frame, raw, frame_set):
    content, kind, match = BROKEN[case]
    good = [make_frame(stem, label=raw(v100=80)) for stem in 'ac']
    bad = make_frame('b', **{'label': raw(v100=80), **content})
    records = list(scan(frame_set([good[0], bad, good[1]]), ScanOptions()))
    assert kinds(records) == [[], [kind], []]
    with pytest.raises(ValueError, match=match):
        raise ValueError(records[1].problems[0].text)


def test_missing_files_are_all_named(three):
    three.files[0].image.unlink()
    three.files[2].label.unlink()
    records = list(scan(three, ScanOptions()))
    assert kinds(records) == [['unreadable'], [], ['unreadable']]
    assert records[0].image is None
    assert records[0].label.counts.sum() == 80
    assert 'no such file' in records[2].problems[0].text


def test_unknown_values_that_the_configuration_ignores_are_no_problem(make_frame, raw, frame_set):
    frames = frame_set([make_frame('a', label=raw(v100=70, v42=10))], unknown='ignore')
    (record,) = scan(frames, ScanOptions())
    assert record.labels.tolist() == [-1, 0]
    assert not record.problems


class TestCache:
    @pytest.fixture
    def options(self, tmp_path):
        return ScanOptions(cache=tmp_path / 'cache' / 'scan.sqlite')

    def test_the_second_scan_reads_nothing_and_finds_the_same(self, three, options, reads):
        first = list(scan(three, options))
        assert len(reads) == 6
        second = list(scan(three, options))
        assert len(reads) == 6
        for a, b in zip(first, second, strict=True):
            assert a.image[:5] == b.image[:5]
            assert np.array_equal(a.image.features, b.image.features)
            assert np.array_equal(a.label.counts, b.label.counts)

    def test_only_a_changed_file_is_read_again(self, three, options, reads, make_frame, raw):
        list(scan(three, options))
        reads.clear()
        make_frame('b', label=raw(v300=80))
        os.utime(three.files[1].image, ns=(1, 1))
        records = list(scan(three, options))
        assert sorted(reads) == ['image/b', 'label/b']
        assert records[1].label.values.tolist() == [300]

    def test_files_under_another_format_are_read_again(self, three, options, reads, frame_set):
        list(scan(three, options))
        reads.clear()
        three.reader_of(0).__dict__['format'] = 'class_ids'
        list(scan(three, options))
        assert sorted(reads) == ['label/a', 'label/b', 'label/c']

    def test_a_changed_meaning_of_the_facts_empties_it(self, three, options, reads, monkeypatch):
        list(scan(three, options))
        monkeypatch.setattr(scan_cache, 'FACTS_VERSION', scan_cache.FACTS_VERSION + 1)
        list(scan(three, options))
        assert len(reads) == 12

    def test_broken_files_are_tried_again(self, three, options, reads):
        content = three.files[1].label.read_bytes()
        three.files[1].label.write_bytes(b'')
        assert kinds(scan(three, options)) == [[], ['unreadable'], []]
        assert kinds(scan(three, options)) == [[], ['unreadable'], []]
        three.files[1].label.write_bytes(content)
        assert kinds(scan(three, options)) == [[], [], []]
        assert reads.count('label/b') == 3
        assert reads.count('image/b') == 1

    def test_a_scan_that_was_left_half_way_goes_on(
        self, make_frame, raw, frame_set, options, reads
    ):
        frames = frame_set([make_frame(f's{n:02}', label=raw(v100=80)) for n in range(30)])
        records = scan(frames, ScanOptions(1, options.cache))
        for _ in range(5):
            next(records)
        records.close()
        assert len(list(scan(frames, options))) == 30
        assert all(reads.count(f'image/s{n:02}') == 1 for n in range(5))
        assert len(reads) < 2 * (30 + 20)

    def test_a_killed_scan_goes_on(self, three, options, reads):
        stems = [str(files.image) for files in three.files]
        code = f"""
import os, signal
from pathlib import Path
from offroad_seg_core.datasets.analysis import scan_cache
from offroad_seg_core.datasets.analysis.facts import measure_image
scan_cache._SECONDS_BETWEEN_WRITES = 0
cache = scan_cache.ScanCache(Path({str(options.cache)!r}))
for name in {stems[:2]!r}:
    path = Path(name)
    key = 'image\\n' + name
    cache.store(key, scan_cache.fingerprint(path), measure_image(path).pack())
os.kill(os.getpid(), signal.SIGKILL)
"""
        assert subprocess.run([sys.executable, '-c', code], check=False).returncode == -9
        records = list(scan(three, options))
        assert sorted(reads) == ['image/c', 'label/a', 'label/b', 'label/c']
        assert all(record.image.size == (8, 10) for record in records)

    def test_another_database_is_left_alone(self, three, tmp_path):
        path = tmp_path / 'mine.sqlite'
        with sqlite3.connect(path) as connection:
            connection.execute('CREATE TABLE files (photo TEXT)')
        with pytest.raises(DatasetError, match="another program's database"):
            list(scan(three, ScanOptions(cache=path)))
        assert sqlite3.connect(path).execute('SELECT * FROM files').fetchall() == []

    def test_another_file_is_left_alone(self, three, tmp_path):
        path = tmp_path / 'notes.txt'
        path.write_text('my notes' * 100)
        with pytest.raises(DatasetError, match='cannot be used as scan cache'):
            list(scan(three, ScanOptions(cache=path)))
        assert path.read_text() == 'my notes' * 100

    def test_a_full_disk_ends_the_caching_only(
        self, make_frame, frame_set, options, caplog, monkeypatch
    ):
        frames = frame_set([make_frame(f's{n}') for n in range(20)])
        cache_type = scan_cache.ScanCache

        def tiny(path):
            cache = cache_type(path)
            cache._connection.execute('PRAGMA max_page_count = 2')
            return cache

        monkeypatch.setattr(scan_module, 'ScanCache', tiny)
        assert kinds(scan(frames, options)) == [[]] * 20
        assert 'full; the scan goes on without its cache' in caplog.text


def test_memory_is_bounded_by_the_window(frame_set, monkeypatch):
    started, most, lock = [0], [0], threading.Lock()
    yielded = [0]

    def image(path):
        with lock:
            started[0] += 1
            most[0] = max(most[0], started[0] - yielded[0])
        features = np.zeros(NUM_FEATURES, np.float32)
        return ImageFacts((8, 10), (0, 0, 0), (0, 0, 0), 0, bytes(16), features)

    def label(path, reader, instances):
        return LabelFacts((8, 10), np.array([100]), np.array([80]), None)

    monkeypatch.setattr(scan_module, 'measure_image', image)
    monkeypatch.setattr(scan_module, 'measure_label', label)
    files = [FrameFiles(Path(f'/no/{n}.png'), Path(f'/no/{n}.png'), 'x') for n in range(3000)]
    for record in scan(frame_set(files), ScanOptions(workers=3)):
        assert record.position == yielded[0]
        yielded[0] += 1
    assert yielded[0] == 3000
    assert 1 <= most[0] <= 3 * 8 + 1


def test_opencv_gets_its_threads_back(three):
    before = cv2.getNumThreads()
    records = scan(three, ScanOptions())
    next(records)
    assert cv2.getNumThreads() == 1
    records.close()
    assert cv2.getNumThreads() == before
