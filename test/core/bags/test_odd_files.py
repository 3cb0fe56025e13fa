"""Files that are whole but unusual, and lengths that are garbage: read, or refused with a word."""

import sqlite3
import struct

import pytest

pytest.importorskip('rosbags')

from mcap.writer import IndexType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin, Writer

from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.bags.reading import BagError, open_bag

STRING = 'std_msgs/msg/String'
DEFINITIONS = Definitions()


def cdr(text):
    kind = DEFINITIONS.store.types[STRING]
    return bytes(DEFINITIONS.store.serialize_cdr(kind(text), STRING))


def write_mcap(file, times_ns, **options):
    """Write one message at each time, its text the time."""
    with file.open('wb') as stream:
        writer = McapWriter(stream, **options)
        writer.start(profile='ros2')
        schema = writer.register_schema(STRING, 'ros2msg', b'string data')
        channel = writer.register_channel('/a', 'cdr', schema)
        for time_ns in times_ns:
            writer.add_message(channel, time_ns, cdr(f'text {time_ns}'), time_ns)
        writer.finish()


def write_database(path):
    with Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        topic = DEFINITIONS.add_connection(writer, '/a', STRING, [])
        writer.write(topic, 1, cdr('text 1'))
    return path


def read(path, *window):
    """Return the messages' times, and the notes."""
    with open_bag(path) as bag:
        times_ns = []
        for _, time_ns, data in bag.messages((), *window):
            assert data == cdr(f'text {time_ns}')
            times_ns.append(time_ns)
        return times_ns, list(bag.notes)


def test_messages_without_an_index_are_put_in_the_order_of_time(tmp_path):
    file = tmp_path / 'fastwrite.mcap'
    write_mcap(file, (1, 4, 2, 3, 9, 5), use_chunking=False)
    assert read(file) == ([1, 2, 3, 4, 5, 9], [])
    assert read(file, 2, 5) == ([2, 3, 4], [])


def test_chunks_without_an_index_that_are_not_in_order_are_called_so(tmp_path):
    file = tmp_path / 'drive.mcap'
    write_mcap(file, (1, 4, 2, 3), use_statistics=False, use_summary_offsets=False,
               use_chunking=True, chunk_size=1, index_types=IndexType.NONE,
               repeat_channels=False, repeat_schemas=False)  # fmt: skip
    found, (note,) = read(file)
    assert found == [1, 4]
    assert 'not in time order' in note
    assert 'run `mcap recover`' in note
    assert 'damaged' not in note


@pytest.mark.parametrize('length', [2**64 - 1, 2**63 - 1, 2**50], ids=hex)
@pytest.mark.parametrize('opcode', [1, 3, 4, 5], ids=['header', 'schema', 'channel', 'message'])
def test_a_garbage_record_length_is_no_crash(tmp_path, opcode, length):
    file = tmp_path / 'drive.mcap'
    write_mcap(file, (1, 2), use_chunking=False)
    content = bytearray(file.read_bytes())
    place = 8
    while content[place] != opcode:
        place += 9 + struct.unpack_from('<Q', content, place + 1)[0]
    struct.pack_into('<Q', content, place + 1, length)
    file.write_bytes(content)
    if opcode == 1:
        with pytest.raises(BagError, match=r'drive\.mcap cannot be read'):
            read(file)
        return
    found, (note,) = read(file)
    assert found == []
    assert 'a part was not read: the record at byte' in note


def test_a_garbage_length_inside_of_a_record_is_no_crash(tmp_path):
    file = tmp_path / 'drive.mcap'
    write_mcap(file, (1, 2), use_chunking=False)
    content = bytearray(file.read_bytes())
    struct.pack_into('<I', content, content.index(STRING.encode()) - 4, 2**32 - 1)
    file.write_bytes(content[:-30])  # so that it is looked at record by record
    with pytest.raises(BagError, match=r'drive\.mcap'):
        read(file)


def test_messages_that_lie_in_the_log_of_a_database_are_read_and_said(tmp_path):
    path = write_database(tmp_path / 'drive')
    database = sqlite3.connect(path / 'drive.db3')
    database.execute('PRAGMA journal_mode = WAL')
    row = (1, 2, cdr('text 2'))
    database.execute('INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)', row)
    database.commit()
    for place in (path, path / 'drive.db3'):
        found, (note,) = read(place)
        assert found == [1, 2]
        assert '2 whole messages' in note
    database.close()
    assert read(path) == ([1, 2], [])


@pytest.mark.parametrize('name', ['drive#1', 'what?', '100%25'])
def test_a_path_that_would_mean_something_in_a_uri(tmp_path, name):
    path = write_database(tmp_path / 'drive').rename(tmp_path / name)
    assert read(path) == ([1], [])
    assert read(path / 'drive.db3') == ([1], [])
