import logging
import os

import pytest

from offroad_seg_core.datasets.listing import Pattern
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.pairing import find_labels, find_named, leave_out, pair


@pytest.fixture
def touch(tmp_path):
    def make(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        return tmp_path

    return make


class TestPattern:
    @pytest.mark.parametrize(
        ('pattern', 'path', 'meaning'),
        [
            ('images/*.jpg', 'images/a.jpg', ('a',)),
            ('images/*.jpg', 'images/a.JPG', ('a',)),
            ('images/*.jpg', 'images/a.png', None),
            ('images/*.jpg', 'images/b/a.jpg', None),
            ('images/**/*.jpg', 'images/a.jpg', ('a',)),
            ('images/**/*.jpg', 'images/b/c/a.jpg', ('b/c', 'a')),
            ('*/rgb.jpg', 'iid01/rgb.jpg', ('iid01',)),
            ('*/rgb.jpg', 'iid01/rgbX.jpg', None),
            ('*/*_left.{png,jpg}', 's1/a.b_left.jpg', ('s1', 'a.b')),
            ('img_??.png', 'img_07.png', ('0', '7')),
            ('img_??.png', 'img_007.png', None),
            ('{rgb,color}/*', 'color/a.tiff', ('a',)),
            ('images/*', 'images/a.png', ('a',)),
            ('images/*', 'images/a.txt', None),
            ('images/*.*', 'images/a.x.png', ('a.x',)),
            ('a+b/*.png', 'aab/c.png', None),
        ],
    )
    def test_wildcards(self, pattern, path, meaning):
        assert Pattern(pattern).match(path) == meaning

    @pytest.mark.parametrize(
        ('pattern', 'folder'),
        [('a/b/*.png', 'a/b'), ('*.png', ''), ('a/b_*/c.png', 'a'), ('a/**/*.png', 'a')],
    )
    def test_search_begins_at_the_first_wildcard(self, pattern, folder):
        assert Pattern(pattern).folder == folder

    def test_strange_suffixes(self):
        with pytest.raises(DatasetError, match=r"'a/\*\.txt': got the suffix \.txt, expected one"):
            Pattern('a/*.txt').match('a/b.png')

    def test_lossy_labels_are_refused(self, touch):
        with pytest.raises(DatasetError, match=r'got the suffix \.jpg.*lossy compression'):
            find_labels(touch('masks/a.jpg'), 'masks/*.jpg')


class TestListing:
    def test_left_out_files_are_logged(self, touch, caplog):
        root = touch('i/a.png', 'i/.b.png', 'i/.git/c.png', 'i/Thumbs.db', 'i/d/read.me')
        with caplog.at_level(logging.INFO):
            assert find_named(root, 'i/**/*') == {'a': 'i/a.png'}
        assert '2 hidden files left out: i/.b.png, i/.git' in caplog.text
        assert 'leaves out 2 files' in caplog.text
        assert 'i/Thumbs.db' in caplog.text
        assert 'i/d/read.me' in caplog.text

    @pytest.mark.parametrize('name', ['b.heic', 'b.png.part', 'b.GIF'])
    def test_unreadable_pictures_are_no_silence(self, touch, name):
        with pytest.raises(DatasetError, match=rf'1 files could be frames .*: i/{name}; convert'):
            find_named(touch('i/a.png', f'i/{name}'), 'i/*')

    def test_a_named_suffix_means_no_other(self, touch):
        assert find_named(touch('i/a.png', 'i/b.gif'), 'i/*.png') == {'a': 'i/a.png'}

    def test_missing_folder(self, tmp_path):
        with pytest.raises(DatasetError, match=r'i: no such folder; i/\*\.png was looked for'):
            find_named(tmp_path, 'i/*.png')

    def test_links(self, touch, tmp_path):
        root = touch('far/a.png')
        (root / 'i').mkdir()
        (root / 'i' / 'seq').symlink_to(root / 'far')
        assert find_named(root, 'i/**/*') == {'seq/a': 'i/seq/a.png'}
        (root / 'i' / 'b.png').symlink_to(root / 'nowhere.png')
        with pytest.raises(DatasetError, match=r'b\.png: a link that leads nowhere'):
            find_named(root, 'i/**/*')
        (root / 'i' / 'b.png').unlink()
        (root / 'i' / 'up').symlink_to(root)
        with pytest.raises(DatasetError, match='up: a link to a folder that holds it'):
            find_named(root, 'i/**/*')

    def test_two_files_of_one_name(self, touch):
        root = touch('i/a.jpg', 'i/a.png', 'i/b.png', 'i/c/a.png')
        with pytest.raises(
            DatasetError, match=r'1 times two files.*: i/a\.jpg and i/a\.png; keep'
        ):
            find_named(root, 'i/**/*')

    def test_order_is_that_of_paths(self, touch):
        names = [f'i/{n}.png' for n in ('10', '9', 'b/1', 'a')]
        assert list(find_named(touch(*names), 'i/**/*')) == ['10', '9', 'a', 'b/1']


class TestPair:
    def test_by_name_not_by_order(self):
        images = {'b': 'i/b.jpg', 'a': 'i/a.jpg'}
        labels = {'a': 'm/a.png', 'b': 'm/b.png'}
        assert pair(images, labels, '') == [
            ('a', 'i/a.jpg', 'm/a.png'),
            ('b', 'i/b.jpg', 'm/b.png'),
        ]

    def test_five_are_named_and_all_are_counted(self):
        images = {f'{n:02}': f'i/{n:02}.jpg' for n in range(8)}
        match = (
            r'^x: 8 images have no label: i/00\.jpg, i/01\.jpg, .*i/04\.jpg, \.\.\.; '
            r'1 labels have no image: m/z\.png; remove them or add their partners$'
        )
        with pytest.raises(DatasetError, match=match):
            pair(images, {'z': 'm/z.png'}, 'x')

    @pytest.mark.parametrize(
        ('image', 'label', 'fix'),
        [
            ('a', 'a_mask', "label names end with '_mask': set it as label_suffix"),
            ('s/a', 't/a', 'the stems agree, the folders do not: set pair_by: stem'),
            ('A', 'a', 'names differ in upper and lower case'),
        ],
    )
    def test_likely_reasons(self, image, label, fix):
        with pytest.raises(DatasetError, match=fix):
            pair({image: 'i'}, {label: 'm'}, '')

    def test_unlabelled_images_can_be_skipped(self, caplog):
        with caplog.at_level(logging.INFO):
            pairs = pair({'a': 'i', 'b': 'j'}, {'b': 'm'}, 'x', skip_unlabelled=True)
        assert pairs == [('b', 'j', 'm')]
        assert 'x: 1 images without label left out: a' in caplog.text
        with pytest.raises(DatasetError, match='1 labels have no image: m'):
            pair({}, {'b': 'm'}, 'x', skip_unlabelled=True)

    def test_leave_out(self, caplog):
        files = {'val/s1/a': 'A', 'val/s2/a': 'B', 'train/s1/a': 'C'}
        with caplog.at_level(logging.INFO):
            assert leave_out(files, ['val/s1/*', '*/s2/*'], 'why') == {'train/s1/a': 'C'}
        assert '2 files left out (why): val/s1/a, val/s2/a' in caplog.text
        assert leave_out(files, [], '') == files

    def test_time_grows_with_the_number(self):
        # A quadratic search would take hours, beyond the timeout of a test.
        images = {f's/{n}': f'i/s/{n}.png' for n in range(100_000)}
        labels = {f's/{n}': f'm/s/{n}.png' for n in reversed(range(100_000))}
        assert len(pair(images, labels, '')) == 100_000

    def test_no_file_is_touched(self, touch, monkeypatch):
        root = touch(*(f'i/{n}.png' for n in range(50)))
        stats = []
        real = os.stat
        monkeypatch.setattr(os, 'stat', lambda *a, **k: stats.append(a) or real(*a, **k))
        assert len(find_named(root, 'i/*')) == 50
        assert len(stats) < 5
