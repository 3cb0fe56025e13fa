"""Every form of a rosbag2 is read; of a damaged one what is whole, with a word about the rest."""

from contextlib import suppress
import os
import shutil
import sqlite3

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

pytest.importorskip('rosbags')

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.bags.reading import BagError, contents, open_bag
from offroad_seg_core.bags.writing import bag_qos

STRING = 'std_msgs/msg/String'
MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
NONE, FILE, MESSAGE, STORAGE = (
    CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE,
)  # fmt: skip
FORMS = [
    (storage, mode)
    for storage in (MCAP, SQLITE)
    for mode in (NONE, FILE, MESSAGE, STORAGE)
    if (storage, mode) != (SQLITE, STORAGE)  # sqlite3 has no compression inside
]
DEFINITIONS = Definitions()


def text(index, length=40_000):
    """Half of it is left when it is compressed."""
    return np.random.default_rng(index).bytes(length // 2).hex()


def write(path, storage=MCAP, mode=NONE, count=40, first=0, length=40_000):
    """Write messages to two topics in turn, 10 ns apart."""
    writer = Writer(path, version=8, storage_plugin=storage)
    if mode in (FILE, MESSAGE):
        writer.set_compression(mode, CompressionFormat.ZSTD)
    writer.compression_mode = mode
    writer.set_custom_data('place', 'desert')
    with writer:
        latched = bag_qos(latched=True, depth=1)
        add = DEFINITIONS.add_connection
        topics = [add(writer, '/a', STRING, [bag_qos()]), add(writer, '/b', STRING, [latched])]
        kind = DEFINITIONS.store.types[STRING]
        for index in range(first, first + count):
            data = DEFINITIONS.store.serialize_cdr(kind(text(index, length)), STRING)
            writer.write(topics[index % 2], 10 * index + 100, data)
    return path


def read(path, *window):
    """Return (topic, time, text) of all messages, and the notes."""
    with open_bag(path) as bag:
        found = [
            (entry.topic, time_ns, DEFINITIONS.store.deserialize_cdr(data, STRING).data)
            for entry, time_ns, data in bag.messages((), *window)
        ]
        assert bag.message_count >= len(found)
        return found, list(bag.notes)


def expected(stop, start=0, length=40_000):
    return [('/ab'[:: 1 + (n % 2)][:2], 10 * n + 100, text(n, length)) for n in range(start, stop)]


def test_the_expectation_names_topics_in_turn():
    assert [topic for topic, *_ in expected(3)] == ['/a', '/b', '/a']


def single_file(path):
    (file,) = (f for f in path.iterdir() if f.name != 'metadata.yaml')
    return file


def cut(file, share):
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])


@pytest.mark.parametrize(('storage', 'mode'), FORMS)
def test_every_form(tmp_path, storage, mode):
    path = write(tmp_path / 'drive', storage, mode)
    assert read(path) == (expected(40), [])
    assert read(path, 200, 300) == (expected(20, start=10), [])
    with open_bag(path) as bag:
        assert (bag.start_time, bag.end_time, bag.message_count) == (100, 491, 40)
        assert contents(bag) == '/a (std_msgs/msg/String), /b (std_msgs/msg/String)'
        assert bag.custom_data == {'place': 'desert'}
        offers = {entry.topic: entry.ext.offered_qos_profiles for entry in bag.connections}
        assert offers == {'/a': [bag_qos()], '/b': [bag_qos(latched=True, depth=1)]}
        only_b = [entry for entry in bag.connections if entry.topic == '/b']
        assert [time for _, time, _ in bag.messages(only_b)] == list(range(110, 500, 20))


@pytest.mark.parametrize(('storage', 'mode'), FORMS)
def test_without_metadata_all_is_read_and_said(tmp_path, storage, mode):
    path = write(tmp_path / 'drive', storage, mode)
    (path / 'metadata.yaml').unlink()
    found, notes = read(path)
    assert found == expected(40)
    assert notes == [f'{path}: has no metadata.yaml']
    (path / 'metadata.yaml').write_text('{')
    assert read(path) == (expected(40), [f'{path}: its metadata.yaml is damaged'])


