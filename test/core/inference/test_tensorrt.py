"""The TensorRT engine and its runner, on a simulated GPU."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import logging
from pathlib import Path
import sys
import threading

import numpy as np
import pytest

pytest.importorskip('onnxruntime')
pytest.importorskip('tensorrt_rtx', reason='tensorrt-rtx is not installed')
pytest.importorskip('cuda.bindings', reason='cuda-bindings is not installed')

sys.path.insert(0, str(Path(__file__).parent))
from simulated_gpu import MIB, PLAN, Simulation

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import (
    EngineError,
    EngineOutput,
    EngineSettings,
    EngineUnavailableError,
    LabelEngine,
    create_engine,
    cuda,
    tensorrt,
)
from offroad_seg_core.inference.engines.cuda import Cuda
from offroad_seg_core.inference.engines.engine_cache import EngineCache
from offroad_seg_core.inference.engines.gpu_graph import gpu_graph
from offroad_seg_core.inference.engines.tensorrt import TensorRtEngine, fingerprint
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions

SIZE = (64, 96)


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


class Machine:
    """A simulated GPU with TensorRT on it, and the plans that were built there."""

    def __init__(self, monkeypatch, folder):
        self.simulation = Simulation()
        self.settings = EngineSettings('fp16', cache_folder=folder)
        self.built = []
        monkeypatch.setattr(tensorrt, '_import', lambda library, fix: self.simulation)
        monkeypatch.setattr(tensorrt, 'Cuda', lambda: Cuda(self.simulation.runtime))
        monkeypatch.setattr(tensorrt, 'build_in_child', self._build)

    def _build(self, job, output):
        self.built.append((job.precision, job.size))
        graph = gpu_graph(Bundle.load(job.bundle), job.precision, job.size)
        output.write_bytes(PLAN + graph.SerializeToString())

    def engine(self, bundle, **settings):
        return TensorRtEngine(bundle, replace(self.settings, **settings))


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def pictures(count, size=SIZE):
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), np.uint8)


def reference(bundle, images):
    return create_engine(bundle, 'onnxruntime', 'fp32', 1).run(images).logits.copy()


@pytest.mark.parametrize(('precision', 'tolerance'), [('fp16', 3e-3), ('fp32', 1e-5)])
def test_logits_are_those_of_the_cpu(machine, bundle, precision, tolerance):
    engine = machine.engine(bundle, precision=precision)
    assert str(engine.info) == f'tensorrt 10.3.0 {precision} on Simulated GPU'
    assert engine.info.num_classes == 10
    for count in (1, 3, 1):
        images = pictures(count)
        expected = reference(bundle, images)
        logits = engine.run(images).logits
        assert logits.dtype == np.float32
        assert np.abs(logits - expected).max() <= tolerance * np.abs(expected).max()


def test_labels_follow_the_head(machine, bundle):
    engine = machine.engine(bundle, precision='fp32')
    assert isinstance(engine, LabelEngine)
    images = pictures(1)
    logits = reference(bundle, images)
    decoder = Decoder(SIZE)
    for classes in (range(10), (2, 5)):
        output = engine.run_labels(images, HeadInputs.of_classes(10, classes))
        assert output.logits is None
        assert output.label_map.dtype == np.uint8
        expected = decoder.label_map(EngineOutput(logits), classes)
        assert (output.label_map[0] == expected).mean() > 0.9999
        scores = np.exp(logits[0, list(classes)] - logits[0, list(classes)].max(axis=0))
        np.testing.assert_allclose(output.confidence[0], 1 / scores.sum(axis=0), atol=1e-5)
    assert np.abs(engine.run(images).logits - logits).max() < 1e-4  # of the neutral head again


def test_the_segmenter_asks_for_labels_where_it_can(machine, bundle, monkeypatch):
    engine = machine.engine(bundle, precision='fp32')
    image = pictures(1)[0]
    cpu = Segmenter(bundle, create_engine(bundle, 'onnxruntime', 'fp32', 1))
    gpu = Segmenter(bundle, engine, head='labels')
    for options in (SegmenterOptions(), SegmenterOptions(absent_classes=('Sky', 'Rocks'))):
        cpu.options = gpu.options = options
        with monkeypatch.context() as patch:
            patch.setattr(engine, 'run', None)
            result = gpu.segment(image, 'rgb', want_confidence=True)
        expected = cpu.segment(image, 'rgb', want_confidence=True)
        assert (result.label_map == expected.label_map).mean() > 0.9999
        difference = result.confidence_u8.astype(int) - expected.confidence_u8
        assert np.abs(difference).max() <= 1
    cpu.options = gpu.options = SegmenterOptions(tta='flip')
    monkeypatch.setattr(engine, 'run_labels', None)
    result, expected = gpu.segment(image, 'rgb'), cpu.segment(image, 'rgb')
    assert (result.label_map == expected.label_map).mean() > 0.9999


def test_frames_are_launched_as_one_graph(machine, bundle):
    engine, runtime = machine.engine(bundle), machine.simulation.runtime
    head = HeadInputs.of_classes(10, range(10))
    for _ in range(3):
        engine.run(pictures(1))
        engine.run_labels(pictures(1), head)
    assert runtime.launches == 6
    assert len(runtime.streams) == 1
    assert len(runtime.graphs) == 2  # one for logits, one for labels
    results = [block for kind, block in runtime.blocks.values() if kind == 'host']
    assert len(results) == 6  # camera, bias, temperature, logits, labels, confidence


def test_what_cannot_be_captured_is_enqueued(machine, bundle, caplog):
    machine.simulation.runtime.capture_fails = True
    engine = machine.engine(bundle)
    images = pictures(1)
    expected = reference(bundle, images)
    for _ in range(2):
        assert np.abs(engine.run(images).logits - expected).max() < 0.01 * np.abs(expected).max()
    assert machine.simulation.runtime.launches == 0
    assert caplog.text.count('no CUDA graph') == 1


def test_threads_run_at_the_same_time_and_get_their_own_results(machine, bundle):
    engine = machine.engine(bundle, precision='fp32', num_streams=2)
    assert engine.info.num_streams == 2
    both_in = threading.Barrier(2, timeout=60)
    images = [pictures(1), pictures(2)[1:]]
    expected = [reference(bundle, image) for image in images]
    session_run = engine._runner(SIZE)._engine._session.run

    class Meeting:
        def run(self, *arguments):
            both_in.wait()
            return session_run(*arguments)

    engine._runner(SIZE)._engine._session = Meeting()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda image: engine.run(image).logits, images))
    for result, wanted in zip(results, expected, strict=True):
        assert np.abs(result - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert len(machine.simulation.runtime.streams) == 2


def test_everything_is_freed(machine, bundle):
    engine, runtime = machine.engine(bundle), machine.simulation.runtime
    engine.run(pictures(1))
    engine.run(pictures(1, (96, 64)))
    engine.close()
    assert (runtime.blocks, runtime.streams, runtime.graphs) == ({}, {}, {})
    with pytest.raises(EngineError, match='closed'):
        engine.run(pictures(1))


def test_nothing_is_built_twice(machine, bundle):
    machine.engine(bundle).close()
    engine = machine.engine(bundle)
    assert machine.built == [('fp16', SIZE)]
    engine.run(pictures(1, (96, 64)))
    engine.run(pictures(1, (96, 64)))
    machine.engine(bundle, precision='fp32')
    assert machine.built == [('fp16', SIZE), ('fp16', (96, 64)), ('fp32', SIZE)]


def test_another_input_size_of_the_bundle_is_another_engine(
    machine, tmp_path, make_palette_bundle
):
    for size in ([64, 96], [96, 96]):
        bundle = Bundle.load(make_palette_bundle(tmp_path / f'bundle{size[0]}', size=size))
        engine = machine.engine(bundle)
        assert engine.run(pictures(1, tuple(size))).logits.shape[2:] == (size[0] // 8, 12)
    assert [size for _, size in machine.built] == [(64, 96), (96, 96)]


def test_an_engine_that_tensorrt_refuses_is_built_again(machine, bundle, tmp_path, caplog):
    gpu = Cuda(machine.simulation.runtime).gpu()
    wanted = fingerprint(bundle, 'tensorrt', '10.3.0', 'fp16', SIZE, gpu)
    EngineCache(tmp_path).get_or_build(wanted, lambda path: path.write_bytes(b'of another GPU'))
    engine = machine.engine(bundle)
    assert 'refuses the engine of 14 bytes: built for another GPU or version' in caplog.text
    assert machine.built == [('fp16', SIZE)]
    assert engine.run(pictures(1)).logits is not None


def test_an_engine_that_is_refused_again_is_an_error(machine, bundle, monkeypatch):
    monkeypatch.setattr(
        tensorrt, 'build_in_child', lambda job, output: output.write_bytes(b'never good')
    )
    with pytest.raises(EngineError, match='refuses the engine'):
        machine.engine(bundle)
    assert machine.simulation.refused_plans == 2


@pytest.mark.parametrize('memory', [0, 9 * MIB])
def test_too_little_memory_says_how_much_is_needed(machine, bundle, memory):
    machine.simulation.runtime.memory = memory
    with pytest.raises(EngineError, match=r'needs \d+ MiB of GPU memory: got \d MiB free of \d'):
        machine.engine(bundle).run(pictures(1))


@pytest.mark.parametrize('is_integrated', [True, False])
def test_page_cache_is_free_where_processor_and_gpu_share_memory(
    machine, bundle, monkeypatch, tmp_path, is_integrated
):
    runtime, meminfo = machine.simulation.runtime, tmp_path / 'meminfo'
    runtime.is_integrated = is_integrated
    runtime.cached = runtime.memory  # of a camera log that was just written
    meminfo.write_text('MemTotal: 1048576 kB\nMemFree: 0 kB\nMemAvailable: 524288 kB\n')
    monkeypatch.setattr(cuda, '_MEMINFO', meminfo)
    if not is_integrated:
        with pytest.raises(EngineError, match='got 0 MiB free of 1024 MiB'):
            machine.engine(bundle)
        return
    engine = machine.engine(bundle)
    assert engine.run(pictures(1)).logits is not None
    meminfo.write_text('MemAvailable: 5120 kB\n')
    with pytest.raises(EngineError, match='needs 10 MiB of GPU memory: got 5 MiB free'):
        machine.engine(bundle).run(pictures(1))
    meminfo.unlink()
    with pytest.raises(EngineError, match='got 0 MiB free'):
        machine.engine(bundle)


def test_memory_that_ends_in_between_leaks_nothing(machine, bundle):
    engine, runtime = machine.engine(bundle), machine.simulation.runtime
    runtime.memory = 10 * MIB + 1
    allowed = iter(range(2))
    allocate = runtime._malloc
    runtime._malloc = lambda size: (
        allocate(size) if next(allowed, None) is not None
        else cuda_error('cudaErrorMemoryAllocation')
    )  # fmt: skip
    with pytest.raises(EngineError, match='cudaMalloc: got cudaErrorMemoryAllocation'):
        engine.run(pictures(1))
    assert (runtime.blocks, runtime.streams) == ({}, {})


def cuda_error(name):
    from cuda.bindings import runtime

    return getattr(runtime.cudaError_t, name)


def test_no_context_and_no_execution_are_told(machine, bundle):
    engine = machine.engine(bundle)
    machine.simulation.refuses_contexts = True
    with pytest.raises(EngineError, match='execution context, which needs 10 MiB'):
        engine.run(pictures(1))
    machine.simulation.refuses_contexts = False
    machine.simulation.execution_fails = True
    with pytest.raises(EngineError, match='could not run the engine'):
        engine.run(pictures(1))
    machine.simulation.execution_fails = False
    assert engine.run(pictures(1)).logits is not None


def test_falling_back_only_when_asked(machine, bundle, monkeypatch, caplog, tmp_path):
    machine.simulation.runtime.memory = 0
    with pytest.raises(EngineError, match='MiB of GPU memory'):
        create_engine(bundle, 'tensorrt', cache_folder=tmp_path)
    caplog.set_level(logging.INFO)
    engine = create_engine(bundle, 'tensorrt', cache_folder=tmp_path, fallback=True)
    assert engine.info.device == 'cpu'
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert 'engine tensorrt: the engine needs' in errors[0]
    assert 'auto takes its place (parameter fallback)' in errors[0]


def test_a_machine_without_a_gpu(machine, bundle):
    machine.simulation.runtime.num_gpus = 0
    with pytest.raises(EngineUnavailableError, match='cudaErrorNoDevice'):
        machine.engine(bundle)


def test_what_a_gpu_is(machine):
    gpu = Cuda(machine.simulation.runtime).gpu()
    assert (gpu.name, gpu.compute_capability, gpu.memory_mib) == ('Simulated GPU', '8.7', 1024)
    assert gpu.driver.endswith('(CUDA 12.6)')
