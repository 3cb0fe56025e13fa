"""On a machine with a GPU: every engine that is there says what ONNX Runtime says."""

from pathlib import Path

import numpy as np
import pytest

from offroad_seg_core.evaluation.engine_check import check_engines, check_frames
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import EngineUnavailableError, create_engine
from offroad_seg_core.inference.engines.base import has_nvidia_gpu

GPU_ENGINES = (
    'torch',
    'tensorrt',
    'tensorrt_rtx',
    'torch2trt',
    'onnxruntime_cuda',
    'onnxruntime_tensorrt',
)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),  # engines are built
    pytest.mark.skipif(not has_nvidia_gpu(), reason='no NVIDIA GPU'),
]


@pytest.fixture(scope='module')
def bundle():
    return Bundle.load(Path(__file__).parents[3] / 'models' / 'demo_desert')


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('engines')


@pytest.mark.parametrize('name', GPU_ENGINES)
def test_it_agrees_with_the_reference(bundle, cache, name):
    results = check_engines(bundle, check_frames(bundle).images, [name], 20, cache)
    ran = [result for result in results if result.status != 'unavailable']
    if not ran:
        pytest.skip(results[0].reason)
    assert [(result.precision, result.reason) for result in ran if result.reason] == []


@pytest.mark.parametrize('name', ['tensorrt', 'tensorrt_rtx'])
def test_a_second_start_builds_nothing(bundle, cache, name, caplog):
    images = np.zeros((1, *bundle.manifest.input.size, 3), np.uint8)
    try:
        first = create_engine(bundle, name, cache_folder=cache)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    expected = first.run(images).logits
    first.close()
    caplog.clear()
    second = create_engine(bundle, name, cache_folder=cache)
    assert 'building engine' not in caplog.text
    np.testing.assert_array_equal(second.run(images).logits, expected)
