"""torch2trt: its state dicts, and what is said where the versions cannot work."""

import io
import sys
from types import ModuleType, SimpleNamespace

import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.inference.bundle import Bundle  # noqa: E402
from offroad_seg_core.inference.engines import (  # noqa: E402
    EngineError,
    EngineSettings,
    EngineUnavailableError,
    create_engine,
    torch2trt,
)
from offroad_seg_core.inference.engines.cuda import Gpu  # noqa: E402
from offroad_seg_core.inference.engines.torch2trt import build_state_dict, load_module  # noqa: E402


def module(monkeypatch, name, **content):
    made = ModuleType(name)
    made.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, made)
    return made


class TrtModule(torch.nn.Module):
    """The state dict of torch2trt's TRTModule, as its source writes and reads it."""

    def __init__(self, engine=None, logits=None):
        super().__init__()
        self._register_state_dict_hook(TrtModule._write)
        self.engine, self.logits = engine, logits

    def _write(self, state, prefix, metadata):
        state['engine'] = bytearray(self.engine)
        state['input_names'], state['output_names'] = ['input_0'], ['output_0']
        state['input_flattener'] = {'schema': [0], 'size': 1}

    def _load_from_state_dict(self, state, prefix, *_):
        self.engine = None if state['engine'].startswith(b'foreign') else state['engine']
        self.engine.startswith(b'')  # as create_execution_context of None


def saved(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.fixture
def library(monkeypatch):
    module(monkeypatch, 'tensorrt', __version__='10.3.0')
    module(monkeypatch, 'onnx_graphsurgeon')
    return module(monkeypatch, 'torch2trt', TRTModule=TrtModule)


def test_state_dicts_of_its_users_load(library):
    state = saved(TrtModule(b'plan').state_dict())
    assert load_module(library, state).engine == bytearray(b'plan')


@pytest.mark.parametrize(
    ('state', 'reason'),
    [
        (b'no pickle', 'got no state dict of a TRTModule'),
        (saved({'weight': torch.zeros(1)}), r"got a state dict of \['weight'\].*with the key eng"),
        (saved([1, 2]), 'got a state dict of list'),
        (saved(TrtModule(b'plan').state_dict())[:-40], 'got no state dict'),
        (saved(TrtModule(b'foreign').state_dict()), 'built for another GPU or version'),
    ],
    ids=['bytes', 'other', 'list', 'cut', 'foreign'],
)
def test_what_is_no_state_dict_is_told(library, state, reason):
    with pytest.raises(EngineError, match=reason):
        load_module(library, state)


def test_tensorrt_11_is_refused_before_the_import_fails(monkeypatch):
    module(monkeypatch, 'tensorrt', __version__='11.4.0')
    with pytest.raises(EngineUnavailableError, match=r'TensorRT 11.4.0, expected 10.*engine t'):
        torch2trt._import()


def test_without_tensorrt(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(EngineUnavailableError, match=r'needs TensorRT 10.*pip install "tensorrt<'):
        torch2trt._import()


def test_without_torch2trt(monkeypatch):
    module(monkeypatch, 'tensorrt', __version__='10.3.0')
    monkeypatch.setitem(sys.modules, 'torch2trt', None)
    with pytest.raises(EngineUnavailableError, match=r'choose engine tensorrt, or pip install'):
        torch2trt._import()


def test_what_it_is_asked_to_build(library, monkeypatch, tmp_path, request):
    bundle = Bundle.load(request.config.rootpath / 'models' / 'demo_desert')
    asked = {}

    def convert(model, inputs, **options):
        asked.update(options, shape=tuple(inputs[0].shape), logits=model(inputs[0]).shape)
        return TrtModule(b'plan')

    library.torch2trt = convert
    monkeypatch.setattr(torch.nn.Module, 'cuda', lambda self: self)
    monkeypatch.setattr(torch.Tensor, 'cuda', lambda self: self)
    build_state_dict(bundle, 'fp16', (64, 96), tmp_path / 'state')
    assert asked == {
        'fp16_mode': True, 'use_onnx': True, 'shape': (1, 3, 64, 96), 'logits': (1, 10, 8, 12),
    }  # fmt: skip
    assert load_module(library, (tmp_path / 'state').read_bytes()).engine == bytearray(b'plan')
    library.torch2trt = lambda *_, **__: TrtModule(None)
    with pytest.raises(EngineError, match='could not build'):
        build_state_dict(bundle, 'fp16', (64, 96), tmp_path / 'state')


def test_an_engine_that_tensorrt_refuses_is_built_again_once(
    library, monkeypatch, palette_bundle, tmp_path, caplog
):
    engines = [b'foreign', b'plan', b'foreign', b'foreign']
    built = []

    def build(job, output):
        built.append(engines[len(built)])
        output.write_bytes(saved(TrtModule(built[-1]).state_dict()))

    gpu = Gpu('Simulated GPU', '8.7', 'R36 (CUDA 12.6)', 1024)
    monkeypatch.setattr(torch2trt, 'Cuda', lambda: SimpleNamespace(gpu=lambda: gpu))
    monkeypatch.setattr(torch2trt, 'build_in_child', build)
    monkeypatch.setattr(torch.Tensor, 'cuda', lambda self: self)
    bundle = Bundle.load(palette_bundle)
    for _ in range(2):  # the second finds what the first built
        torch2trt.Torch2TrtEngine(bundle, EngineSettings('fp16', cache_folder=tmp_path))
        assert built == [b'foreign', b'plan']
    assert 'refuses the engine in the state dict' in caplog.text
    with pytest.raises(EngineError, match='refuses the engine in the state dict'):
        torch2trt.Torch2TrtEngine(bundle, EngineSettings('fp32', cache_folder=tmp_path))
    assert built == engines


def test_it_needs_a_gpu(library, palette_bundle, tmp_path):
    pytest.importorskip('cuda.bindings')
    if torch.cuda.is_available():
        pytest.skip('this machine has a GPU')
    with pytest.raises(EngineUnavailableError, match='cudaGetDeviceCount'):
        create_engine(Bundle.load(palette_bundle), 'torch2trt', cache_folder=tmp_path)
