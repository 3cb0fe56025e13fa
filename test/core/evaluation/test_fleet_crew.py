"""Workers that cannot begin, on a Ray that is played; test_fleet_cluster.py has a real one."""

from collections import deque
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from offroad_seg_core.evaluation.evaluate import Evaluation
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.provenance import label_versions
from offroad_seg_core.taxonomy import load_taxonomy

pytest.importorskip('ray', reason='fleets need requirements/fleet.txt')

from ray.exceptions import RayActorError, RayTaskError

from offroad_seg_core.fleet import cluster
from offroad_seg_core.fleet.chunks import Chunk

NUM_CHUNKS = 8
MODEL = {'engine': {'name': 'openvino', 'device': 'cpu'}}
OTHER = {'engine': {'name': 'torch', 'device': 'cpu'}}
ON_GPU = {'engine': {'name': 'tensorrt', 'device': 'cuda:0'}}
WORKS = 'works'


class Fails(NamedTuple):
    """The fate of a worker of which each chunk ends in an error."""

    error: Exception


IS_LOST = Fails(RayActorError())


class Model:
    """Stands for a predictor; can travel."""

    taxonomy = load_taxonomy('falcon10')

    def __init__(self, identity=MODEL):
        self.identity = identity.copy


class PlayedRay:
    """A cluster that has done each thing when it is waited for.

    Args:
        fates: Of the workers, one after another: WORKS, Fails, what it says that its labels
            depend on, or what is raised while it opens; the last one repeats.
        num_cores: Of its only node, which has as many GPUs.
    """

    def __init__(self, fates, num_cores):
        self.fates, self.num_asked = fates, 0
        self._resources = {'CPU': num_cores, 'GPU': num_cores}

    def nodes(self):
        return [{'Alive': True, 'Resources': self._resources}]

    def remote(self, **needs):
        self.needs = needs
        return lambda worker: SimpleNamespace(remote=self._start)

    def _start(self, content, num_threads):
        fate = self.fates[min(self.num_asked, len(self.fates) - 1)]
        self.num_asked += 1
        return SimpleNamespace(
            open=_method(lambda: _opened(fate)),
            run=_method(lambda _, chunk: fate.error if isinstance(fate, Fails) else chunk.key),
        )

    def put(self, value):
        return value

    def wait(self, known, num_returns, timeout):
        return known[:1], known[1:]

    def get(self, reference):
        outcome = reference()
        if isinstance(outcome, RayActorError):
            raise outcome
        if isinstance(outcome, Exception):
            raise RayTaskError('open', 'where it was', outcome, 'worker', 1, '127.0.0.1')
        return outcome

    def kill(self, worker):
        pass


def _opened(fate):
    if isinstance(fate, Exception):
        return fate
    return label_versions() | (fate if isinstance(fate, dict) else MODEL)


def _method(call):
    return SimpleNamespace(remote=lambda *given: lambda: call(*given))


@pytest.fixture
def perform(monkeypatch, tmp_path):
    """Return a function that lets a crew do chunks; gives what was done, and the cluster.

    After so many failures no chunk is tried again.
    """

    def run(*fates, num_cores=4, reference=None, most_failures=100):
        ray = PlayedRay(fates, num_cores)
        monkeypatch.setattr(cluster, 'ray', ray)
        evaluation = Evaluation(SeveralSources({}), Model(), tmp_path, reference)
        waiting = deque((None, Chunk('a', at, at + 1, str(at))) for at in range(NUM_CHUNKS))
        done, num_failures = [], 0
        for task, outcome in cluster.Crew(evaluation).perform(waiting):
            if not isinstance(outcome, Exception):
                done.append(int(outcome))
                continue
            num_failures += 1
            if num_failures <= most_failures:
                waiting.append(task)  # as a fleet does
        return sorted(done), ray

    return run


def test_a_worker_has_its_next_chunk_before_the_last_one_is_kept(monkeypatch, tmp_path):
    ray, given = PlayedRay([WORKS], num_cores=2), []
    monkeypatch.setattr(cluster, 'ray', ray)
    ray.wait = lambda known, **_: (known[-1:], known[:-1])  # a second worker is never ready
    give = cluster.Crew._give
    monkeypatch.setattr(
        cluster.Crew, '_give', lambda *told: given.append(told[2][1].key) or give(*told)
    )
    waiting = deque((None, Chunk('a', at, at + 1, str(at))) for at in range(3))
    crew = cluster.Crew(Evaluation(SeveralSources({}), Model(), tmp_path))
    known = [len(given) for _ in crew.perform(waiting)]
    assert known == [2, 3, 3]
    assert given == ['0', '1', '2']


