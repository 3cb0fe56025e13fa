"""When engines fail: what may pass is not remembered, and nothing stays open."""

from dataclasses import replace
import json
from pathlib import Path
import sys
import weakref

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_engines import Factory, Streamed, refuse

from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.engines import (
    ENGINES,
    EngineError,
    EngineSettings,
    EngineUnavailableError,
    create_engine,
    selection,
)
from offroad_seg_core.inference.engines.base import EngineStoppedError, EngineUnsupportedError
from offroad_seg_core.inference.engines.selection import fastest
from offroad_seg_core.inference.engines.stopping import builds_stopped

OUT_OF_MEMORY = RuntimeError('CUDA out of memory')  # torch.OutOfMemoryError is one
KILLED = EngineError('the process that builds the engine was killed')


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(selection, 'has_nvidia_gpu', lambda: True)
    return EngineSettings(num_threads=2, cache_folder=tmp_path)


class Failing(Factory):
    """Fails when it is made, or when it runs; as long as `error` is set."""

    def __init__(self, name, error, when='make', **options):
        super().__init__(name, **options)
        self.error, self.when = error, when

    def __call__(self, bundle, settings):
        if self.error and self.when == 'make':
            raise self.error
        engine = super().__call__(bundle, settings)
        if self.error and self.when == 'run':
            engine.run = self._fail
        return engine

    def _fail(self, images):
        raise self.error


def kept(settings):
    return [json.loads(file.read_text()) for file in settings.cache_folder.rglob('*.json')]


@pytest.mark.parametrize('when', ['make', 'run'])
@pytest.mark.parametrize('error', [KILLED, OUT_OF_MEMORY], ids=['killed', 'memory'])
def test_a_failure_that_may_pass_is_not_remembered(bundle, settings, when, error):
    tensorrt = Failing('tensorrt', error, when, device='gpu')
    engines = {'tensorrt': tensorrt, 'openvino': Factory('openvino', 0.02)}
    assert fastest(engines, bundle, settings).info.name == 'openvino'
    assert all(engine.closed for engine in tensorrt.made)
    assert kept(settings) == []
    tensorrt.error = None
    assert fastest(engines, bundle, settings).info.name == 'tensorrt'
    assert [choice['engine'] for choice in kept(settings)] == ['tensorrt']


@pytest.mark.parametrize('error', [EngineUnavailableError('none'), EngineUnsupportedError('no')])
def test_a_failure_that_stays_is_remembered(bundle, settings, error):
    engines = {'tensorrt': Failing('tensorrt', error), 'openvino': Factory('openvino')}
    fastest(engines, bundle, settings)
    assert [choice['engine'] for choice in kept(settings)] == ['openvino']


@pytest.mark.parametrize('error', [KILLED, OUT_OF_MEMORY, EngineUnavailableError('no driver')])
def test_one_bad_start_does_not_change_a_choice(bundle, settings, error, caplog):
    tensorrt = Failing('tensorrt', None, device='gpu')
    engines = {'tensorrt': tensorrt, 'openvino': Factory('openvino', 0.02)}
    fastest(engines, bundle, settings)
    before = kept(settings)
    tensorrt.error = error
    assert fastest(engines, bundle, settings).info.name == 'openvino'
    assert 'worked before, and now:' in caplog.text
    assert kept(settings) == before
    tensorrt.error = None
    assert fastest(engines, bundle, settings).info.name == 'tensorrt'


def test_who_was_stopped_tries_nothing_else(bundle, settings):
    first, last = Factory('tensorrt'), Factory('openvino')
    stopped = Failing('onnxruntime_cuda', EngineStoppedError('stopped'))
    engines = {'tensorrt': first, 'onnxruntime_cuda': stopped, 'openvino': last}
    with pytest.raises(EngineStoppedError):
        fastest(engines, bundle, settings)
    assert [engine.closed for engine in first.made] == [True]
    assert last.asked == []
    assert kept(settings) == []
    with builds_stopped(), pytest.raises(EngineStoppedError):
        fastest({'openvino': last}, bundle, settings)
    assert last.asked == []


@pytest.fixture
def named(bundle, monkeypatch, tmp_path):
    """Return a function that opens `tensorrt`, made by this factory, with OpenVINO beside it."""
    for name in ENGINES:
        monkeypatch.setitem(ENGINES, name, refuse)

    def create(tensorrt, openvino=refuse, **options):
        monkeypatch.setitem(ENGINES, 'tensorrt', tensorrt)
        monkeypatch.setitem(ENGINES, 'openvino', openvino)
        return create_engine(bundle, 'tensorrt', cache_folder=tmp_path, **options)

    return create


