import errno
import io
import os
from pathlib import Path
import stat
import struct
import tarfile
import zipfile

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.datasets.acquisition import extraction
from offroad_seg_core.datasets.acquisition.archives import Archive, ArchiveError, check_name
from offroad_seg_core.datasets.acquisition.extraction import extract, holds, refuse_foreign

FILES = {'a/one.png': b'1' * 1000, 'a/b/two.png': b'22', 'empty.txt': b''}


def make_zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def zip_info(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def make_tar(path, entries, mode='w'):
    """Write (name or TarInfo, content) entries."""
    with tarfile.open(path, mode) as archive:
        for name, content in entries:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_info(name, kind, target=''):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture(params=['zip', 'deflated', 'tar', 'tar.gz'])
def archive_path(request, tmp_path):
    entries = list(FILES.items())
    if request.param in ('zip', 'deflated'):
        method = zipfile.ZIP_STORED if request.param == 'zip' else zipfile.ZIP_DEFLATED
        return make_zip(tmp_path / 'data.zip', [('a/', b''), *entries], method)
    mode = 'w:gz' if request.param == 'tar.gz' else 'w'
    return make_tar(tmp_path / f'data.{request.param}', entries, mode)


def extract_all(path, root):
    with Archive(path) as archive:
        return extract(archive, root, [(m, m.name) for m in archive.members], False)


def tree(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


class TestExtract:
    def test_every_file_and_nothing_else(self, archive_path, tmp_path):
        assert extract_all(archive_path, tmp_path / 'out') == 3
        assert tree(tmp_path / 'out') == FILES

    def test_members_may_get_other_paths(self, archive_path, tmp_path):
        with Archive(archive_path) as archive:
            member = next(m for m in archive.members if m.name == 'a/one.png')
            extract(archive, tmp_path / 'out', [(member, 'x/y.png')], False)
        assert tree(tmp_path / 'out') == {'x/y.png': FILES['a/one.png']}

    def test_goes_on_where_it_was_cut(self, tmp_path):
        path, out = make_zip(tmp_path / 'data.zip', FILES.items()), tmp_path / 'out'
        extract_all(path, out)
        kept = (out / 'a/b/two.png').stat().st_ino
        (out / 'a/one.png').write_bytes(b'0' * 1000)  # same size, other content
        (out / 'empty.txt').unlink()
        (out / 'a/.one.png.part').write_bytes(b'left by a crash')
        assert extract_all(path, out) == 2
        assert tree(out) == FILES
        assert (out / 'a/b/two.png').stat().st_ino == kept
        assert extract_all(path, out) == 0

    def test_a_full_disk_leaves_no_half_file(self, archive_path, tmp_path, monkeypatch):
        def full(archive, member, target):
            target.write_bytes(b'half')
            raise OSError(errno.ENOSPC, 'No space left on device', str(target))

        monkeypatch.setattr(extraction, '_copy', full)
        with pytest.raises(ArchiveError, match='No space left on device; make room and run aga'):
            extract_all(archive_path, tmp_path / 'out')
        assert tree(tmp_path / 'out') == {}

    def test_ctrl_c_leaves_no_half_file(self, archive_path, tmp_path, monkeypatch):
        def interrupted(archive, member, target):
            target.write_bytes(b'half')
            raise KeyboardInterrupt

        monkeypatch.setattr(extraction, '_copy', interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract_all(archive_path, tmp_path / 'out')
        assert tree(tmp_path / 'out') == {}

    def test_broken_content_is_found_by_its_crc(self, tmp_path):
        path = make_zip(tmp_path / 'data.zip', FILES.items())
        content = path.read_bytes()
        path.write_bytes(content.replace(b'1' * 1000, b'1' * 999 + b'0'))
        with pytest.raises(
            ArchiveError, match=r"'a/one\.png' cannot be read: .*download it again"
        ):
            extract_all(path, tmp_path / 'out')
        assert tree(tmp_path / 'out') == {}

    @pytest.mark.parametrize('delta', [-1, 1])
    def test_declared_sizes_must_be_true(self, tmp_path, delta):
        path = make_zip(tmp_path / 'data.zip', [('a.png', b'x' * 5000)], zipfile.ZIP_DEFLATED)
        raw = bytearray(path.read_bytes())
        offset = raw.index(b'PK\x01\x02') + 24  # uncompressed size in the central directory
        struct.pack_into('<I', raw, offset, 5000 + delta)
        path.write_bytes(raw)
        with pytest.raises(ArchiveError, match=r'cannot be read|does not have the'):
            extract_all(path, tmp_path / 'out')
        assert tree(tmp_path / 'out') == {}

    def test_never_writes_through_a_link_to_a_folder(self, archive_path, tmp_path):
        (tmp_path / 'elsewhere').mkdir()
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out/a').symlink_to(tmp_path / 'elsewhere')
        with pytest.raises(ArchiveError, match='is a link that leads out of'):
            extract_all(archive_path, tmp_path / 'out')
        assert tree(tmp_path / 'elsewhere') == {}

    def test_never_writes_through_a_link_to_a_file(self, archive_path, tmp_path):
        outside = tmp_path / 'outside'
        outside.write_bytes(b'mine')
        (tmp_path / 'out/a').mkdir(parents=True)
        for name in ('one.png', '.one.png.part'):
            (tmp_path / 'out/a' / name).symlink_to(outside)
        extract_all(archive_path, tmp_path / 'out')
        assert outside.read_bytes() == b'mine'
        assert not (tmp_path / 'out/a/one.png').is_symlink()

    def test_the_root_itself_may_be_a_link(self, archive_path, tmp_path):
        (tmp_path / 'disk').mkdir()
        (tmp_path / 'out').symlink_to(tmp_path / 'disk')
        extract_all(archive_path, tmp_path / 'out')
        assert tree(tmp_path / 'disk') == FILES


class TestForeignFiles:
    def test_are_refused_unless_they_are_ours_or_the_same(self, tmp_path):
        path, out = make_zip(tmp_path / 'data.zip', [('a.png', b'new')]), tmp_path / 'out'
        out.mkdir()
        with Archive(path) as archive:
            files = [(archive.members[0], 'a.png')]
            refuse_foreign(out, files)
            (out / 'a.png').write_bytes(b'new')
            refuse_foreign(out, files)
            (out / 'a.png').write_bytes(b'old')
            refuse_foreign(out, files, ours={'a.png'})
            with pytest.raises(ArchiveError, match=r'a\.png: is there already, but is not'):
                refuse_foreign(out, files)

    def test_tar_has_no_crc_to_compare(self, tmp_path):
        path = make_tar(tmp_path / 'data.tar', [('a.png', b'new')])
        (tmp_path / 'a.png').write_bytes(b'new')
        with Archive(path) as archive:
            assert not holds(tmp_path / 'a.png', archive.members[0])


class TestUnsafe:
    @pytest.mark.parametrize(
        ('name', 'problem'),
        [
            ('../evil.png', r"leads out of the folder with '\.\.'"),
            ('a/../../evil.png', 'leads out of the folder'),
            ('a/..', 'leads out of the folder'),
            ('/etc/evil', 'absolute'),
            ('C:/evil.png', 'absolute'),
            ('C:evil.png', 'absolute'),
            ('..\\evil.png', 'backslash'),
            ('a\\evil.png', 'backslash'),
            ('a//b.png', 'empty part'),
            ('a/./b.png', 'empty part'),
            ('a\nb.png', 'control character'),
        ],
    )
    @pytest.mark.parametrize('make', [make_zip, make_tar])
    def test_names(self, tmp_path, make, name, problem):
        path = make(tmp_path / 'evil', [('good.png', b'good'), (name, b'evil')])
        with pytest.raises(ArchiveError, match=problem):
            extract_all(path, tmp_path / 'out')
        assert not (tmp_path / 'out').exists()

    def test_a_nul_does_not_hide_the_rest_of_a_name(self, tmp_path):
        path = make_zip(tmp_path / 'evil.zip', [('good.png#../evil', b'')])
        path.write_bytes(path.read_bytes().replace(b'#', b'\0'))
        with pytest.raises(ArchiveError, match=r"'good\.png\\x00\.\./evil' has a .* control"):
            Archive(path)

    @pytest.mark.parametrize(
        'kind', [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]
    )
    def test_links_and_devices_in_zip(self, tmp_path, kind):
        path = make_zip(tmp_path / 'evil.zip', [(zip_info('link', kind | 0o777), b'/etc')])
        with pytest.raises(ArchiveError, match="'link' is a link or a device"):
            Archive(path)

    @pytest.mark.parametrize(
        'kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b'6']
    )
    def test_links_and_devices_in_tar(self, tmp_path, kind):
        path = make_tar(tmp_path / 'evil.tar', [(tar_info('link', kind, '/etc'), b'')])
        with pytest.raises(ArchiveError, match="'link' is a link or a device"):
            Archive(path)

    @pytest.mark.parametrize(
        ('first', 'second'),
        [('a/x.png', 'a/x.png'), ('a/x.png', 'A/X.PNG'), ('stra\u00dfe', 'STRASSE'),
         ('\u00e9.png', 'e\u0301.png')],
    )  # fmt: skip
    @pytest.mark.parametrize('make', [make_zip, make_tar])
    @pytest.mark.filterwarnings('ignore:Duplicate name')
    def test_two_members_that_are_one_file_somewhere(self, tmp_path, make, first, second):
        path = make(tmp_path / 'evil', [(first, b'1'), (second, b'2')])
        with pytest.raises(ArchiveError, match='are the same file where case does not count'):
            Archive(path)

    def test_a_file_that_is_also_a_folder(self, tmp_path):
        path = make_zip(tmp_path / 'evil.zip', [('a', b'1'), ('a/b', b'2')])
        with pytest.raises(ArchiveError, match="'a' is a file and the folder of 'a/b'"):
            Archive(path)

    def test_encrypted(self, tmp_path):
        path = make_zip(tmp_path / 'evil.zip', [('a.png', b'secret')])
        raw = bytearray(path.read_bytes())
        raw[raw.index(b'PK\x01\x02') + 8] |= 1
        path.write_bytes(raw)
        with pytest.raises(ArchiveError, match=r"'a\.png' is encrypted"):
            Archive(path)

    def test_bombs_by_growth(self, tmp_path):
        path = make_zip(tmp_path / 'b.zip', [('a', bytes(1_000_000))], zipfile.ZIP_DEFLATED)
        with pytest.raises(ArchiveError, match='claim to hold 1000000'):
            Archive(path)
        path = make_tar(tmp_path / 'b.tar.gz', [('a', bytes(20_000_000))], 'w:gz')
        with pytest.raises(ArchiveError, match='claim to hold 20000000'):
            Archive(path)

    def test_bombs_by_overlapping_members(self, tmp_path):
        path = make_zip(tmp_path / 'b.zip', [('a', bytes(1000)), ('b', b'1')])
        raw = bytearray(path.read_bytes())
        second = raw.rindex(b'PK\x01\x02')
        struct.pack_into('<II', raw, second + 20, 1000, 1000)  # its sizes
        struct.pack_into('<I', raw, second + 42, 0)  # and the place of the first
        path.write_bytes(raw)
        with pytest.raises(ArchiveError, match='its members overlap'):
            Archive(path)


class TestBroken:
    @pytest.mark.parametrize('content', [b'', b'<html>404</html>', os.urandom(3000)])
    def test_no_archive(self, tmp_path, content):
        (tmp_path / 'data.zip').write_bytes(content)
        with pytest.raises(ArchiveError, match='not a whole zip or tar archive'):
            Archive(tmp_path / 'data.zip')

    def test_cut_short(self, archive_path, tmp_path):
        noise = np.random.default_rng(0).bytes(50_000)
        make = make_tar if 'tar' in archive_path.name else make_zip
        path = make(archive_path, [('a', noise), ('b', noise)])
        path.write_bytes(path.read_bytes()[:40_000])
        with pytest.raises(ArchiveError, match=r'delete .* run again|cannot be read'):
            extract_all(path, tmp_path / 'out')
        assert tree(tmp_path / 'out') == {}


@given(st.text(max_size=30))
def test_a_name_that_passes_stays_below_the_folder(name):
    try:
        check_name(Path('data.zip'), name)
    except ArchiveError:
        return
    root = Path('/root')
    target = os.path.normpath(root / name)
    assert target == '/root' or target.startswith('/root/')
