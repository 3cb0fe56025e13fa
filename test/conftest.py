"""Fixtures that every suite uses: a tiny bundle whose answers are known exactly."""

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import signal
import tempfile
from typing import Any

import numpy as np
import pytest

from offroad_seg_core.inference.bundle import write_bundle
from offroad_seg_core.taxonomy import load_taxonomy

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts tests in the background has them ignore Ctrl-C, and their children too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session', autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep built engines and measured choices of tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture
def ordinary_folder() -> Iterator[Path]:
    """An empty folder of a user whom permissions bind, which the test is then: root is another."""
    is_root, nobody = os.geteuid() == 0, 65534
    with tempfile.TemporaryDirectory() as name:  # no other user may look into pytest's
        if is_root:
            os.chown(name, nobody, nobody)
            os.setresuid(nobody, nobody, 0)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.setresuid(0, 0, 0)


@pytest.fixture(scope='session')
def data_folder() -> Path:
    """The optional folder with real camera frames; tests skip where it is absent."""
    folder = Path(
        os.environ.get('OFFROAD_SEG_DATA', Path(__file__).parents[2] / 'shared' / 'data')
    )
    if not folder.is_dir():
        pytest.skip(f'no camera frames at {folder}; set OFFROAD_SEG_DATA to their folder')
    return folder


def _palette_model(file: Path, taxonomy: Any, mean: float, std: float, stride: int) -> None:
    """Write an ONNX model that gives each stride x stride block its nearest taxonomy colour.

    -|x - p|^2 grows with 2 x.p - |p|^2, which is a 1x1 convolution of the block's mean colour x.
    """
    onnx = pytest.importorskip('onnx')
    from onnx import TensorProto, helper, numpy_helper

    colors = (taxonomy.palette_rgb[: taxonomy.num_classes].astype(np.float32) - mean) / std
    sharpness = 20.0
    weight = (sharpness * 2 * colors)[:, :, None, None].astype(np.float32)
    bias = (-sharpness * (colors**2).sum(axis=1)).astype(np.float32)
    nodes = [
        helper.make_node(
            'AveragePool', ['images'], ['blocks'], kernel_shape=[stride] * 2, strides=[stride] * 2
        ),
        helper.make_node('Conv', ['blocks', 'weight', 'bias'], ['logits']),
    ]
    graph = helper.make_graph(
        nodes,
        'palette',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, ['n', 3, 'h', 'w'])],
        [
            helper.make_tensor_value_info(
                'logits', TensorProto.FLOAT, ['n', taxonomy.num_classes, 'oh', 'ow']
            )
        ],
        [numpy_helper.from_array(weight, 'weight'), numpy_helper.from_array(bias, 'bias')],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, file)


@pytest.fixture(scope='session')
def make_palette_bundle() -> Callable[..., Path]:
    """Return a function that writes a palette bundle; keywords go into the manifest's input."""

    def make(path: Path, taxonomy_name: str = 'falcon10', stride: int = 8, **spec: Any) -> Path:
        taxonomy = load_taxonomy(taxonomy_name)
        model = path.parent / f'{path.name}.onnx'
        model.parent.mkdir(parents=True, exist_ok=True)
        _palette_model(model, taxonomy, 127.5, 127.5, stride)
        manifest = {
            'name': 'palette',
            'taxonomy': taxonomy.to_dict(),
            'input': {
                'size': [64, 96],
                'mean': [127.5] * 3,
                'std': [127.5] * 3,
                'stride': 32,
                **spec,
            },
            'models': [{'precision': 'fp32', 'file': 'model.onnx'}],
            'outputs': {'stride': stride, 'num_classes': taxonomy.num_classes},
        }
        write_bundle(path, manifest, {'model.onnx': model})
        return path

    return make


@pytest.fixture(scope='session')
def palette_bundle(
    tmp_path_factory: pytest.TempPathFactory, make_palette_bundle: Callable[..., Path]
) -> Path:
    """A bundle of network size (64, 96) that segments taxonomy colours exactly."""
    return make_palette_bundle(tmp_path_factory.mktemp('bundle') / 'palette')
