"""Engines for tests of the choice among them, which take as long as they are told."""

from dataclasses import replace
import time

import numpy as np

from offroad_seg_core.inference.engines import (
    EngineInfo,
    EngineOutput,
    EngineUnavailableError,
)


class FakeEngine:
    def __init__(self, name, duration_s, precision, device):
        self.info = EngineInfo(name, precision, device, '1', 10)
        self._duration_s = duration_s
        self.closed = False

    def run(self, images):
        time.sleep(self._duration_s)
        _, height, width, _ = images.shape
        return EngineOutput(np.zeros((1, 10, height // 8, width // 8), np.float32))

    def close(self):
        self.closed = True


class Factory:
    """Makes engines that take so long, and remembers them and what was asked for."""

    def __init__(self, name, duration_s=0.0, device='cpu'):
        self.made, self.asked = [], []
        self._name, self._duration_s, self._device = name, duration_s, device

    def __call__(self, bundle, settings):
        precision = 'fp32' if settings.precision == 'auto' else settings.precision
        duration_s = self._duration_s
        if callable(duration_s):
            duration_s = duration_s(settings)
        self.asked.append((settings.precision, settings.num_threads))
        self.made.append(FakeEngine(self._name, duration_s, precision, self._device))
        return self.made[-1]


class Streamed(Factory):
    """Callers that wait for each other, or as many at a time as it was asked for."""

    def __call__(self, bundle, settings):
        engine = super().__call__(bundle, settings)
        engine.info = replace(engine.info, num_streams=settings.num_streams)
        return engine


def refuse(bundle, settings):
    raise EngineUnavailableError('no such library; fix: install it')
