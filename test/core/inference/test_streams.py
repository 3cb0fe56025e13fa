"""Several threads at a time: each gets what it would get alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import threading

import numpy as np
import pytest

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import ENGINES, EngineSettings, create_engine
from offroad_seg_core.inference.engines.base import frames_per_second
from offroad_seg_core.inference.engines.onnxruntime import _pool_size
from offroad_seg_core.inference.result import SegmenterOptions
from offroad_seg_core.inference.segmenter import Segmenter

ROUNDS = 20


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


@pytest.fixture(params=['onnxruntime', 'openvino'])
def engine(request, bundle):
    pytest.importorskip(request.param)
    made = ENGINES[request.param](bundle, EngineSettings('fp32', 2, num_streams=2))
    yield made
    made.close()


def test_threads_do_not_touch_each_others_arrays(engine, bundle):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (1, 64, 96, 3), np.uint8) for _ in range(2)]
    expected = [engine.run(image).logits.copy() for image in images]
    barrier = threading.Barrier(2, timeout=60)

    def work(index):
        for _ in range(ROUNDS):
            logits = engine.run(images[index]).logits
            barrier.wait()  # the other thread has run, too, since
            np.testing.assert_allclose(logits, expected[index], atol=1e-4)
            barrier.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert engine.info.num_streams == 2
    assert str(engine.info).endswith('fp32 on cpu in 2 streams')


def test_a_twin_serves_another_thread_with_the_same_options(engine, bundle):
    first = Segmenter(bundle, engine, SegmenterOptions(absent_classes=('Sky',)))
    twin = first.twin()
    assert twin.engine is engine
    assert twin.options == first.options
    generator = np.random.default_rng(1)
    images = [generator.integers(0, 256, (128, 192, 3), np.uint8) for _ in range(2)]
    expected = [first.segment(image).label_map.copy() for image in images]
    barrier = threading.Barrier(2, timeout=60)

    def work(index):
        for _ in range(ROUNDS):
            barrier.wait()
            labels = (first, twin)[index].segment(images[index]).label_map
            assert (labels == expected[index]).mean() > 0.999

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))


def test_all_streams_count(engine):
    calls = []
    run = engine.run
    engine.run = lambda images: calls.append(threading.get_ident()) or run(images)
    assert frames_per_second(engine, (64, 96), runs=3) > 0
    assert len(calls) == 2 + 2 * 3
    assert threading.get_ident() not in calls


@pytest.mark.parametrize(
    ('num_threads', 'num_streams', 'expected'),
    [(0, 1, 0), (3, 1, 3), (2, 2, 1), (8, 2, 7), (1, 3, 1)],
)
def test_a_call_computes_itself_beside_the_pool(num_threads, num_streams, expected):
    """8 cores: two callers and the 6 threads of a pool, which each of them may use alone."""
    settings = EngineSettings('fp32', num_threads, num_streams=num_streams)
    assert _pool_size(settings) == expected


def test_a_named_engine_gets_streams_where_they_give_more(bundle, monkeypatch, tmp_path):
    wanted = {'num_threads': 2, 'num_streams': 2, 'cache_folder': tmp_path}
    for share, expected in ((0.0, 2), (1e9, 1)):
        monkeypatch.setattr('offroad_seg_core.inference.engines.selection._CLEARLY_MORE', share)
        folder = tmp_path / str(expected)
        engine = create_engine(bundle, 'onnxruntime', **wanted | {'cache_folder': folder})
        assert (engine.info.name, engine.info.num_streams) == ('onnxruntime', expected)
        assert replace(engine.info, num_streams=1).precision == 'fp32'


@pytest.mark.parametrize(('per_s', 'expected'), [(105.0, 2), (95.0, 1)])
def test_where_no_frame_is_in_a_hurry_any_gain_counts(
    bundle, monkeypatch, tmp_path, per_s, expected
):
    def measured(engine, size, runs):
        return per_s if engine.info.num_streams > 1 else 100.0

    place = 'offroad_seg_core.inference.engines.selection.frames_per_second'
    monkeypatch.setattr(place, measured)
    wanted = {'num_threads': 2, 'num_streams': 2, 'cache_folder': tmp_path}
    for for_throughput in (False, True):
        engine = create_engine(bundle, 'onnxruntime', **wanted, for_throughput=for_throughput)
        assert engine.info.num_streams == (expected if for_throughput else 1)
        engine.close()