@pytest.mark.parametrize('storage', [MCAP, SQLITE])
def test_split_bags_are_one_with_or_without_their_list(tmp_path, storage):
    path = tmp_path / 'drive'
    path.mkdir()
    for number, first in ((9, 0), (10, 12), (11, 30)):  # by name, 10 would come before 9
        part = write(tmp_path / f'drive_{number}', storage, count=40 - first, first=first)
        shutil.move(single_file(part), path)
    found, notes = read(path)
    copies = [1 + (index >= 12) + (index >= 30) for index in range(40)]  # the parts overlap
    assert found == [e for e, n in zip(expected(40), copies, strict=True) for _ in range(n)]
    assert notes == [f'{path}: has no metadata.yaml']
    with open_bag(path) as bag:
        assert {e.topic: e.msgcount for e in bag.connections} == {'/a': 39, '/b': 39}


@pytest.mark.parametrize('share', [0.95, 0.5])
@pytest.mark.parametrize(('storage', 'mode'), FORMS)
def test_what_is_whole_of_a_file_that_was_cut_off(tmp_path, storage, mode, share):
    path = write(tmp_path / 'drive', storage, mode, count=120)
    cut(single_file(path), share)
    found, notes = read(path)
    assert found == expected(len(found))
    # A chunk of mcap holds a megabyte, so up to 50 messages that are compressed by themselves; a
    # block of a compressed file 128 KiB.
    lost = 54 if storage == MCAP else 7 if mode == FILE else 4
    assert 120 * share - lost <= len(found) < 120
    told = f'{len(found)} whole messages'
    assert any('has no end: is still being written' in note and told in note for note in notes)


def test_a_file_that_is_old_was_cut_off(tmp_path):
    path = write(tmp_path / 'drive', SQLITE)
    file = single_file(path)
    cut(file, 0.8)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    _, (note,) = read(path)
    assert 'its recording was cut off' in note


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 1), mode=st.sampled_from([NONE, STORAGE, MESSAGE]))
def test_any_cut_of_an_mcap_file_gives_a_beginning(tmp_path_factory, share, mode):
    path = write(tmp_path_factory.mktemp('cut') / 'drive', MCAP, mode, count=9, length=300)
    file = single_file(path)
    cut(file, share)
    found = []
    with suppress(BagError):  # where not even the first chunk is whole; it holds all messages
        found, _ = read(file)
    assert found in ([], expected(9, length=300))


def write_mcap(file, length, **options):
    """Write four texts with mcap's own writer, which can do what that of bags does not."""
    from mcap.writer import Writer as McapWriter

    with file.open('wb') as stream:
        writer = McapWriter(stream, **options)
        writer.start(profile='ros2')
        schema = writer.register_schema(STRING, 'ros2msg', b'string data')
        channel = writer.register_channel('/a', 'cdr', schema)
        for index in range(4):
            message = DEFINITIONS.store.types[STRING](text(index, length))
            data = DEFINITIONS.store.serialize_cdr(message, STRING)
            writer.add_message(channel, index, bytes(data), index)
        writer.finish()


def test_mcap_messages_outside_of_chunks_are_read_too(tmp_path):
    file = tmp_path / 'loose.mcap'
    write_mcap(file, 100, use_chunking=False)
    whole = file.read_bytes()
    place = whole.index(text(3, 100).encode())
    file.write_bytes(whole[:place])
    found, _ = read(file)
    assert found == [('/a', index, text(index, 100)) for index in range(3)]


def damage(file, number):
    """Change a byte of a compressed chunk of an mcap file."""
    data = bytearray(file.read_bytes())
    place = -1
    for _ in range(number + 1):
        place = data.index(b'\x28\xb5\x2f\xfd', place + 1)
    data[place] ^= 0xFF
    file.write_bytes(data)


