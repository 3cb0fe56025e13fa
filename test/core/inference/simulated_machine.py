"""A machine for tests of the TensorRT engine: a simulated GPU, and the plans built there."""

from dataclasses import replace

import numpy as np
from simulated_gpu import PLAN, Simulation

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import EngineSettings, create_engine, tensorrt
from offroad_seg_core.inference.engines.cuda import Cuda
from offroad_seg_core.inference.engines.gpu_graph import gpu_graph
from offroad_seg_core.inference.engines.tensorrt import TensorRtEngine

SIZE = (64, 96)


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


def pictures(count, size=SIZE):
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), np.uint8)


def reference(bundle, images):
    return create_engine(bundle, 'onnxruntime', 'fp32', 1).run(images).logits.copy()
