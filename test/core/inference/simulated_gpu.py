"""A GPU for tests without one: CUDA's runtime on host memory, and plans that ONNX Runtime runs.

Names, argument counts and enumerations are checked against the real cuda-python and the real
TensorRT-RTX bindings. Work in a stream is done at once, or recorded while it is being captured.
"""

import ctypes
import re
from types import SimpleNamespace

from cuda.bindings import runtime
import numpy as np
import onnxruntime
import tensorrt_rtx

SUCCESS = runtime.cudaError_t.cudaSuccess
MIB = 2**20
PLAN = b'plan of an ONNX file: '


class SimulatedRuntime:
    """Stands for the module cuda.bindings.runtime."""

    def __init__(self, memory=1024 * MIB, num_gpus=1):
        self.memory = memory
        self.num_gpus = num_gpus
        self.is_integrated = False
        self.cached = 0  # bytes of the kernel's page cache in memory that processor and GPU share
        self.blocks = {}
        self.streams = {}
        self.graphs = {}
        self.launches = 0
        self.capture_fails = False
        self._last = 0

    def __getattr__(self, name):
        original = getattr(runtime, name)
        if not name.startswith('cuda') or not callable(original) or isinstance(original, type):
            return original
        method = getattr(self, re.sub('([A-Z])', r'_\1', name[4:]).lower())
        signature = original.__doc__.splitlines()[0]
        expected = len([part for part in signature.split('(')[1].rstrip(')').split(',') if part])

        def call(*arguments):
            assert len(arguments) == expected, f'{signature} was called with {arguments}'
            results = method(*arguments)
            if isinstance(results, runtime.cudaError_t):
                return (results, None)
            return (SUCCESS, *(results if isinstance(results, tuple) else (results,)))

        return call

    @property
    def used(self):
        return sum(len(block) for kind, block in self.blocks.values() if kind == 'device')

    def do(self, stream, work):
        """Do a stream's work now, or record it."""
        captured = self.streams[int(stream)]
        if captured is None:
            work()
        else:
            captured.append(work)

    def _handle(self):
        self._last += 1
        return self._last

    def _get_device_count(self):
        return self.num_gpus if self.num_gpus else runtime.cudaError_t.cudaErrorNoDevice

    def _get_error_string(self, code):
        return runtime.cudaGetErrorString(code)[1]

    def _get_device_properties(self, device):
        return SimpleNamespace(name=b'Simulated GPU', major=8, minor=7, totalGlobalMem=self.memory)

    def _driver_get_version(self):
        return 12060

    def _device_get_attribute(self, attribute, device):
        assert attribute == runtime.cudaDeviceAttr.cudaDevAttrIntegrated
        return int(self.is_integrated)

    def _mem_get_info(self):
        return self.memory - self.used - self.cached, self.memory

    def _allocate(self, kind, size):
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = (kind, block)
        return ctypes.addressof(block)

    def _malloc(self, size):
        if self.used + size > self.memory:
            return runtime.cudaError_t.cudaErrorMemoryAllocation
        return self._allocate('device', size)

    def _malloc_host(self, size):
        return self._allocate('host', size)

    def _free(self, address):
        assert self.blocks.pop(address)[0] == 'device'
        return ()

    def _free_host(self, address):
        assert self.blocks.pop(address)[0] == 'host'
        return ()

    def _memcpy_async(self, target, source, size, kind, stream):
        kinds = tuple(self.blocks[address][0] for address in (source, target))
        to_device = kind == runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        assert kinds == (('host', 'device') if to_device else ('device', 'host'))
        self.do(stream, lambda: ctypes.memmove(target, source, size))
        return ()

    def _stream_create_with_flags(self, flags):
        assert flags == runtime.cudaStreamNonBlocking
        stream = self._handle()
        self.streams[stream] = None
        return runtime.cudaStream_t(stream)

    def _stream_destroy(self, stream):
        del self.streams[int(stream)]
        return ()

    def _stream_synchronize(self, stream):
        assert self.streams[int(stream)] is None, 'a stream cannot be waited for while captured'
        return ()

    def _stream_begin_capture(self, stream, mode):
        self.streams[int(stream)] = []
        return ()

    def _stream_end_capture(self, stream):
        work, self.streams[int(stream)] = self.streams[int(stream)], None
        if self.capture_fails:
            return runtime.cudaError_t.cudaErrorStreamCaptureInvalidated
        graph = self._handle()
        self.graphs[graph] = work
        return graph

    def _graph_instantiate(self, graph, flags):
        executable = self._handle()
        self.graphs[executable] = self.graphs[graph]
        return executable

    def _graph_destroy(self, graph):
        del self.graphs[graph]
        return ()

    _graph_exec_destroy = _graph_destroy

    def _graph_launch(self, executable, stream):
        self.launches += 1
        for work in self.graphs[executable]:
            work()
        return ()


