"""Fleets on a real Ray cluster of two nodes on this machine."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from offroad_seg_core.evaluation.evaluate import evaluate
from offroad_seg_core.evaluation.sources.frame import SourceError

pytest.importorskip('ray', reason='fleets need requirements/fleet.txt')

ON_DEMAND = pytest.mark.skipif(
    'FLEET_TEST' not in os.environ, reason='takes minutes: make fleet-test'
)
GAVE_UP = 'no cluster answers'
"""What is told on a machine that is too busy for Ray's own deadlines."""
FULL = 'OFFROAD_SEG_TEST_NODE_IS_FULL'
LOCAL = {'127.0.0.1', '::1', '::ffff:127.0.0.1'}
pytestmark = pytest.mark.timeout(1500)


def check_that_nothing_listens_outside(fleets):
    own = {process.pid for process in fleets.processes()} | {os.getpid()}
    listening = [
        entry
        for entry in psutil.net_connections('inet')
        if entry.pid in own and entry.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {entry.laddr.ip for entry in listening} <= LOCAL


@pytest.fixture
def nothing_stays(fleets):
    """Check that every process that a test starts has ended; those of other tests may be there."""
    before = fleets.processes()
    yield
    psutil.wait_procs(fleets.processes() - before, timeout=60)
    assert not fleets.processes() - before


@pytest.fixture
def cluster(fleets, nothing_stays):
    with pytest.MonkeyPatch.context() as patch, fleets.two_nodes(patch) as found:
        yield found


def on_cluster(fleets, cluster, evaluation, on_chunk):
    from offroad_seg_core.fleet.cluster import Crew, ray_cluster
    from offroad_seg_core.fleet.run import Fleet

    with ray_cluster(cluster.address):
        return Fleet(evaluation, on_chunk).evaluate(Crew(evaluation).perform)


class Lost:
    """A drive that is found to be no bag where it is read."""

    num_frames, num_parts, can_seek, notes = 0, 1, True, ()

    def __init__(self, drive):
        self._drive = drive

    def identity(self):
        return {'kind': 'lost'}

    def description(self):
        return self._drive.description()

    def frames(self, first_part, names):
        raise SourceError('it is no bag')
        yield


def test_two_nodes_give_the_result_of_one_go(drives, fleets, predictor, cluster, tmp_path):
    import ray

    head, _ = cluster
    size = (32, 48)
    monday = drives.write_drive(tmp_path / 'monday', ('front',), 40, size)
    friday = drives.write_drive(tmp_path / 'friday', ('front',), 20, size)
    places = {'monday': monday, 'friday': friday, 'remote': friday.as_uri()}
    sources = {name: fleets.drive(place, drives.TAXONOMY) for name, place in places.items()}
    serial = fleets.evaluation_of(sources, predictor, tmp_path / 'serial')
    expected = fleets.said(drives, evaluate(serial, lambda count: None))

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    told = []

    def on_chunk(*counts):
        told.append(counts)
        check_that_nothing_listens_outside(fleets)

    with_lost = {**sources, 'lost': Lost(sources['monday'])}
    evaluation = fleets.evaluation_of(with_lost, predictor, tmp_path / 'fleet')
    folder = on_cluster(fleets, head, evaluation, on_chunk)
    got = fleets.said(drives, folder)
    assert got.pop('notes') == ['lost: not evaluated: it is no bag']
    assert expected.pop('notes') == []
    assert got == expected
    assert told[-1] == (6, 6, 80)

    identity = {**predictor.identity(), 'options': 'of another version'}
    predictor.identity = lambda: identity  # of this process; a worker opens one of its own
    evaluation = fleets.evaluation_of(sources, predictor, tmp_path / 'other')
    with pytest.raises(ValueError, match=r"on a node, expected {'options': 'of another version'}"):
        on_cluster(fleets, head, evaluation, on_chunk)


def test_a_cluster_of_this_machine_makes_its_token(tmp_path):
    """In a home that never saw Ray, whoever has no token is refused."""
    code = (
        'from offroad_seg_core.fleet.cluster import ray_cluster\n'
        "with ray_cluster('local'):\n"
        '    import ray\n'
        '    print(ray.get(ray.remote(lambda: 42).remote()))\n'
    )
    home = {key: value for key, value in os.environ.items() if not key.startswith('RAY_AUTH')}
    for _ in range(3):
        ended = subprocess.run(
            [sys.executable, '-c', code],
            capture_output=True, text=True, timeout=300, env={**home, 'HOME': str(tmp_path)},
        )  # fmt: skip
        if GAVE_UP not in ended.stderr:
            break
    assert ended.stdout == '42\n', ended.stderr
    assert (tmp_path / '.ray' / 'auth_token').stat().st_size > 0


def test_a_cluster_that_is_not_there(tmp_path):
    from offroad_seg_core.fleet.cluster import ClusterError, ray_cluster

    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        with pytest.raises(ClusterError, match=rf'--ray {address}: no cluster answers .*refused'):
            ray_cluster(address).__enter__()
    with pytest.raises(ClusterError, match="got 'drive', expected host:port of its head"):
        ray_cluster('drive').__enter__()


@ON_DEMAND
def test_a_node_that_is_killed_costs_nothing(drives, fleets, predictor, cluster, tmp_path, caplog):
    head, doomed = cluster
    place = drives.write_drive(tmp_path / 'drive', ('front', 'rear'), 160, (272, 480))
    source = fleets.drive(place, drives.TAXONOMY)
    serial = fleets.evaluation_of(source, predictor, tmp_path / 'serial')
    expected = fleets.said(drives, evaluate(serial, lambda count: None))
    (raylet,) = doomed.all_processes['raylet']
    node, killed_at = psutil.Process(raylet.process.pid), []

    def kill(num_done, total, num_frames):
        """Kill the node while it works on a chunk."""
        titles = [' '.join(child.cmdline()) for child in node.children()] if not killed_at else []
        if any(title.startswith('ray::Worker.run') for title in titles):
            head.remove_node(doomed, allow_graceful=False)
            killed_at.append(num_done)

    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    with caplog.at_level(logging.WARNING):
        folder = on_cluster(fleets, head, evaluation, kill)
    assert killed_at
    assert killed_at[0] < source.num_parts - 1
    assert 'is tried again after' in caplog.text
    assert fleets.said(drives, folder) == expected


class NotHere:
    """A drive that cannot be read on a node whose disk is full; others wait until one has tried.

    ``pipe`` is what they wait at.
    """

    def __init__(self, drive, pipe):
        self._drive, self._pipe, self.notes = drive, pipe, drive.notes
        self.num_frames, self.num_parts = drive.num_frames, drive.num_parts
        self.can_seek = drive.can_seek
        self.identity, self.description = drive.identity, drive.description

    def frames(self, first_part, names):
        if FULL in os.environ:
            os.open(self._pipe, os.O_RDWR)  # it stays open as long as the worker is there
            raise OSError(28, 'No space left on device')
        self._pipe.open().close()
        return self._drive.frames(first_part, names)


@ON_DEMAND
def test_a_node_that_is_full_costs_no_drive(
    drives, fleets, nothing_stays, predictor, tmp_path, caplog
):
    import ray

    names = ('monday', 'tuesday', 'friday')
    sources = {
        name: fleets.drive(
            drives.write_drive(tmp_path / name, ('front',), 40, (32, 48)), drives.TAXONOMY
        )
        for name in names
    }
    serial = fleets.evaluation_of(sources, predictor, tmp_path / 'serial')
    expected = fleets.said(drives, evaluate(serial, lambda count: None))
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    os.mkfifo(tmp_path / 'pipe')
    sources = {name: NotHere(source, tmp_path / 'pipe') for name, source in sources.items()}
    evaluation = fleets.evaluation_of(sources, predictor, tmp_path / 'fleet')
    with (
        pytest.MonkeyPatch.context() as patch,
        fleets.two_nodes(patch, of_second={FULL: 'yes'}) as (head, _),
        caplog.at_level(logging.WARNING),
    ):
        folder = on_cluster(fleets, head, evaluation, lambda *counts: None)
    assert 'goes to another worker after [Errno 28]' in caplog.text
    assert 'is tried again' not in caplog.text
    assert fleets.said(drives, folder) == expected


@ON_DEMAND
def test_the_command_is_interrupted_and_goes_on(
    drives, fleets, nothing_stays, palette_bundle, tmp_path
):
    place = drives.write_drive(tmp_path / 'drive', ('front',), 600, (32, 48))
    given = [place, place.as_uri(), '--bundle', palette_bundle, '--engine', 'onnxruntime']
    options = ['--output', tmp_path / 'result', '--labels', 'none', '--ray']
    command = [sys.executable, '-m', 'offroad_seg_ros.evaluate_bag', *map(str, given + options)]
    chunks = tmp_path / 'result.unfinished' / 'chunks'
    home = {**os.environ, 'HOME': str(tmp_path)}  # Ray keeps a token there
    code, told = 1, GAVE_UP
    while code == 1 and GAVE_UP in told:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=home) as process:
            while process.poll() is None and not list(chunks.glob('[0-9a-f]*.zip')):
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=300)[1]
        code = process.returncode
    assert code == 130, told
    assert 'stopped; what is complete is kept' in told

    kept = {path.name for path in chunks.iterdir()}
    assert 1 <= len(kept) < 4
    told = GAVE_UP
    while GAVE_UP in told:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=800, env=home)
        told = ended.stderr
    assert ended.returncode == 0, told
    assert '1200 of 1200 frames labelled by palette' in ended.stdout
    assert 'chunk' in ended.stderr
