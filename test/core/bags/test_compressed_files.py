"""Files of a bag that were compressed as a whole: which are read, how often, and in what room."""

from collections import namedtuple
from contextlib import contextmanager
import errno
from functools import cache
import os
import resource
import shutil
import signal
import tempfile

import numpy as np
import pytest
import yaml

pytest.importorskip('rosbags')

from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer

from offroad_seg_core.bags import unpacking
from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.bags.library import zstd
from offroad_seg_core.bags.reading import BagError, open_bag
from offroad_seg_core.bags.unpacking import keeping_unpacked

STRING = 'std_msgs/msg/String'
DEFINITIONS = Definitions()
NUM_FILES, EACH, LENGTH = 3, 40, 40_000
STORAGES = [StoragePlugin.MCAP, StoragePlugin.SQLITE3]
Usage = namedtuple('Usage', 'free')


@cache
def cdr(index):
    text = np.random.default_rng(index).bytes(LENGTH // 2).hex()
    return bytes(DEFINITIONS.store.serialize_cdr(DEFINITIONS.store.types[STRING](text), STRING))


def write(path, storage=StoragePlugin.MCAP, first=0, mode=CompressionMode.NONE):
    """Write messages, 10 ns apart; return the file that holds them."""
    writer = Writer(path, version=8, storage_plugin=storage)
    writer.compression_mode = mode
    writer.set_custom_data('place', 'desert')
    with writer:
        topic = DEFINITIONS.add_connection(writer, '/a', STRING, [])
        for index in range(first, first + EACH):
            writer.write(topic, 10 * index, cdr(index))
    return next(file for file in path.iterdir() if file.name != 'metadata.yaml')


def pack(file, folder):
    packed = folder / f'{file.name}.zstd'
    packed.write_bytes(zstd.compress(file.read_bytes()))
    return packed


def cut(file, share):
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])


def split_bag(tmp_path, storage=StoragePlugin.MCAP):
    """Write a bag of compressed files, and its metadata.yaml, as `ros2 bag record` does."""
    path, packed = tmp_path / 'drive', []
    path.mkdir()
    for number in range(NUM_FILES):
        part = tmp_path / f'drive_{number}'
        packed.append(pack(write(part, storage, EACH * number), path).name)
    told = yaml.safe_load((part / 'metadata.yaml').read_text())
    told['rosbag2_bagfile_information'] |= {
        'relative_file_paths': packed,
        'compression_format': 'zstd',
        'compression_mode': 'FILE',
    }
    (path / 'metadata.yaml').write_text(yaml.safe_dump(told))
    return path


