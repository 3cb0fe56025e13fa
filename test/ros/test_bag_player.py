"""Bags are played as they were recorded, and recorded as they were played; over real DDS."""

import itertools
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from std_srvs.srv import SetBool

from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.bags.reading import BagError, open_bag
from offroad_seg_core.bags.writing import AtomicBag, bag_qos
from offroad_seg_ros.bag_recorder import BagRecorder
from offroad_seg_ros.playback import BagPlayer, PlayerOptions
from offroad_seg_ros.spinning import spinning

START_NS = 1_700_000_000_000_000_000
IMAGE, STRING = 'sensor_msgs/msg/Image', 'std_msgs/msg/String'
_numbers = itertools.count()


@pytest.fixture(scope='module')
def definitions():
    return Definitions()


@pytest.fixture
def topic():
    """Topics of a test before vanish from the graph with a delay."""
    return f'/bag_test_{next(_numbers)}'


def _image(definitions, stamp_ns, height=48, width=64):
    types = definitions.store.types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
    header = types['std_msgs/msg/Header'](stamp, 'camera')
    pixels = np.random.default_rng(stamp_ns % 97).integers(0, 256, height * width * 3, np.uint8)
    message = types[IMAGE](header, height, width, 'bgr8', 0, width * 3, pixels)
    return definitions.store.serialize_cdr(message, IMAGE)


def _string(definitions, text):
    return definitions.store.serialize_cdr(definitions.store.types[STRING](text), STRING)


def _write(writer, definitions, topic, num_images=8, period_ns=40_000_000):
    """Images every 40 ms, and one latched text."""
    images = definitions.add_connection(writer, f'{topic}/image_raw', IMAGE, [bag_qos()])
    latched = bag_qos(latched=True, depth=1)
    names = definitions.add_connection(writer, f'{topic}/names', STRING, [latched])
    writer.write(names, START_NS, _string(definitions, 'grass'))
    for index in range(num_images):
        time_ns = START_NS + index * period_ns
        writer.write(images, time_ns, _image(definitions, time_ns + 5))


@pytest.fixture
def bag(tmp_path, definitions, topic):
    atomic = AtomicBag(tmp_path / 'drive')
    _write(atomic.writer, definitions, topic)
    atomic.close()
    return atomic.path


@pytest.fixture
def nodes():
    """A node that plays, and one that listens, in bag time."""
    made = [
        Node('player'),
        Node('listener', parameter_overrides=[Parameter('use_sim_time', value=True)]),
    ]
    yield made
    for node in made:
        node.destroy_node()


def _messages(path):
    with open_bag(path) as reader:
        return sorted((c.topic, bytes(data)) for c, _, data in reader.messages())


def test_a_recording_of_a_playback_has_the_same_messages(bag, tmp_path, nodes, topic):
    player_node, listener = nodes
    arrived = []
    topics = [f'{topic}/image_raw', f'{topic}/names']
    copy = tmp_path / 'copy'
    recorder = BagRecorder(listener, copy, topics, lambda *entry: arrived.append(entry))
    with spinning(listener), open_bag(bag) as reader:
        sent = []
        player = BagPlayer(player_node, reader, on_publish=lambda *entry: sent.append(entry))
        assert player.topics == {topics[0]: IMAGE, topics[1]: STRING}
        assert player.wait_for_subscribers(topics, 10.0) == ()
        assert not copy.exists()  # not before it is complete
        player.play()
        assert player.num_published == 9
        deadline = time.monotonic() + 5.0
        while len(arrived) < 9 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert recorder.close() == copy
    assert _messages(copy) == _messages(bag)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['copy', 'drive']

    with open_bag(copy) as reader:
        offers = {c.topic: c.ext.offered_qos_profiles for c in reader.connections}
        images = [entry for entry in reader.messages() if entry[0].topic == topics[0]]
    assert offers[topics[0]] == [bag_qos()]
    assert offers[topics[1]] == [bag_qos(latched=True)]
    assert {connection.msgtype for connection, _, _ in images} == {IMAGE}
    # The recording lies in the time of the bag, however late a busy machine delivers.
    times_ns = [time_ns for _, time_ns, _ in images]
    assert times_ns == sorted(times_ns)
    assert START_NS <= times_ns[0] <= times_ns[-1] <= START_NS + 280_000_000
    sent_ns = {data: at for name, data, at in sent if name == topics[0]}
    assert all(0 < at - sent_ns[data] < 10**9 for name, data, at in arrived if name == topics[0])


def test_it_waits_for_relative_topics_and_tells_of_unknown_ones(bag, nodes, topic):
    with open_bag(bag) as reader:
        player = BagPlayer(nodes[0], reader)
        awaited = [f'{topic[1:]}/names', 'nowhere']
        assert player.wait_for_subscribers(awaited, 0.8) == (f'{topic}/names', '/nowhere')


@pytest.mark.parametrize('rate', [1.0, 0.5])
def test_time_runs_at_the_rate_and_forwards(bag, nodes, rate):
    player_node, listener = nodes
    ticks, sent = [], []
    listener.create_subscription(Clock, '/clock', ticks.append, 100)
    with spinning(listener), open_bag(bag) as reader:
        player = BagPlayer(
            player_node, reader, PlayerOptions(rate), lambda *entry: sent.append(entry[2])
        )
        player.wait_for_subscribers([], 2.0)
        ticks.clear()
        start_ns = time.monotonic_ns()
        player.play()
        time.sleep(0.1)
    # Never early; a busy machine may be late.
    for index, at_ns in enumerate(sent[1:]):
        assert at_ns - start_ns >= index * 40_000_000 / rate
    times = [tick.clock.sec * 10**9 + tick.clock.nanosec for tick in ticks]
    assert times == sorted(times)
    assert START_NS <= times[0] < times[-1] <= START_NS + 280_000_000
    assert len(ticks) <= 1.5 * 28 / rate + 12  # 100 Hz, and messages


