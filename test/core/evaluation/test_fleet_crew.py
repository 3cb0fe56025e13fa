"""Workers that cannot begin, on a Ray that is played; test_fleet_cluster.py has a real one."""

from collections import deque

import numpy as np
import pytest

from offroad_seg_core.evaluation.evaluate import Evaluation
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.inference.engines import EngineError

pytest.importorskip('ray', reason='fleets need requirements/fleet.txt')

from ray.exceptions import RayActorError

from offroad_seg_core.fleet import cluster
from offroad_seg_core.fleet.chunks import Chunk

MODEL = {'engine': {'name': 'openvino', 'device': 'cpu'}}
OTHER = {'engine': {'name': 'torch', 'device': 'cpu'}}
ON_GPU = {'engine': {'name': 'tensorrt', 'device': 'cuda:0'}}


def test_a_worker_has_its_next_chunk_before_the_last_one_is_kept(played, monkeypatch, tmp_path):
    ray, given = played.PlayedRay([played.WORKS], num_cores=2), []
    monkeypatch.setattr(cluster, 'ray', ray)
    ray.wait = lambda known, **_: (known[-1:], known[:-1])  # a second worker is never ready
    give = cluster.Crew._give
    monkeypatch.setattr(
        cluster.Crew, '_give', lambda *told: given.append(told[2][1].key) or give(*told)
    )
    waiting = deque((None, Chunk('a', at, at + 1, str(at))) for at in range(3))
    crew = cluster.Crew(Evaluation(SeveralSources({}), played.Model(), tmp_path))
    known = [len(given) for _ in crew.perform(waiting)]
    assert known == [2, 3, 3]
    assert given == ['0', '1', '2']


@pytest.mark.parametrize('error', [OSError('the share hiccups'), EngineError('no openvino')])
@pytest.mark.parametrize('others_first', [True, False])
def test_a_node_whose_workers_cannot_begin_costs_nothing(
    played, perform, caplog, error, others_first
):
    done, ray = perform(*((played.WORKS, error) if others_first else (error, played.WORKS)))
    assert done == list(range(played.NUM_CHUNKS))
    assert f'a worker was lost before it began: {error}' in caplog.text
    assert ray.num_asked <= 1 + played.NUM_CHUNKS * cluster._MAX_LOST


@pytest.mark.parametrize(
    ('error', 'raised', 'told'),
    [
        (EngineError('no openvino'), EngineError, 'no openvino'),
        (OSError('the share is gone'), OSError, 'the share is gone'),
        (AttributeError('of another version'), cluster.ClusterError, 'install this package'),
        (RayActorError(), cluster.ClusterError, 'no worker starts: The actor'),
    ],
)
@pytest.mark.parametrize('others_are_lost', [False, True])
def test_when_no_worker_is_left_the_reason_is_told(
    played, perform, monkeypatch, error, raised, told, others_are_lost
):
    before = [played.Fails(RayActorError())] * others_are_lost
    asked = []
    monkeypatch.setattr(played.PlayedRay, 'put', lambda ray, value: asked.append(ray))
    with pytest.raises(raised, match=told):
        perform(*before, error, num_cores=2)
    assert asked[0].num_asked - len(before) in (cluster._MAX_LOST, cluster._MAX_LOST + 1)


def test_a_worker_whose_engine_broke_fails_no_second_chunk(played, perform):
    broken = played.Fails(EngineError('the GPU has fallen off the bus'))
    done, _ = perform(broken, broken, played.WORKS, num_cores=2, most_failures=2)
    assert done == list(range(played.NUM_CHUNKS))


@pytest.mark.parametrize('error', [ValueError('it is no bag'), OSError('the share hiccups')])
def test_a_worker_that_could_not_read_a_drive_does_the_next(played, perform, error):
    # No other can begin, so it is this one that is given all of them.
    done, _ = perform(played.Fails(error), EngineError('no openvino'), most_failures=3)
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
def test_model_and_reference_must_be_the_same_on_every_node(played, perform, theirs, told):
    with pytest.raises(cluster.ClusterError, match=f'on a node, {told}'):
        perform(theirs, reference=played.Model())
    same = {**MODEL, 'reference engine': MODEL['engine']}
    assert perform(same, reference=played.Model())[0] == list(range(played.NUM_CHUNKS))


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


def test_a_worker_has_a_gpu_where_its_reference_needs_one(played, perform):
    same = {**MODEL, 'reference engine': ON_GPU['engine']}
    _, ray = perform(same, reference=played.Model(ON_GPU))
    assert ray.needs['num_gpus'] == 1
    assert perform(played.WORKS)[1].needs['num_gpus'] == 0
