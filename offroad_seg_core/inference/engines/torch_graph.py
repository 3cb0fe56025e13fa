"""A PyTorch function as one CUDA graph, between page-locked host memory on both sides.

A small network is a few hundred kernels of some microseconds each: launched one by one from Python
the GPU waits for the processor most of the time. A captured graph launches all of them at once
(https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor, nn
from torch.nn import functional

from offroad_seg_core.inference.engines.base import EngineError

log = logging.getLogger(__name__)

_WARM_UPS = 3
_CAST = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)

Function = Callable[..., Sequence[Tensor]]


class GraphedFunction:
    """Runs a function of tensors on arrays of fixed shapes; used from one thread at a time."""

    def __init__(
        self, function: Function, examples: Sequence[NDArray[Any]], device: torch.device
    ) -> None:
        """Make the buffers, warm up and capture.

        Args:
            function: Maps tensors on the device to tensors there; always does the same work for
                the same shapes.
            examples: Arrays of the shapes and types that `run` will be given.
            device: Without CUDA the function is called as it is.

        Raises:
            EngineError: The GPU's memory does not suffice, or the function fails.
        """
        self._function = function
        self._is_cuda = device.type == 'cuda'
        self._graph: Any = None
        self._stream = torch.cuda.Stream(device) if self._is_cuda else None
        try:
            arrays = [torch.from_numpy(np.array(array)) for array in examples]
            self._uploads = [array.pin_memory() if self._is_cuda else array for array in arrays]
            self._inputs = [tensor.to(device) for tensor in self._uploads]
            with torch.inference_mode():
                self._outputs = self._capture() if self._is_cuda else function(*self._inputs)
            self._downloads = [
                torch.empty_like(tensor, device='cpu', pin_memory=self._is_cuda)
                for tensor in self._outputs
            ]
        except RuntimeError as error:  # torch.cuda.OutOfMemoryError is one
            raise EngineError(f'PyTorch failed on {_shapes(examples)}: {error}') from error

    def run(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs; they are valid until the next run.

        Raises:
            EngineError: A shape is not the example's, or CUDA fails.
        """
        for upload, array in zip(self._uploads, arrays, strict=True):
            if upload.shape != array.shape:
                raise EngineError(f'got an array {array.shape}, expected {tuple(upload.shape)}')
            np.copyto(upload.numpy(), array)
        try:
            with torch.inference_mode(), torch.cuda.stream(self._stream):
                self._run()
            if self._stream is not None:
                self._stream.synchronize()
        except RuntimeError as error:
            raise EngineError(f'PyTorch failed on {_shapes(arrays)}: {error}') from error
        return [download.numpy() for download in self._downloads]

    def _run(self) -> None:
        for tensor, upload in zip(self._inputs, self._uploads, strict=True):
            tensor.copy_(upload, non_blocking=True)
        if self._graph is None:
            self._outputs = self._function(*self._inputs)
        else:
            self._graph.replay()
        for download, tensor in zip(self._downloads, self._outputs, strict=True):
            download.copy_(tensor, non_blocking=True)

    def _capture(self) -> Sequence[Tensor]:
        """Capture the function; return its outputs, which every replay writes anew."""
        assert self._stream is not None
        self._stream.wait_stream(torch.cuda.current_stream())  # the inputs' first upload
        # cuDNN tries its algorithms now and keeps the fastest; TF32 would round what is asked for
        # as fp32.
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False),
            torch.cuda.stream(self._stream),
        ):
            for _ in range(_WARM_UPS):
                outputs = self._function(*self._inputs)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may allocate meanwhile.
                with torch.cuda.graph(
                    graph, stream=self._stream, capture_error_mode='thread_local'
                ):
                    outputs = self._function(*self._inputs)
            except RuntimeError as error:
                log.warning('no CUDA graph, kernels are launched one by one: %s', error)
                return outputs
        self._graph = graph
        return outputs


class ImageFunctions:
    """From 8-bit images on the device to logits, or to labels and confidence."""

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype,
        label_factor: int,
    ) -> None:
        """Place the weights in the arithmetic they are used in.

        Args:
            model: On its device, in evaluation mode; changed. Normalised ``(N, 3, H, W)`` to
                logits.
            mean: Of the pixels, per channel.
            std: Of the pixels, per channel.
            dtype: float32, or what autocast computes in.
            label_factor: The logits' stride over the labels'.
        """
        device = next(model.parameters()).device
        self._dtype = dtype
        if dtype != torch.float32:
            for module in model.modules():
                # Cast once here, instead of by autocast in every frame.
                if isinstance(module, _CAST):
                    module.to(dtype)
        self._model = model
        self._mean = torch.tensor(mean, device=device).reshape(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).reshape(1, 3, 1, 1)
        self._label_factor = label_factor
        self._device_type = device.type

    def logits(self, images: Tensor) -> tuple[Tensor]:
        """Return logits ``(N, C, h, w)`` float32 of uint8 ``(N, H, W, 3)``."""
        batch = (images.permute(0, 3, 1, 2).float() - self._mean) / self._std
        is_cast = self._dtype != torch.float32
        # Autocast's cache of weights does not outlive a capture.
        with torch.autocast(self._device_type, self._dtype, is_cast, cache_enabled=False):
            return (self._model(batch).float().contiguous(),)

    def labels(
        self, images: Tensor, logit_bias: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return uint8 labels and float32 confidence; see inference/label_head.py."""
        (logits,) = self.logits(images)
        scores = logits / temperature + logit_bias.reshape(1, -1, 1, 1)
        confidence = torch.softmax(scores, 1).amax(1)
        if self._label_factor > 1:
            scores = functional.interpolate(
                scores, scale_factor=self._label_factor, mode='bilinear', align_corners=False
            )
        return scores.argmax(1).to(torch.uint8), confidence


def _shapes(arrays: Sequence[NDArray[Any]]) -> str:
    return ', '.join(str(array.shape) for array in arrays)
