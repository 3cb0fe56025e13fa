"""The TensorRT engine and its runner, on a simulated GPU."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import sys
import threading

import numpy as np
import pytest

pytest.importorskip('onnxruntime')
pytest.importorskip('tensorrt_rtx', reason='tensorrt-rtx is not installed')
pytest.importorskip('cuda.bindings', reason='cuda-bindings is not installed')

sys.path.insert(0, str(Path(__file__).parent))
from simulated_machine import SIZE, pictures, reference

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import (
    EngineError,
    EngineOutput,
    LabelEngine,
    create_engine,
)
from offroad_seg_core.inference.engines.cuda import Cuda
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


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


def test_what_a_gpu_is(machine):
    gpu = Cuda(machine.simulation.runtime).gpu()
    assert (gpu.name, gpu.compute_capability, gpu.memory_mib) == ('Simulated GPU', '8.7', 1024)
    assert gpu.driver.endswith('(CUDA 12.6)')
