"""NVIDIA-AI-IOT's torch2trt, for those who have built their vehicle around it.

It builds from PyTorch (through ONNX: `use_onnx=True`; its own converters know neither grid_sample
nor today's Python) and runs as a PyTorch module. Its builder flags and calibrators are gone from
TensorRT 11, where it does not even import. The engine `tensorrt` needs none of this and is faster.
"""

from __future__ import annotations

from importlib import import_module
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import (
    EngineError,
    EngineInfo,
    EngineOutput,
    EngineSettings,
    EngineUnavailableError,
)
from offroad_seg_core.inference.engines.cuda import Cuda
from offroad_seg_core.inference.engines.engine_cache import EngineCache
from offroad_seg_core.inference.engines.plan_builder import PlanJob, build_in_child
from offroad_seg_core.inference.engines.tensorrt import fingerprint
from offroad_seg_core.inference.engines.tensorrt_runner import PlanError
from offroad_seg_core.inference.engines.torch import build_model

log = logging.getLogger(__name__)


class Torch2TrtEngine:
    """Runs a TRTModule; its state dict is built once for each input size and cached."""

    precisions = ('fp16', 'fp32')

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        self._library, version = _import()
        import torch

        self._torch = torch
        self._bundle = bundle
        self._gpu = Cuda().gpu()
        self._cache = EngineCache(settings.cache_folder)
        self.info = EngineInfo(
            'torch2trt', settings.precision, self._gpu.name, version, bundle.taxonomy.num_classes
        )
        self._modules: dict[tuple[int, int], Any] = {}
        self._module(bundle.manifest.input.size)
        spec = bundle.manifest.input
        self._mean = torch.tensor(spec.mean).cuda().reshape(1, 3, 1, 1)
        self._std = torch.tensor(spec.std).cuda().reshape(1, 3, 1, 1)
        self._is_closed = False

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See Engine.run. A new input size is built once (minutes)."""
        if self._is_closed:
            raise EngineError('the engine was closed')
        torch, module = self._torch, self._module(images.shape[1:3])
        with torch.inference_mode():
            batch = torch.from_numpy(images).cuda().permute(0, 3, 1, 2).float()
            batch = (batch - self._mean) / self._std
            logits = [module(image.contiguous()) for image in batch.split(1)]
            return EngineOutput(torch.cat(logits).float().cpu().numpy())

    def close(self) -> None:
        """See Engine.close."""
        self._modules.clear()
        self._is_closed = True

    def _module(self, size: tuple[int, int]) -> Any:
        if size not in self._modules:
            self._modules[size] = self._load(size)
        return self._modules[size]

    def _load(self, size: tuple[int, int]) -> Any:
        wanted = fingerprint(
            self._bundle, 'torch2trt', self.info.version, self.info.precision, size, self._gpu
        )
        path = str(self._bundle.path)
        job = PlanJob('torch2trt', path, self.info.precision, size, timing_file='')

        def build(output: Path) -> None:
            build_in_child(job, output)

        state = self._cache.get_or_build(wanted, build)
        try:
            return load_module(self._library, state)
        except PlanError as error:
            log.warning('%s', error)
        self._cache.discard(wanted)
        return load_module(self._library, self._cache.get_or_build(wanted, build))


def load_module(library: Any, state: bytes) -> Any:
    """Return the TRTModule of a state dict that torch2trt's users save.

    Args:
        library: the module `torch2trt`.
        state: what ``torch.save(module_trt.state_dict(), …)`` wrote.

    Raises:
        PlanError: TensorRT refuses the engine in it.
        EngineError: it is no such state dict.
    """
    import torch

    try:
        content = torch.load(io.BytesIO(state), weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError …
        raise EngineError(f'got no state dict of a TRTModule ({error})') from error
    if not isinstance(content, dict) or 'engine' not in content:
        keys = list(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise EngineError(
            f'got a state dict of {keys}, expected one of a TRTModule, with the key engine; fix: '
            'torch.save(model_trt.state_dict(), file)'
        )
    module = library.TRTModule()
    try:
        module.load_state_dict(content)
    except AttributeError as error:  # the deserialised engine is None, which it does not look at
        raise PlanError(
            'TensorRT refuses the engine in the state dict: built for another GPU or version'
        ) from error
    return module


def build_state_dict(bundle: Bundle, precision: str, size: tuple[int, int], output: Path) -> None:
    """Convert the bundle's model and save the TRTModule's state dict.

    Raises:
        EngineUnavailableError: torch2trt does not work here.
        EngineError: the bundle names no architecture, or TensorRT cannot build.
    """
    library, version = _import()
    import torch

    model = build_model(bundle).eval().cuda()
    module = library.torch2trt(
        model, [torch.zeros(1, 3, *size).cuda()], fp16_mode=precision == 'fp16',
        use_onnx=True,
    )  # fmt: skip
    if module.engine is None:  # it does not look at what the parser and the builder say
        raise EngineError(f'torch2trt with TensorRT {version} could not build the engine')
    torch.save(module.state_dict(), output)


def _import() -> tuple[Any, str]:
    """Return the module and the version of its TensorRT; EngineUnavailableError says why not."""
    try:
        version = import_module('tensorrt').__version__
    except (ImportError, OSError, AttributeError) as error:
        raise EngineUnavailableError(
            f'torch2trt needs TensorRT 10, which does not import ({error}); fix: on a Jetson it '
            'comes with JetPack, elsewhere: pip install "tensorrt<11"'
        ) from error
    if int(version.split('.')[0]) >= 11:
        raise EngineUnavailableError(
            f'got TensorRT {version}, expected 10 for torch2trt: it refers to calibrators and '
            'flags that TensorRT 11 removed; fix: choose engine tensorrt'
        )
    try:
        library = import_module('torch2trt')
        import_module('onnx_graphsurgeon')  # of use_onnx
    except (ImportError, OSError, AttributeError) as error:
        raise EngineUnavailableError(
            f'torch2trt does not import ({error}); fix: choose engine tensorrt, or pip install '
            'onnx-graphsurgeon git+https://github.com/NVIDIA-AI-IOT/torch2trt'
        ) from error
    return library, version
