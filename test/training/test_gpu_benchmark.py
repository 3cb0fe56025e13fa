"""What of the GPU's benchmark runs without one: its end, its ways and its ratios."""

from argparse import Namespace
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('torch')

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import ENGINES, EngineSettings
from offroad_seg_core.inference.engines.base import has_nvidia_gpu

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)


@pytest.fixture(scope='module')
def gpu():
    sys.path.insert(0, str(ROOT / 'benchmarks'))
    try:
        import gpu

        yield gpu
    finally:
        sys.path.remove(str(ROOT / 'benchmarks'))


@pytest.mark.skipif(has_nvidia_gpu(), reason='it would be measured')
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    json = tmp_path / 'gpu.json'
    done = subprocess.run(
        [sys.executable, 'benchmarks/gpu.py', '--quick', '--json', json],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == 'got no NVIDIA GPU, expected one: nothing was measured\n'
    assert not json.exists()


def test_eager_and_engine_label_alike_and_every_way_is_timed(gpu, monkeypatch):
    monkeypatch.setattr(gpu, 'interleaved_ms', lambda ways, *_: {n: w() for n, w in ways.items()})
    bundle = gpu.at_size(Bundle.load(ROOT / 'models' / 'demo_desert'), SIZE)
    assert bundle.manifest.input.size == SIZE
    engine = ENGINES['torch'](bundle, EngineSettings('fp32'))
    rows = gpu.network(bundle, {'torch fp32': engine}, Namespace(quick=True), 'cpu')
    assert [(row['way'], row['size'], row['batch']) for row in rows] == [
        ('network', '64x96', 1), ('network', '64x96', 2)
    ]  # fmt: skip
    stride = bundle.manifest.outputs.label_stride
    for row in rows:
        labels = row['eager fp32_ms']
        assert labels.shape == (row['batch'], SIZE[0] // stride, SIZE[1] // stride)
        assert (labels == row['torch fp32_ms']).mean() > 0.999
        assert np.mean(labels == row['eager fp16_ms']) > 0.95


def test_ratios_compare_the_graph_with_eager(gpu):
    times = {'eager fp32_ms': 12.0, 'eager fp16_ms': 8.0, 'torch fp16_ms': 2.0}
    rows = [
        {'way': 'network', 'size': '512x896', 'batch': 2, **times},
        {'way': 'end to end', 'size': '512x896', 'batch': 1, 'torch fp16_ms': 3.0},
    ]
    assert gpu.ratios_of(rows) == {
        'graph_vs_eager_fp32_512x896_batch_2': 6.0,
        'graph_vs_eager_fp16_512x896_batch_2': 4.0,
    }
    assert gpu.ratios_of([{'way': 'network', 'size': '512x896', 'batch': 1}]) == {}