@pytest.mark.parametrize('error', [OSError('the share hiccups'), EngineError('no openvino')])
@pytest.mark.parametrize('others_first', [True, False])
def test_a_node_whose_workers_cannot_begin_costs_nothing(perform, caplog, error, others_first):
    done, ray = perform(*((WORKS, error) if others_first else (error, WORKS)))
    assert done == list(range(NUM_CHUNKS))
    assert f'a worker was lost before it began: {error}' in caplog.text
    assert ray.num_asked <= 1 + NUM_CHUNKS * cluster._MAX_LOST


@pytest.mark.parametrize(
    ('error', 'raised', 'told'),
    [
        (EngineError('no openvino'), EngineError, 'no openvino'),
        (OSError('the share is gone'), OSError, 'the share is gone'),
        (AttributeError('of another version'), cluster.ClusterError, 'install this package'),
        (RayActorError(), cluster.ClusterError, 'no worker starts: The actor'),
    ],
)
@pytest.mark.parametrize('before', [(), (IS_LOST,)])
def test_when_no_worker_is_left_the_reason_is_told(
    perform, monkeypatch, error, raised, told, before
):
    asked = []
    monkeypatch.setattr(PlayedRay, 'put', lambda ray, value: asked.append(ray))
    with pytest.raises(raised, match=told):
        perform(*before, error, num_cores=2)
    assert asked[0].num_asked - len(before) in (cluster._MAX_LOST, cluster._MAX_LOST + 1)


def test_a_worker_whose_engine_broke_fails_no_second_chunk(perform):
    broken = Fails(EngineError('the GPU has fallen off the bus'))
    done, _ = perform(broken, broken, WORKS, num_cores=2, most_failures=2)
    assert done == list(range(NUM_CHUNKS))


@pytest.mark.parametrize('error', [ValueError('it is no bag'), OSError('the share hiccups')])
def test_a_worker_that_could_not_read_a_drive_does_the_next(perform, error):
    # No other can begin, so it is this one that is given all of them.
    done, _ = perform(Fails(error), EngineError('no openvino'), num_cores=2, most_failures=3)
    assert done == []


@pytest.mark.parametrize(
    ('theirs', 'told'),
    [
        (
            {**MODEL, 'reference engine': OTHER['engine']},
            "expected {'reference engine': {'name': 'op",
        ),
        ({**OTHER, 'reference engine': MODEL['engine']}, "expected {'engine': {'name': 'op"),
        (MODEL, "expected {'reference engine': {'name': 'op"),
    ],
)
def test_model_and_reference_must_be_the_same_on_every_node(perform, theirs, told):
    with pytest.raises(cluster.ClusterError, match=f'on a node, {told}'):
        perform(theirs, reference=Model())
    same = {**MODEL, 'reference engine': MODEL['engine']}
    assert perform(same, reference=Model())[0] == list(range(NUM_CHUNKS))


def test_versions_must_be_the_same_on_every_node(perform):
    older = {**MODEL, 'version of opencv': '4.5.4', 'version of numpy': None}
    got = r"got {'version of numpy': None, 'version of opencv': '4.5.4'} on a node, "
    expected = rf"expected {{'version of numpy': '{np.__version__}', 'version of opencv': "
    fix = r'.* as here; fix: .*install the same versions everywhere'
    with pytest.raises(cluster.ClusterError, match=got + expected + fix):
        perform(older)
    own = {**MODEL, 'version of offroad_seg_ros': '0.0.1'}
    with pytest.raises(cluster.ClusterError, match=r"version of offroad_seg_ros': '0.0.1'} on a"):
        perform(own)
    code = {**MODEL, 'version of code': '0123456789ab'}
    fix = r"got {'version of code': '0123456789ab'} on a node.*files of this package are not those"
    with pytest.raises(cluster.ClusterError, match=fix):
        perform(code)


def test_a_worker_has_a_gpu_where_its_reference_needs_one(perform):
    same = {**MODEL, 'reference engine': ON_GPU['engine']}
    _, ray = perform(same, reference=Model(ON_GPU))
    assert ray.needs['num_gpus'] == 1
    assert perform(WORKS)[1].needs['num_gpus'] == 0