@pytest.mark.parametrize('number', [0, 1, 2])
def test_a_damaged_place_costs_its_chunk_only(tmp_path, number):
    path = write(tmp_path / 'drive', MCAP, STORAGE, count=80)
    with open_bag(path) as bag:
        (storage,) = bag._storages
        counts = [sum(chunk.channel_count.values()) for chunk in storage.chunks]
    first = sum(counts[:number])
    kept = expected(first) + expected(80, start=first + counts[number])
    damage(single_file(path), number)
    found, (note,) = read(path)
    assert len(counts) == 3
    assert found == kept
    assert 'damaged after 0.0 s, a part was not read' in note
    # Neither does it matter where reading begins.
    for start in range(100, 900, 160):
        later, _ = read(path, start)
        assert later == [entry for entry in kept if entry[1] >= start]


def test_a_damaged_message_costs_only_itself(tmp_path):
    """Of those that were compressed one by one."""
    file = single_file(write(tmp_path / 'drive', SQLITE, MESSAGE, count=6))
    with sqlite3.connect(file) as database:
        ((whole,),) = database.execute('SELECT data FROM messages WHERE timestamp = 120')
        damaged = whole[:1000]
        database.execute('UPDATE messages SET data = ? WHERE timestamp = 120', (damaged,))
    found, (note,) = read(tmp_path / 'drive')
    assert found == expected(2) + expected(6, start=3)
    assert 'messages that are damaged were left out' in note


def test_a_damaged_lz4_chunk_is_no_crash(tmp_path):
    from mcap.writer import CompressionType

    file = tmp_path / 'drive.mcap'
    write_mcap(file, 1000, chunk_size=1000, compression=CompressionType.LZ4)
    content = bytearray(file.read_bytes())
    content[content.index(b'\x04\x22\x4d\x18')] ^= 0xFF
    file.write_bytes(content)
    found, (note,) = read(file)
    assert [time_ns for _, time_ns, _ in found] == [1, 2, 3]
    assert 'damaged after 0.0 s' in note


def test_a_damaged_database_is_read_up_to_there(tmp_path):
    file = single_file(write(tmp_path / 'drive', SQLITE))
    data = bytearray(file.read_bytes())
    page_bytes = int.from_bytes(data[16:18], 'big')
    inside = data.index(text(10)[20_000:20_050].encode())
    page = inside // page_bytes * page_bytes
    data[page : page + 4] = b'\xff\xff\xff\xf0'  # where the rest of that message is
    file.write_bytes(data)
    found, (note,) = read(file)
    assert found == expected(10)
    assert 'damaged after 0.0 s, a part was not read' in note


def test_a_bag_that_is_being_recorded(tmp_path):
    path = write(tmp_path / 'drive', SQLITE, count=6)
    (path / 'metadata.yaml').unlink()
    database = sqlite3.connect(single_file(path))
    database.execute('PRAGMA journal_mode = WAL')
    data = bytes(DEFINITIONS.store.serialize_cdr(DEFINITIONS.store.types[STRING]('x'), STRING))
    database.execute('INSERT INTO messages (topic_id, timestamp, data) VALUES (1, 900, ?)', [data])
    found, _ = read(path)
    assert found[:6] == expected(6)
    database.close()


@pytest.mark.parametrize(
    ('make', 'told'),
    [
        (lambda path: None, 'no such bag'),
        (lambda path: path.mkdir(), 'has no metadata.yaml; expected a rosbag2 folder'),
        (lambda path: path.write_text('hello'), 'drive is no .mcap or .db3 file'),
        (lambda path: (path.mkdir(), (path / 'a.mcap').touch()), r'a\.mcap cannot be read'),
        (lambda path: (path.mkdir(), (path / 'a.db3').write_text('x' * 99)), r'a\.db3 cannot be'),
    ],
    ids=['nothing', 'empty folder', 'text', 'empty mcap', 'no database'],
)
def test_what_is_no_bag(tmp_path, make, told):
    path = tmp_path / 'drive'
    make(path)
    with pytest.raises(BagError, match=told):
        read(path)


def test_a_missing_part_is_named(tmp_path):
    path = write(tmp_path / 'drive', MCAP)
    single_file(path).unlink()
    with pytest.raises(BagError, match=r'drive\.mcap is missing'):
        read(path)
