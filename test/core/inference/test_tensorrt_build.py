"""Every shipped graph parses and builds, strongly typed, with a real TensorRT builder.

TensorRT-RTX's needs no GPU; its parser and API are those of TensorRT.
"""

from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import yaml

onnx = pytest.importorskip('onnx')
trt = pytest.importorskip('tensorrt_rtx', reason='tensorrt-rtx is not installed')

from offroad_seg_core.inference.bundle import Bundle, write_bundle  # noqa: E402
from offroad_seg_core.inference.engines import stopping  # noqa: E402
from offroad_seg_core.inference.engines.base import (  # noqa: E402
    EngineError,
    EngineStoppedError,
    EngineUnavailableError,
    EngineUnsupportedError,
)
from offroad_seg_core.inference.engines.build_progress import BuildProgress  # noqa: E402
from offroad_seg_core.inference.engines.gpu_graph import gpu_graph  # noqa: E402
from offroad_seg_core.inference.engines.plan_builder import PlanJob, build_in_child  # noqa: E402
from offroad_seg_core.inference.engines.stopping import builds_stopped  # noqa: E402
from offroad_seg_core.inference.engines.tensorrt_build import (  # noqa: E402
    _network_flags,
    build_plan,
)

ROOT = Path(__file__).parents[3]
MODELS = ROOT / 'models'
SHIPPED = [
    (manifest.parent, precision)
    for manifest in sorted(MODELS.glob('*/manifest.yaml'))
    for precision in dict.fromkeys(
        ['fp32', 'fp16']
        + [model['precision'] for model in yaml.safe_load(manifest.read_text())['models']]
    )
]
DEADLINE_S = 90.0
# TensorRT-RTX takes a timing cache and does nothing with it.
pytestmark = pytest.mark.filterwarnings('ignore:Use Deprecated in TensorRT-RTX')


def io_of(graph):
    """Names and types of what TensorRT takes the graph's inputs and outputs for."""
    network = trt.Builder(trt.Logger()).create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, trt.Logger())
    assert parser.parse(graph)
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    return {tensor.name: (tensor.dtype, tuple(tensor.shape)) for tensor in tensors}


def test_models_are_shipped():
    assert {folder.name for folder, _ in SHIPPED} >= {'demo_desert'}


@pytest.mark.parametrize(
    ('folder', 'precision'), SHIPPED, ids=[f'{folder.name}-{p}' for folder, p in SHIPPED]
)
def test_every_shipped_model_builds(folder, precision):
    bundle = Bundle.load(folder)
    graph = gpu_graph(bundle, precision, bundle.manifest.input.size).SerializeToString()
    tensors = io_of(graph)
    height, width = bundle.manifest.input.size
    assert tensors['camera'] == (trt.uint8, (1, height, width, 3))
    assert tensors['label_map'][0] == trt.uint8
    shares = []
    plan, timing = build_plan(trt, graph, report=lambda share, phase: shares.append(share))
    assert len(plan) > 1e6
    assert timing
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_shipped_int8_graph_computes_in_int8():
    graph = gpu_graph(Bundle.load(MODELS / 'demo_desert'), 'int8', (64, 96))
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count('QuantizeLinear') > 50


def test_an_operator_that_is_not_known_is_named(palette_bundle):
    graph = gpu_graph(Bundle.load(palette_bundle), 'fp32', (64, 96))
    graph.graph.node[4].op_type, graph.graph.node[4].domain = 'Frobnicate', 'elsewhere'
    name = graph.graph.node[4].name
    with pytest.raises(
        EngineUnsupportedError, match=rf"{name}' \(Frobnicate\).*fix: export without"
    ):
        build_plan(trt, graph.SerializeToString())


def test_a_timing_cache_of_something_else_does_no_harm(palette_bundle):
    graph = gpu_graph(Bundle.load(palette_bundle), 'fp32', (64, 96)).SerializeToString()
    _, timing = build_plan(trt, graph)
    build_plan(trt, graph, timing)
    build_plan(trt, graph, b'something else')


