"""The little of CUDA that engines need, through cuda-python: no PyTorch on the robot.

Every function of `cuda.bindings.runtime` returns a tuple of an error code and its results; `call`
turns the code into an exception.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from offroad_seg_core.inference.engines.base import EngineError, EngineUnavailableError

_MIB = 2**20
_MEMINFO = Path('/proc/meminfo')


@dataclass(frozen=True)
class Gpu:
    """The GPU that engines run on (the first one that CUDA_VISIBLE_DEVICES leaves)."""

    name: str
    compute_capability: str
    driver: str
    """The driver's release and the CUDA version it serves."""
    memory_mib: int


class Cuda:
    """The CUDA runtime of this machine."""

    def __init__(self, runtime: Any = None) -> None:
        """Find a GPU.

        Args:
            runtime: the module `cuda.bindings.runtime`; None imports it.

        Raises:
            EngineUnavailableError: cuda-python, the driver or the GPU is missing.
        """
        if runtime is None:
            try:
                from cuda.bindings import runtime as installed
            except (ImportError, OSError) as error:
                raise EngineUnavailableError(
                    f'cuda-python does not import ({error}); fix: make vehicle GPU=1, or pip '
                    'install "cuda-bindings>=12.6"'
                ) from error
            runtime = installed
        self.runtime = runtime
        try:
            count = self.call('cudaGetDeviceCount')
        except EngineError as error:
            raise EngineUnavailableError(
                f'{error}; fix: install the NVIDIA driver (in Docker: --gpus all or '
                '--runtime nvidia)'
            ) from error
        if not count:
            raise EngineUnavailableError('got no NVIDIA GPU, expected one')

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime; return its results without the error code.

        Raises:
            EngineError: CUDA reports an error; the message holds its name and text.
        """
        code, *results = getattr(self.runtime, name)(*arguments)
        if code != self.runtime.cudaError_t.cudaSuccess:
            _, text = self.runtime.cudaGetErrorString(code)
            raise EngineError(f'{name}: got {code.name} ({text.decode()})')
        return results[0] if len(results) == 1 else tuple(results)

    def gpu(self) -> Gpu:
        """Describe the GPU."""
        properties = self.call('cudaGetDeviceProperties', 0)
        version = self.call('cudaDriverGetVersion')
        name = properties.name
        return Gpu(
            name.decode() if isinstance(name, bytes) else name,
            f'{properties.major}.{properties.minor}',
            f'{_driver_release()} (CUDA {version // 1000}.{version % 1000 // 10})',
            properties.totalGlobalMem // _MIB,
        )

    def require_memory(self, needed: int, what: str) -> None:
        """Raise EngineError unless so many bytes of GPU memory are free.

        On a Jetson, whose processor and GPU share their memory, CUDA calls the page cache used,
        which the kernel gives up for whoever asks: what it can give up counts as free there.
        """
        free, total = self.call('cudaMemGetInfo')
        attribute = self.runtime.cudaDeviceAttr.cudaDevAttrIntegrated
        if self.call('cudaDeviceGetAttribute', attribute, 0):
            free = max(free, _available_memory())
        if free < needed:
            raise EngineError(
                f'{what} needs {needed / _MIB:.0f} MiB of GPU memory: got {free / _MIB:.0f} MiB '
                f'free of {total / _MIB:.0f} MiB; fix: end other programs that use the GPU, '
                'choose precision fp16, or a bundle with a smaller input'
            )


class Buffer:
    """The same array twice: in page-locked host memory, and on the GPU."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._cuda = cuda
        self.num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.device = self._host = 0
        try:
            self.device = cuda.call('cudaMalloc', self.num_bytes)
            self._host = cuda.call('cudaMallocHost', self.num_bytes)
        except EngineError:
            self.free()
            raise
        flat = (ctypes.c_uint8 * self.num_bytes).from_address(self._host)
        self.host: NDArray[Any] = np.ctypeslib.as_array(flat).view(dtype).reshape(shape)

    def upload(self, stream: Any) -> None:
        """Copy host → GPU, in the stream's order."""
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        arguments = self.device, self._host, self.num_bytes, kind, stream
        self._cuda.call('cudaMemcpyAsync', *arguments)

    def download(self, stream: Any) -> None:
        """Copy GPU → host, in the stream's order."""
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        arguments = self._host, self.device, self.num_bytes, kind, stream
        self._cuda.call('cudaMemcpyAsync', *arguments)

    def free(self) -> None:
        """Free both; `host` must not be used afterwards. May be repeated."""
        device, host, self.device, self._host = self.device, self._host, 0, 0
        if device:
            self._cuda.call('cudaFree', device)
        if host:
            self._cuda.call('cudaFreeHost', host)


def _available_memory() -> int:
    """Return the bytes that the kernel can give without swapping; 0 if it does not say."""
    try:
        lines = _MEMINFO.read_text(encoding='ascii').splitlines()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith('MemAvailable:')]
    return int(sizes[0]) * 1024 if sizes else 0


def _driver_release() -> str:
    for file in ('/proc/driver/nvidia/version', '/etc/nv_tegra_release'):
        try:
            return Path(file).read_text(encoding='utf-8').splitlines()[0].strip()
        except (OSError, IndexError):
            continue
    return 'unknown'