def test_looping_starts_time_again_until_stopped(bag, nodes, topic):
    player_node, _ = nodes
    with open_bag(bag) as reader:
        player = BagPlayer(player_node, reader, PlayerOptions(rate=20.0, loop=True))
        player._on_publish = lambda *_: player.num_published >= 40 and player.stop()
        player.play()
    assert player.num_published == 40


def test_topics_can_be_chosen_renamed_and_cut(bag, nodes, topic):
    player_node, _ = nodes
    options = PlayerOptions(
        rate=50.0,
        topics=(f'{topic}/image_raw',),
        remaps={f'{topic}/image_raw': f'{topic}/other'},
        duration_s=0.1,
    )
    with open_bag(bag) as reader:
        player = BagPlayer(player_node, reader, options)
        player.play()
    assert player.topics == {f'{topic}/other': IMAGE}
    assert player.num_published == 3  # at 0, 40 and 80 ms


def test_an_unknown_type_is_said_and_left_out(tmp_path, definitions, nodes, topic, capfd):
    atomic = AtomicBag(tmp_path / 'drive')
    _write(atomic.writer, definitions, topic, num_images=2)
    strange = atomic.writer.add_connection(
        f'{topic}/strange', 'nobody_msgs/msg/Thing', msgdef='int32 x\n', rihs01='RIHS01_0'
    )
    atomic.writer.write(strange, START_NS, bytes(8))
    atomic.close()
    with open_bag(atomic.path) as reader:
        player = BagPlayer(nodes[0], reader, PlayerOptions(rate=10.0))
        player.play()
    assert player.num_published == 3
    told = capfd.readouterr().err
    assert f'{topic}/strange is not played: message type nobody_msgs/msg/Thing is not' in told


@pytest.mark.parametrize('storage', list(StoragePlugin))
@pytest.mark.parametrize('compression', list(CompressionMode))
def test_every_storage_and_compression_is_played(
    tmp_path, definitions, nodes, topic, storage, compression
):
    if storage is StoragePlugin.SQLITE3 and compression is CompressionMode.STORAGE:
        pytest.skip('sqlite3 has no compression inside')
    writer = Writer(tmp_path / 'drive', version=8, storage_plugin=storage)
    if compression is not CompressionMode.NONE:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        _write(writer, definitions, topic, num_images=2)
    sent = []
    with open_bag(tmp_path / 'drive') as reader:
        options = PlayerOptions(rate=20.0)
        BagPlayer(nodes[0], reader, options, lambda *entry: sent.append(entry)).play()
    assert [data for name, data, _ in sent if 'image' in name] == [
        bytes(_image(definitions, START_NS + index * 40_000_000 + 5)) for index in range(2)
    ]


def test_a_bag_that_cannot_be_played_says_what_it_holds(tmp_path, bag, nodes, topic):
    message = rf'got /x, expected topics.*{topic}/names'
    with open_bag(bag) as reader, pytest.raises(BagError, match=message):
        BagPlayer(nodes[0], reader, PlayerOptions(topics=('/x',)))
    AtomicBag(tmp_path / 'empty').close()
    message = 'without messages'
    with open_bag(tmp_path / 'empty') as reader, pytest.raises(BagError, match=message):
        BagPlayer(nodes[0], reader)


def _command(module, *arguments):
    return subprocess.Popen(
        [sys.executable, '-m', f'offroad_seg_ros.{module}', *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_ctrl_c_ends_the_player_cleanly(bag, nodes):
    heard = []
    nodes[1].create_subscription(Clock, '/clock', heard.append, 10)
    with spinning(nodes[1]):
        process = _command('bag_player', bag, '--loop')
        deadline = time.monotonic() + 15.0
        while not heard and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=15.0)
    assert process.returncode == 0, output
    assert 'messages played' in output
    assert 'Traceback' not in output


def test_ctrl_c_completes_a_recording(tmp_path, nodes, topic):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = nodes[0].create_publisher(String, topic, latched)
    publisher.publish(String(data='kept'))
    process = _command('bag_recorder', tmp_path / 'recording', '--topics', topic)
    deadline = time.monotonic() + 15.0
    while not publisher.get_subscription_count() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    assert not (tmp_path / 'recording').exists()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=15.0)
    assert process.returncode == 0, output
    with open_bag(tmp_path / 'recording') as reader:
        ((connection, _, data),) = reader.messages()
    assert connection.topic == topic
    assert bytes(data).rstrip(b'\0').endswith(b'kept')


def test_a_recording_never_replaces_something(bag, nodes):
    with pytest.raises(BagError, match='got a path that exists, expected a new one'):
        BagRecorder(nodes[0], bag)


def test_the_service_pauses_and_goes_on(bag, nodes):
    client = nodes[1].create_client(SetBool, '/bag_player/pause')
    process = _command('bag_player', bag, '--start-paused')
    with spinning(nodes[1]):
        assert client.wait_for_service(15.0)
        for paused, told in ((True, 'paused'), (False, 'playing')):
            answer = client.call_async(SetBool.Request(data=paused))
            deadline = time.monotonic() + 30.0
            while not answer.done() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert answer.result().message == told
        output, _ = process.communicate(timeout=15.0)
    assert process.returncode == 0, output
    assert '9 messages played' in output


def test_a_bag_that_is_not_there_is_said(tmp_path):
    process = _command('bag_player', tmp_path / 'none')
    output, _ = process.communicate(timeout=15.0)
    assert process.returncode == 1
    assert 'no such bag' in output
    assert 'Traceback' not in output
