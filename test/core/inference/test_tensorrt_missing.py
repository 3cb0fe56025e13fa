"""TensorRT on machines that lack its library or a driver."""

import sys

import pytest

pytest.importorskip('cuda.bindings', reason='cuda-bindings is not installed')

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import EngineUnavailableError, create_engine


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


@pytest.mark.parametrize(
    ('library', 'content', 'reason'),
    [
        ('tensorrt', None, r'tensorrt does not import.*JetPack'),
        ('tensorrt', 'raise OSError("libnvinfer.so.10")', r'libnvinfer.so.10\); fix: on a Jetson'),
        ('tensorrt', '', r'no attribute .__version__.'),
        ('tensorrt', "__version__ = '8.5.2.2'", r'got TensorRT 8.5.2.2, expected 10.3 or newer'),
        ('tensorrt_rtx', 'raise ImportError("no")', 'fix: pip install tensorrt-rtx'),
    ],
)
def test_libraries_that_do_not_fit(bundle, monkeypatch, tmp_path, library, content, reason):
    monkeypatch.delitem(sys.modules, library, raising=False)
    if content is None:
        monkeypatch.setitem(sys.modules, library, None)
    else:
        (tmp_path / f'{library}.py').write_text(content)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineUnavailableError, match=reason):
        create_engine(bundle, library, cache_folder=tmp_path)
    sys.modules.pop(library, None)


def test_without_a_driver(bundle, tmp_path):
    """On a machine like CI's: the libraries are there, the driver is not."""
    pytest.importorskip('tensorrt_rtx', reason='tensorrt-rtx is not installed')
    from cuda.bindings import runtime

    code, _ = runtime.cudaGetDeviceCount()
    if code == runtime.cudaError_t.cudaSuccess:
        pytest.skip('this machine has a GPU')
    with pytest.raises(EngineUnavailableError, match=r'cudaGetDeviceCount: got cudaError.*driver'):
        create_engine(bundle, 'tensorrt_rtx', cache_folder=tmp_path)