@pytest.mark.parametrize('when', ['make', 'run'])
def test_whatever_a_library_raises_is_an_engine_error(named, when):
    tensorrt = Failing('tensorrt', OUT_OF_MEMORY, when)
    with pytest.raises(EngineError, match='RuntimeError: CUDA out of memory') as caught:
        named(tensorrt)
    assert caught.value.__cause__ is OUT_OF_MEMORY
    assert all(engine.closed for engine in tensorrt.made)
    assert named(tensorrt, Factory('openvino'), fallback=True).info.name == 'openvino'


def test_what_is_wrong_with_the_bundle_stays_its_error(named):
    with pytest.raises(BundleError, match='no such file'):
        named(Failing('tensorrt', BundleError('no such file')), Factory('openvino'), fallback=True)


def test_being_stopped_is_no_reason_to_fall_back(named):
    openvino = Factory('openvino')
    with pytest.raises(EngineStoppedError):
        named(Failing('tensorrt', EngineStoppedError('stopped')), openvino, fallback=True)
    assert openvino.asked == []


def test_what_failed_is_freed_before_another_is_opened(named):
    class Weights:
        pass

    alive = []

    def tensorrt(bundle, settings):
        weights = Weights()
        alive.append(weakref.ref(weights))
        raise RuntimeError('out of memory')

    class Openvino(Factory):
        def __call__(self, bundle, settings):
            assert [reference() for reference in alive] == [None]
            return super().__call__(bundle, settings)

    named(tensorrt, Openvino('openvino'), fallback=True)


def test_an_engine_of_other_classes_is_closed(named):
    class Other(Factory):
        def __call__(self, bundle, settings):
            engine = super().__call__(bundle, settings)
            engine.info = replace(engine.info, num_classes=3)
            return engine

    tensorrt = Other('tensorrt')
    with pytest.raises(BundleError, match='outputs 3 classes'):
        named(tensorrt)
    assert [engine.closed for engine in tensorrt.made] == [True]


class Second(Streamed):
    """Works with one stream and its own number of threads; any other fails."""

    def __init__(self, when, is_other):
        super().__init__('openvino')
        self._when, self._is_other = when, is_other

    def __call__(self, bundle, settings):
        if self._is_other(settings) and self._when == 'make':
            raise OUT_OF_MEMORY
        engine = super().__call__(bundle, settings)
        if self._is_other(settings):
            engine.run = lambda images: 1 / 0
        return engine


@pytest.mark.parametrize('when', ['make', 'run'])
@pytest.mark.parametrize('kind', ['streams', 'threads'])
def test_the_best_stays_when_more_of_it_fails(bundle, settings, monkeypatch, kind, when):
    if kind == 'streams':
        wanted = replace(settings, num_streams=2)
        factory = Second(when, lambda s: s.num_streams > 1)
    else:
        monkeypatch.setattr(selection.os, 'sched_getaffinity', lambda _: set(range(8)))
        wanted = replace(settings, num_threads=0)
        factory = Second(when, lambda s: s.num_threads > 0)
    engine = fastest({'openvino': factory}, bundle, wanted)
    assert engine is factory.made[0]
    assert [other.closed for other in factory.made] == [False, *[True] * (len(factory.made) - 1)]
    assert kept(settings) == []


def test_a_gpu_gets_its_streams_however_long_the_build_took(bundle, settings, monkeypatch):
    monkeypatch.setattr(selection, 'BUDGET_S', 0.0)
    tensorrt = Streamed('tensorrt', device='gpu')
    engine = fastest({'tensorrt': tensorrt}, bundle, replace(settings, num_streams=2))
    assert engine.info.num_streams == 2
    assert len(tensorrt.made) == 1
    assert sorted(choice['num_streams'] for choice in kept(settings)) == [1, 2]


@pytest.mark.parametrize(('run_s', 'rounds', 'runs'), [(0.0, 2, 5), (0.45, 1, 2)])
def test_slow_streams_are_timed_for_a_moment_only(
    bundle, settings, monkeypatch, run_s, rounds, runs
):
    """By a clock that advances with what is timed; 4 s for everything."""
    now, timed = [0.0], []

    def warm_up(engine, size, runs):
        now[0] += (runs + 1) * run_s
        return run_s * 1e3

    def frames_per_second(engine, size, runs):
        timed.append((engine.info.num_streams, runs))
        now[0] += (runs + 1) * run_s
        return 10.0 * engine.info.num_streams

    monkeypatch.setattr(selection.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr('offroad_seg_core.inference.engines.opening.warm_up', warm_up)
    monkeypatch.setattr(selection, 'frames_per_second', frames_per_second)
    engine = fastest({'openvino': Streamed('openvino')}, bundle, replace(settings, num_streams=2))
    assert timed == [(1, runs), (2, runs)] * rounds
    assert engine.info.num_streams == 2