def read(path, *window):
    """Return the number in each message's time, and the notes."""
    with open_bag(path) as bag:
        found = []
        for _, time_ns, data in bag.messages((), *window):
            found.append(time_ns // 10)
            assert data == cdr(found[-1])
        return found, list(bag.notes)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder that is empty in the end."""
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def unpacked(monkeypatch):
    """Names of the files that were unpacked, each time."""
    names, real = [], zstd.open

    def spy(file, *args, **kwargs):
        names.append(os.path.basename(getattr(file, 'name', file)))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(zstd, 'open', spy)
    return names


@contextmanager
def largest_file(num_bytes):
    """Let this process write no larger files, which is what a full disk looks like."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize('share', [0, 0.5, 1], ids=['begun', 'half', 'complete'])
@pytest.mark.parametrize('storage', STORAGES)
def test_a_recorder_that_was_killed_while_it_compressed(tmp_path, storage, share):
    path = split_bag(tmp_path, storage)
    (path / 'metadata.yaml').unlink()
    whole = shutil.copy(next((tmp_path / 'drive_2').glob('drive_2.*')), path)
    packed = next(path.glob('drive_2.*.zstd'))
    cut(packed, share)
    found, notes = read(path)
    assert found == list(range(NUM_FILES * EACH))
    left_out = f'{packed} was left out: {os.path.basename(whole)} is read in its place'
    assert notes == [f'{path}: has no metadata.yaml', left_out]


@pytest.mark.parametrize('storage', STORAGES)
def test_a_file_that_is_not_whole_beside_its_compressed_form(tmp_path, storage):
    file = write(tmp_path / 'drive', storage)
    (tmp_path / 'drive' / 'metadata.yaml').unlink()
    packed = pack(file, tmp_path / 'drive')
    cut(file, 0.9)
    found, notes = read(tmp_path / 'drive')
    assert found == list(range(EACH))
    assert notes[1:] == [f'{file} was left out: {packed.name} is read in its place']
    cut(packed, 0.8)
    most = max(len(read(form)[0]) for form in (file, packed))
    assert 0 < most < EACH
    found, notes = read(tmp_path / 'drive')
    assert found == list(range(most))
    assert f'{most} whole messages' in notes[1]
    assert 'was left out' in notes[2]


@pytest.mark.parametrize('storage', STORAGES)
def test_files_that_were_decompressed_by_hand(tmp_path, storage):
    path = split_bag(tmp_path, storage)
    packed = sorted(path.glob('*.zstd'))
    for number, file in enumerate(packed):
        (plain,) = (tmp_path / f'drive_{number}').glob('drive_*')
        shutil.copy(plain, path)
        if number:
            file.unlink()
    cut(packed[0], 0.5)
    left_out = f'{packed[0]} was left out: {packed[0].stem} is read in its place'
    assert read(path) == (list(range(NUM_FILES * EACH)), [left_out])
    packed[0].unlink()  # as `zstd -d --rm` does
    assert read(path) == (list(range(NUM_FILES * EACH)), [])
    with open_bag(path) as bag:
        assert bag.custom_data == {'place': 'desert'}
    plain = path / packed[1].stem
    plain.unlink()
    assert read(path)[1] == [f'{packed[1]} is missing']


@pytest.mark.parametrize('storage', STORAGES)
def test_a_file_is_unpacked_once_while_it_is_kept(tmp_path, temporary, unpacked, storage):
    path = split_bag(tmp_path, storage)
    with keeping_unpacked():
        for _ in range(3):
            assert read(path) == (list(range(NUM_FILES * EACH)), [])
        with open_bag(path) as bag:
            assert bag.custom_data == {'place': 'desert'}
            assert bag.message_count == NUM_FILES * EACH
    assert [name.partition('.')[0] for name in unpacked] == ['drive_0', 'drive_1', 'drive_2']


def test_where_room_is_scarce_one_file_at_a_time_is_unpacked(
    tmp_path, temporary, unpacked, monkeypatch
):
    path = split_bag(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: Usage(0))
    with keeping_unpacked():
        with open_bag(path) as bag:
            for _, time_ns, _ in bag.messages():
                (file,) = temporary.glob('*/*')
                assert file.name == f'drive_{time_ns // 10 // EACH}.mcap'
        assert unpacked == [f'drive_{number}.mcap.zstd' for number in (0, 1, 2, 0, 1, 2)]
        # Neither is one unpacked that holds nothing of what is asked for.
        assert read(path, 10 * EACH, 20 * EACH) == (list(range(EACH, 2 * EACH)), [])
        assert unpacked[6:] == ['drive_1.mcap.zstd']


def test_a_bag_that_two_read_at_once(tmp_path, temporary, unpacked, monkeypatch):
    path = split_bag(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: Usage(0))
    with open_bag(path) as one, open_bag(path) as other:
        del unpacked[:]
        for first, second in zip(one.messages(), other.messages(), strict=True):
            assert first[1:] == second[1:]
    assert sorted(unpacked) == [f'drive_{number}.mcap.zstd' for number in range(NUM_FILES)]


def test_a_damaged_place_in_a_compressed_file_costs_its_chunk_only(tmp_path, temporary):
    file = write(tmp_path / 'drive', mode=CompressionMode.STORAGE)
    data = bytearray(file.read_bytes())
    data[data.index(b'\x28\xb5\x2f\xfd')] ^= 0xFF
    file.write_bytes(data)
    expected, notes = read(file)
    assert 0 < len(expected) < EACH
    assert 'damaged after' in notes[0]
    packed = pack(file, tmp_path)
    assert read(packed) == (expected, [notes[0].replace(str(file), str(packed))])


def test_no_room_to_unpack_a_file_is_told_with_the_folder(tmp_path, temporary):
    path = split_bag(tmp_path)
    needed = os.path.getsize(tmp_path / 'drive_0' / 'drive_0.mcap')
    told = (
        rf'drive_0\.mcap\.zstd: got "File too large" while it was unpacked into {temporary}, '
        rf'expected room for {needed / 1e6:.1f} MB; fix: set TMPDIR'
    )
    with largest_file(1_000_000), pytest.raises(OSError, match=told):
        read(path)


def test_no_room_in_the_middle_of_a_bag_is_no_damage(tmp_path, temporary, monkeypatch):
    path = split_bag(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: Usage(0))
    with open_bag(path) as bag:
        messages = bag.messages()
        assert [next(messages)[1] // 10 for _ in range(EACH)] == list(range(EACH))
        with largest_file(1_000_000), pytest.raises(OSError, match=r'drive_1.*set TMPDIR'):
            next(messages)
        assert bag.notes == []


def test_what_an_abandoned_reader_holds_is_removed(tmp_path, temporary):
    with open_bag(split_bag(tmp_path)) as bag:
        messages = bag.messages()
        next(messages)
    assert list(temporary.iterdir()) == []
    messages.close()


def test_what_nobody_reads_makes_room(tmp_path, temporary, monkeypatch):
    path, real, tried = split_bag(tmp_path), unpacking._unpack, []

    def unpack(file, is_stopped):
        tried.append(file.name)
        if any(temporary.iterdir()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, is_stopped)

    monkeypatch.setattr(unpacking, '_unpack', unpack)
    assert read(path) == (list(range(NUM_FILES * EACH)), [])
    twice = [number for number in (1, 2, 0, 1, 2) for _ in range(2)]
    assert tried == [f'drive_{number}.mcap.zstd' for number in (0, *twice)]


def test_a_compressed_file_that_changed_is_read_anew(tmp_path, temporary):
    packed = pack(write(tmp_path / 'a'), tmp_path)
    with keeping_unpacked():
        assert read(packed)[0] == list(range(EACH))
        packed.write_bytes(zstd.compress(write(tmp_path / 'b', first=5).read_bytes()))
        assert read(packed)[0] == list(range(5, EACH + 5))
        packed.write_bytes(b'no zstd')
        with pytest.raises(BagError, match=r'a\.mcap\.zstd cannot be read'):
            read(packed)


def test_what_was_unpacked_and_is_gone_is_unpacked_anew(tmp_path, temporary, unpacked):
    packed = pack(write(tmp_path / 'a'), tmp_path)
    with keeping_unpacked(), open_bag(packed) as bag:
        next(temporary.glob('*/*')).unlink()  # as a cleaner of temporary folders does
        assert [time_ns // 10 for _, time_ns, _ in bag.messages()] == list(range(EACH))
        assert unpacked == ['a.mcap.zstd'] * 2
        (content,) = temporary.glob('*/*')
        content.write_bytes(b'no bag')
        with pytest.raises(BagError, match=rf'{packed} cannot be read: '):
            next(bag.messages())
