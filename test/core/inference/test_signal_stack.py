"""Engines leave no signal stack behind that they have freed."""

import subprocess
import sys

import pytest

CODE = """
import gc, signal, sys
import numpy as np
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import ENGINES, EngineSettings

bundle = Bundle.load(sys.argv[1])
images = np.zeros((1, *bundle.manifest.input.size, 3), np.uint8)
engines = [ENGINES['openvino'](bundle, EngineSettings('fp32', 1)) for _ in range(2)]
for engine in engines:
    engine.run(images)
for engine in engines:
    engine.close()
del engine, engines
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print('handled'))
signal.raise_signal(signal.SIGUSR1)
"""


def test_signals_are_handled_after_engines_were_closed(palette_bundle):
    pytest.importorskip('openvino')
    command = [sys.executable, '-c', CODE, str(palette_bundle)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stdout) == (0, 'handled\n'), result.stderr
