"""Runs a TensorRT plan: page-locked memory, one CUDA graph a frame, one lane for each caller."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
import logging
import queue
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.engines.base import EngineError
from offroad_seg_core.inference.engines.cuda import Buffer, Cuda

log = logging.getLogger(__name__)


class PlanError(EngineError):
    """TensorRT refuses a plan: of another GPU or version, or damaged."""


class PlanRunner:
    """One plan on the GPU, its weights there once.

    Threads may run it at the same time: each call has a stream and buffers to itself, so that one
    camera's copies overlap with another's computation.
    """

    def __init__(self, trt: Any, cuda: Cuda, plan: bytes) -> None:
        """Load the plan.

        Raises:
            PlanError: TensorRT refuses it.
            EngineError: it does not fit into the GPU's memory; says how much it needs.
        """
        self._trt = trt
        self._cuda = cuda
        cuda.require_memory(len(plan), 'the engine')
        # It must outlive the engine.
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise PlanError(
                f'TensorRT {trt.__version__} refuses the engine of {len(plan)} bytes: built for '
                'another GPU or version, or damaged'
            )
        self._idle: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        self._num_lanes, self._making = 0, threading.Lock()

    def run(self, inputs: dict[str, NDArray[Any]], outputs: tuple[str, ...]) -> list[NDArray[Any]]:
        """Run one image.

        Args:
            inputs: an array for each of the plan's inputs.
            outputs: names of the outputs to copy back, in this order; the others stay on the GPU.

        Raises:
            EngineError: CUDA or TensorRT fails.
        """
        lane = self._take()
        try:
            return lane.run(inputs, outputs)
        finally:
            self._idle.put(lane)

    def _take(self) -> _Lane:
        """Return a lane: an idle one, a new one, or, where no other fits, the next to be idle."""
        with suppress(queue.Empty):
            return self._idle.get_nowait()
        with self._making:
            try:
                lane = _Lane(self._trt, self._cuda, self._engine)
            except EngineError as error:
                if not self._num_lanes:
                    raise
                log.warning('%d threads share the GPU at a time: %s', self._num_lanes, error)
            else:
                self._num_lanes += 1
                return lane
        return self._idle.get()

    def close(self) -> None:
        """Free everything on the GPU; no thread may be running."""
        while not self._idle.empty():
            self._idle.get_nowait().free()
        self._engine = self._runtime = None


class _Lane:
    """An execution context with its stream, its buffers and its captured graphs."""

    def __init__(self, trt: Any, cuda: Cuda, engine: Any) -> None:
        self._cuda = cuda
        self._graphs: dict[tuple[str, ...], Any] = {}
        self._buffers: dict[str, Buffer] = {}
        self._stream: Any = None
        cuda.require_memory(engine.device_memory_size_v2, 'running the engine')
        self._context = engine.create_execution_context()
        if self._context is None:
            needed = engine.device_memory_size_v2 / 2**20
            raise EngineError(
                f'TensorRT cannot make an execution context, which needs {needed:.0f} MiB of GPU '
                'memory; fix: end other programs that use the GPU'
            )
        try:
            # The default stream cannot be captured.
            flags = cuda.runtime.cudaStreamNonBlocking
            self._stream = cuda.call('cudaStreamCreateWithFlags', flags)
            for index in range(engine.num_io_tensors):
                name = engine.get_tensor_name(index)
                dtype = trt.nptype(engine.get_tensor_dtype(name))
                buffer = Buffer(cuda, tuple(engine.get_tensor_shape(name)), dtype)
                self._buffers[name] = buffer
                self._context.set_tensor_address(name, int(buffer.device))
        except EngineError:
            self.free()
            raise

    def run(self, inputs: dict[str, NDArray[Any]], outputs: tuple[str, ...]) -> list[NDArray[Any]]:
        """See PlanRunner.run."""
        for name, array in inputs.items():
            np.copyto(self._buffers[name].host, array)
        if outputs not in self._graphs:
            self._enqueue(inputs, outputs)  # TensorRT sets up what a capture must not contain
            self._cuda.call('cudaStreamSynchronize', self._stream)
            self._graphs[outputs] = self._capture(inputs, outputs)
        graph = self._graphs[outputs]
        if graph is None:
            self._enqueue(inputs, outputs)
        else:
            self._cuda.call('cudaGraphLaunch', graph, self._stream)
        self._cuda.call('cudaStreamSynchronize', self._stream)
        return [self._buffers[name].host.copy() for name in outputs]

    def _enqueue(self, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        for name in inputs:
            self._buffers[name].upload(self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError('TensorRT could not run the engine; its message stands above')
        for name in outputs:
            self._buffers[name].download(self._stream)

    def _capture(self, inputs: Iterable[str], outputs: Iterable[str]) -> Any:
        """Return the executable graph of one frame, or None where it cannot be captured."""
        cuda = self._cuda
        # Other threads may allocate meanwhile.
        mode = cuda.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        cuda.call('cudaStreamBeginCapture', self._stream, mode)
        try:
            try:
                self._enqueue(inputs, outputs)
            finally:
                graph = cuda.call('cudaStreamEndCapture', self._stream)
        except EngineError as error:
            log.warning('no CUDA graph, frames are enqueued one by one: %s', error)
            return None
        try:
            return cuda.call('cudaGraphInstantiate', graph, 0)
        finally:
            cuda.call('cudaGraphDestroy', graph)

    def free(self) -> None:
        """Free graphs, buffers and stream; the context with the lane itself."""
        for graph in self._graphs.values():
            if graph is not None:
                self._cuda.call('cudaGraphExecDestroy', graph)
        self._graphs.clear()
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()
        if self._stream is not None:
            self._cuda.call('cudaStreamDestroy', self._stream)
        self._stream = self._context = None
