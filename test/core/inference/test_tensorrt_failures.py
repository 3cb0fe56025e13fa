"""The TensorRT engine where something is missing or fails, on a simulated GPU."""

from concurrent.futures import ThreadPoolExecutor, wait
import logging
from pathlib import Path
import sys

import numpy as np
import pytest

pytest.importorskip('onnxruntime')
pytest.importorskip('tensorrt_rtx', reason='tensorrt-rtx is not installed')
pytest.importorskip('cuda.bindings', reason='cuda-bindings is not installed')

sys.path.insert(0, str(Path(__file__).parent))
from simulated_gpu import MIB
from simulated_machine import SIZE, pictures

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import (
    EngineError,
    EngineUnavailableError,
    create_engine,
    cuda,
    tensorrt,
)
from offroad_seg_core.inference.engines.cuda import Cuda
from offroad_seg_core.inference.engines.engine_cache import EngineCache
from offroad_seg_core.inference.engines.tensorrt import fingerprint


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


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


def test_where_no_other_stream_fits_threads_take_turns(machine, bundle, caplog):
    engine = machine.engine(bundle, num_streams=2)
    images = pictures(1)
    expected = engine.run(images).logits.copy()
    machine.simulation.refuses_contexts = True
    runner = engine._runner(SIZE)
    lane = runner._take()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.run, images)
        _, not_done = wait([waiting], timeout=0.5)
        runner._idle.put(lane)
        assert not_done
        np.testing.assert_array_equal(waiting.result(timeout=60).logits, expected)
    assert '1 threads share the GPU at a time: TensorRT cannot make an execution' in caplog.text


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