class _Checked:
    """Offers nothing that the real class does not have."""

    real = None

    def __init_subclass__(cls):
        for name in vars(cls):
            assert name.startswith('_') or name == 'real' or hasattr(cls.real, name), name


class SimulatedEngine(_Checked):
    """Stands for ICudaEngine."""

    real = tensorrt_rtx.ICudaEngine

    def __init__(self, simulation, model):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._simulation = simulation
        self._session = onnxruntime.InferenceSession(
            model, options, providers=['CPUExecutionProvider']
        )
        self._inputs = list(self._session.get_inputs())
        self._tensors = [*self._inputs, *self._session.get_outputs()]
        self._by_name = {tensor.name: tensor for tensor in self._tensors}
        self.num_io_tensors = len(self._tensors)
        self.device_memory_size_v2 = 10 * MIB

    def get_tensor_name(self, index):
        return self._tensors[index].name

    def get_tensor_shape(self, name):
        return self._by_name[name].shape

    def get_tensor_dtype(self, name):
        kinds = {'tensor(uint8)': 'UINT8', 'tensor(float)': 'FLOAT'}
        return getattr(tensorrt_rtx.DataType, kinds[self._by_name[name].type])

    def create_execution_context(self):
        return None if self._simulation.refuses_contexts else SimulatedContext(self)


class SimulatedContext(_Checked):
    """Stands for IExecutionContext."""

    real = tensorrt_rtx.IExecutionContext

    def __init__(self, engine):
        self._engine = engine
        self._arrays = {}

    def set_tensor_address(self, name, address):
        kind, block = self._engine._simulation.runtime.blocks[address]
        assert kind == 'device'
        dtype = tensorrt_rtx.nptype(self._engine.get_tensor_dtype(name))
        shape = self._engine.get_tensor_shape(name)
        self._arrays[name] = np.frombuffer(block, dtype).reshape(shape)
        return True

    def execute_async_v3(self, stream_handle):
        assert isinstance(stream_handle, int)
        engine = self._engine
        assert set(self._arrays) == set(engine._by_name)
        if engine._simulation.execution_fails:
            return False

        def work():
            inputs = {tensor.name: self._arrays[tensor.name] for tensor in engine._inputs}
            names = [name for name in self._arrays if name not in inputs]
            for name, result in zip(names, engine._session.run(names, inputs), strict=True):
                self._arrays[name][...] = result

        engine._simulation.runtime.do(stream_handle, work)
        return True


class Simulation:
    """Stands for the modules tensorrt and cuda.bindings.runtime of one machine."""

    __version__ = '10.3.0'

    def __init__(self, **runtime_options):
        self.runtime = SimulatedRuntime(**runtime_options)
        self.refuses_contexts = False
        self.execution_fails = False
        self.refused_plans = 0
        self.Logger = tensorrt_rtx.Logger
        self.nptype = tensorrt_rtx.nptype

    def Runtime(self, logger):  # noqa: N802
        simulation = self

        class SimulatedTrtRuntime(_Checked):
            real = tensorrt_rtx.Runtime

            def deserialize_cuda_engine(self, plan):
                if not plan.startswith(PLAN):
                    simulation.refused_plans += 1
                    return None
                return SimulatedEngine(simulation, plan[len(PLAN) :])

        return SimulatedTrtRuntime()
