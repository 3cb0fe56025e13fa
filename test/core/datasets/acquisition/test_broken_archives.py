import bz2
import gzip
import io
import lzma
import tarfile

import numpy as np
import pytest

from offroad_seg_core.datasets.acquisition.archives import Archive, ArchiveError

COMPRESS = {'tar': bytes, 'gz': gzip.compress, 'bz2': bz2.compress, 'xz': lzma.compress}
SECOND_HEADER = 512 + 50_176


@pytest.fixture(scope='module')
def plain():
    """Return the content of a tar archive of two files."""
    stream, noise = io.BytesIO(), np.random.default_rng(0).bytes(50_000)
    with tarfile.open(fileobj=stream, mode='w') as archive:
        for name in ('a', 'b'):
            info = tarfile.TarInfo(name)
            info.size = len(noise)
            archive.addfile(info, io.BytesIO(noise))
    return stream.getvalue()


def check_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r'(?s)not a whole zip or tar archive .* run again'):
        Archive(path)


@pytest.mark.parametrize('kind', COMPRESS)
def test_what_tarfile_takes_for_the_end(tmp_path, plain, kind):
    path = tmp_path / 'data.tar'
    path.write_bytes(COMPRESS[kind](plain))
    with Archive(path) as archive:
        assert [member.name for member in archive.members] == ['a', 'b']
    damaged = plain[:SECOND_HEADER] + b'?' * 512 + plain[SECOND_HEADER + 512 :]
    for content in (damaged, plain[:SECOND_HEADER], plain[: SECOND_HEADER + 100]):
        check_is_refused(path, COMPRESS[kind](content))


@pytest.mark.parametrize('kind', ['gz', 'bz2', 'xz'])
def test_damage_of_what_is_compressed(tmp_path, plain, kind):
    whole = COMPRESS[kind](plain)
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 0x55]) + whole[middle + 1 :]
    for content in (flipped, whole[:-6], whole[:middle]):
        check_is_refused(tmp_path / 'data.tar', content)


def test_errors_of_the_system_are_passed_on(tmp_path):
    with pytest.raises(FileNotFoundError):
        Archive(tmp_path / 'none.tar')
