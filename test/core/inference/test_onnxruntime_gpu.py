"""ONNX Runtime's GPU providers: what they are asked for, and that none falls back unnoticed."""

from pathlib import Path
import sys

import numpy as np
import pytest

onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')

from offroad_seg_core.inference.bundle import Bundle  # noqa: E402
from offroad_seg_core.inference.engines import (  # noqa: E402
    EngineError,
    EngineSettings,
    EngineUnavailableError,
    LabelEngine,
    create_engine,
    onnxruntime_gpu,
)
from offroad_seg_core.inference.engines.cuda import Gpu  # noqa: E402
from offroad_seg_core.inference.engines.onnxruntime import open_session  # noqa: E402
from offroad_seg_core.inference.engines.onnxruntime_gpu import (  # noqa: E402
    OnnxRuntimeCudaEngine,
    OnnxRuntimeTensorRtEngine,
)
from offroad_seg_core.inference.head import HeadInputs  # noqa: E402

SIZE = (64, 96)
ENGINES = {kind.name: kind for kind in (OnnxRuntimeCudaEngine, OnnxRuntimeTensorRtEngine)}


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


@pytest.fixture
def providers(monkeypatch):
    """Pretend to have the GPU and its providers, and keep what was asked of them."""
    asked = []

    class FakeCuda:
        def gpu(self):
            return Gpu('Some GPU', '8.7', 'R36', 1024)

    def open_on_cpu(graph, options, wanted):
        asked.append(wanted)
        return onnxruntime.InferenceSession(graph, options, providers=['CPUExecutionProvider'])

    have = ['TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: have)
    monkeypatch.setattr(onnxruntime_gpu, 'Cuda', FakeCuda)
    monkeypatch.setattr(onnxruntime_gpu, 'open_session', open_on_cpu)
    return asked


@pytest.mark.parametrize('name', ENGINES)
def test_it_computes_what_the_cpu_does(bundle, providers, tmp_path, name):
    engine = ENGINES[name](bundle, EngineSettings('fp32', cache_folder=tmp_path))
    assert isinstance(engine, LabelEngine)
    assert str(engine.info) == f'{name} {onnxruntime.__version__} fp32 on Some GPU'
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    expected = create_engine(bundle, 'onnxruntime', 'fp32', 1).run(images).logits
    assert np.abs(engine.run(images).logits - expected).max() < 1e-4 * np.abs(expected).max()
    output = engine.run_labels(images, HeadInputs.of_classes(10, (3,)))
    assert (output.label_map == 3).all()
    engine.run(images[:, :, :64])
    assert len(providers) == 2  # a session for each input size
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine.run(images)


def test_tensorrt_engines_are_cached_apart(bundle, providers, tmp_path):
    for precision in ('fp16', 'fp32', 'fp16'):
        OnnxRuntimeTensorRtEngine(bundle, EngineSettings(precision, cache_folder=tmp_path))
    (half, options), fallback = providers[0]
    assert half == 'TensorrtExecutionProvider'
    assert fallback == 'CUDAExecutionProvider'
    assert options['trt_engine_cache_enable'] == options['trt_timing_cache_enable'] == '1'
    assert (options['trt_fp16_enable'], options['trt_int8_enable']) == ('1', '0')
    folders = [wanted[0][1]['trt_engine_cache_path'] for wanted in providers]
    assert folders[0] == folders[2] != folders[1]
    assert tmp_path in Path(folders[0]).parents


def test_a_cache_that_cannot_be_written_is_told(bundle, providers, tmp_path):
    (tmp_path / 'engines').touch()
    with pytest.raises(EngineError, match='expected a folder that can be written'):
        OnnxRuntimeTensorRtEngine(bundle, EngineSettings('fp16', cache_folder=tmp_path))


@pytest.mark.parametrize('name', ENGINES)
def test_a_build_without_the_provider_says_what_to_install(bundle, name, tmp_path):
    if ENGINES[name].provider in onnxruntime.get_available_providers():
        pytest.skip('this onnxruntime has it')
    with pytest.raises(EngineUnavailableError, match='pip install onnxruntime-gpu'):
        create_engine(bundle, name, cache_folder=tmp_path)


def test_a_provider_that_does_not_load_is_no_silent_cpu(bundle, recwarn):
    file = str(bundle.model_file('fp32'))
    with pytest.raises(EngineUnavailableError, match=r'expected\s+CUDAExecutionProvider.*fix: in'):
        open_session(
            file, onnxruntime.SessionOptions(), ['CUDAExecutionProvider', 'CPUExecutionProvider']
        )


def test_without_onnxruntime(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(EngineUnavailableError, match='pip install onnxruntime'):
        create_engine(bundle, 'onnxruntime')