class Flags10(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class FlagsLater(IntEnum):
    PREFER_JIT_PYTHON_PLUGINS = 2


@pytest.mark.parametrize(('flags', 'expected'), [(Flags10, 2), (FlagsLater, 0)])
def test_strong_typing_is_asked_for_where_one_can(flags, expected):
    assert _network_flags(SimpleNamespace(NetworkDefinitionCreationFlag=flags)) == expected


def test_what_tensorrt_11_removed_is_not_used():
    source = (ROOT / 'offroad_seg_core/inference/engines/tensorrt_build.py').read_text()
    for removed in ('FP16', 'INT8', 'EXPLICIT_BATCH', 'calibrator', 'platform_has', 'precision ='):
        assert removed not in source.replace('calibrators, which', '')


def test_progress_by_hand():
    told = []
    progress = BuildProgress(lambda share, phase: told.append((round(share, 4), phase)))
    progress.start('all', None, 2)
    progress.step('all', 0)
    progress.start('part', 'all', 4)
    progress.step('part', 0)
    progress.step('part', 2)
    progress.start('inner', 'part', 2)
    progress.step('inner', 0)
    progress.finish('inner')
    progress.finish('part')
    progress.step('all', 1)
    progress.finish('all')
    progress.step('unknown', 3)
    assert told == [
        (0.0, 'all'),
        (0.5, 'all'),
        (0.5, 'part'),
        (0.625, 'part'),
        (0.875, 'part'),
        (0.875, 'inner'),
        (0.9375, 'inner'),
        (1.0, 'inner'),
        (1.0, 'part'),
        (1.0, 'all'),
        (1.0, 'all'),
    ]


@pytest.fixture
def job(palette_bundle, tmp_path):
    timing = tmp_path / 'timing'
    return PlanJob('tensorrt_rtx', str(palette_bundle), 'fp16', (64, 96), str(timing))


def test_the_child_builds_and_keeps_the_timing(job, tmp_path):
    output = tmp_path / 'plan'
    build_in_child(job, output)
    assert len(output.read_bytes()) > 1000
    assert Path(job.timing_file).stat().st_size > 0


def test_the_child_tells_why_it_cannot(job, tmp_path):
    missing = PlanJob('no_tensorrt', job.bundle, 'fp16', (64, 96), job.timing_file)
    with pytest.raises(EngineUnavailableError, match='no_tensorrt does not import'):
        build_in_child(missing, tmp_path / 'plan')
    with pytest.raises(EngineError, match='no such folder'):
        build_in_child(
            PlanJob('tensorrt_rtx', '/nowhere', 'fp16', (64, 96), ''), tmp_path / 'plan'
        )


def test_the_child_tells_that_it_never_can(palette_bundle, tmp_path):
    bundle, file = Bundle.load(palette_bundle), tmp_path / 'model.onnx'
    model = onnx.load(bundle.model_file('fp32'))
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[1].name = 'depth'
    onnx.save(model, file)
    manifest = bundle.manifest.model_dump(mode='json', exclude={'files', 'format_version'})
    other = write_bundle(tmp_path / 'other', manifest, {'model.onnx': file})
    job = PlanJob('tensorrt_rtx', str(other.path), 'fp16', (64, 96), '')
    with pytest.raises(EngineUnsupportedError, match=r"'depth'\], expected the images alone"):
        build_in_child(job, tmp_path / 'plan')


PARENT = """
import sys
from pathlib import Path
from offroad_seg_core.inference.engines.engine_cache import EngineCache
from offroad_seg_core.inference.engines.plan_builder import PlanJob, build_in_child
sys.path.insert(0, sys.argv[1])
from test_engine_cache import FINGERPRINT

job = PlanJob('tensorrt_rtx', sys.argv[2], 'fp16', (384, 672), sys.argv[3] + '/timing')
EngineCache(Path(sys.argv[3])).get_or_build(FINGERPRINT, lambda path: build_in_child(job, path))
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL], ids=['int', 'kill'])
def test_the_child_ends_with_its_parent(tmp_path, number):
    arguments = [str(Path(__file__).parent), str(MODELS / 'demo_desert'), str(tmp_path)]
    parent = subprocess.Popen(
        [sys.executable, '-c', PARENT, *arguments], stderr=subprocess.PIPE, text=True
    )
    children = wait_for(lambda: psutil.Process(parent.pid).children(), 'the child')
    parent.send_signal(number)
    parent.communicate(timeout=DEADLINE_S)
    assert parent.returncode == -number
    wait_for(lambda: not any(map(is_alive, children)), 'the end of the child')
    folder = tmp_path / 'engines' / 'tensorrt-10.3.0'
    assert not list(folder.glob('*.json'))
    if number == signal.SIGINT:
        # Some versions of filelock remove theirs.
        assert {path.suffix for path in folder.iterdir()} <= {'.lock'}


def test_a_child_that_dies_is_told(job, tmp_path, monkeypatch):
    class Dying(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(subprocess, 'Popen', Dying)
    with pytest.raises(EngineError, match=r'was killed, as the kernel does.*fix: end other'):
        build_in_child(job, tmp_path / 'plan')


def test_a_build_can_be_stopped_from_another_thread(job, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        build = pool.submit(build_in_child, job, tmp_path / 'plan')
        wait_for(lambda: stopping._builds, 'the child')
        with builds_stopped(), pytest.raises(EngineStoppedError, match='stopped before'):
            build.result(DEADLINE_S)
    assert not stopping._builds


def test_no_build_begins_while_they_are_stopped(job, tmp_path):
    with builds_stopped(), pytest.raises(EngineStoppedError):
        build_in_child(job, tmp_path / 'plan')
    assert not stopping._builds


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, what):
    end = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < end, f'timed out waiting for {what}'
        time.sleep(0.01)
    return result
