"""Reading may take long, where a file is unpacked: bag time waits for it, and Ctrl-C does not."""

from collections import namedtuple
import queue
import shutil
import tempfile
import threading

import pytest
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.bags.library import zstd
from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.bags.writing import AtomicBag, bag_qos
from offroad_seg_ros import demo
from offroad_seg_ros.demo_inputs import DriveOptions, write_drive
from offroad_seg_ros.demo_process import DemoError
from offroad_seg_ros.playback import BagPlayer
from offroad_seg_ros.playback_timer import PlaybackTimer
from offroad_seg_ros.spinning import spinning

START_NS, STEP_NS = 1_700_000_000_000_000_000, 200_000_000
LOOK_NS = 5_000_000
TIMEOUT_S = 60
STRING = 'std_msgs/msg/String'
Usage = namedtuple('Usage', 'free')


def write_bag(path, numbers):
    """Write a text for each number, 200 ms after the one before."""
    atomic, definitions = AtomicBag(path), Definitions()
    topic = definitions.add_connection(atomic.writer, '/late_reader', STRING, [bag_qos()])
    for number in numbers:
        text = definitions.store.types[STRING](str(number))
        data = definitions.store.serialize_cdr(text, STRING)
        atomic.writer.write(topic, START_NS + number * STEP_NS, data)
    atomic.close()
    return path


def pack(bag, folder):
    """Compress the file of a bag as a whole."""
    (file,) = bag.glob('*.mcap')
    (folder / f'{file.name}.zstd').write_bytes(zstd.compress(file.read_bytes()))


@pytest.fixture
def split_bag(tmp_path):
    """A bag of two compressed files, of three messages each."""
    folder = tmp_path / 'drive'
    folder.mkdir()
    for number in (0, 1):
        pack(write_bag(tmp_path / f'drive_{number}', range(3 * number, 3 * number + 3)), folder)
    return folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    return folder


@pytest.fixture
def node():
    made = Node('late_reader')
    yield made
    made.destroy_node()


class PlayedTime:
    """A steady clock that goes on a little with each look at it."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        self.now_ns += LOOK_NS
        return self.now_ns


@pytest.mark.parametrize('late', [0, 2])
def test_bag_time_waits_for_the_reader(tmp_path, node, monkeypatch, late):
    released, sent, ticks, time_ns = threading.Event(), [], queue.Queue(), PlayedTime()
    node.create_subscription(Clock, '/clock', ticks.put, 10)

    def held_up(*given, **options):
        for number, message in enumerate(real(*given, **options)):
            if number == late:
                assert released.wait(TIMEOUT_S)
            yield message

    with spinning(node), open_bag(write_bag(tmp_path / 'drive', range(5))) as bag:
        real = bag.messages
        monkeypatch.setattr(bag, 'messages', held_up)
        player = BagPlayer(node, bag, on_publish=lambda *_: sent.append(timer.elapsed_ns()))
        player.timer = timer = PlaybackTimer(now_ns=time_ns)
        thread = threading.Thread(target=player.play)
        thread.start()
        # The clock goes on ticking, at the time of the last message.
        reached_ns, num_ticks = START_NS + max(0, late - 1) * STEP_NS, 0
        while num_ticks < 5:
            clock = ticks.get(timeout=TIMEOUT_S).clock
            num_ticks += clock.sec * 10**9 + clock.nanosec == reached_ns
        assert len(sent) == late
        time_ns.now_ns += 3600 * 10**9
        released.set()
        thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    assert len(sent) == 5
    for number, at_ns in enumerate(sent):
        assert 0 <= at_ns - number * STEP_NS < STEP_NS


@pytest.mark.parametrize('ctrl_c', [False, True], ids=['stop', 'Ctrl-C'])
def test_nobody_waits_for_a_file_that_is_being_unpacked(
    split_bag, temporary, node, monkeypatch, ctrl_c
):
    unpacking, given_up, real = threading.Event(), threading.Event(), zstd.open

    class Endless:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read1(self, _):
            unpacking.set()
            return b'' if given_up.is_set() else b'\0'

    def open_file(file, *given):
        return Endless() if file.name.startswith('drive_1') else real(file, *given)

    def on_publish(*_):
        assert unpacking.wait(TIMEOUT_S)
        if ctrl_c:
            raise KeyboardInterrupt
        player.stop()

    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(0))
    late = threading.Timer(TIMEOUT_S, given_up.set)
    late.start()
    try:
        with open_bag(split_bag) as bag:
            monkeypatch.setattr(zstd, 'open', open_file)
            player = BagPlayer(node, bag, on_publish=on_publish)
            if ctrl_c:
                with pytest.raises(KeyboardInterrupt):
                    player.play()
            else:
                player.play()
            assert not given_up.is_set()
            assert player.num_published == 1
            assert bag.notes == [f'{split_bag}: has no metadata.yaml']
    finally:
        late.cancel()
    assert list(temporary.iterdir()) == []


def test_the_demo_unpacks_a_file_once(tmp_path, temporary, monkeypatch):
    write_drive(tmp_path / 'rendered', DriveOptions(1, size=(64, 96)), lambda: None)
    (tmp_path / 'drive').mkdir()
    pack(tmp_path / 'rendered', tmp_path / 'drive')
    found = []

    def segment(*_):
        found.extend(temporary.glob('*/*.mcap'))
        raise DemoError('enough')

    monkeypatch.setattr(demo, '_segment', segment)
    given = ['--bag', str(tmp_path / 'drive'), '--output', str(tmp_path / 'output')]
    with pytest.raises(DemoError, match='enough'):
        demo.run(demo._parser().parse_args(given))
    assert len(found) == 1
    assert list(temporary.iterdir()) == []
