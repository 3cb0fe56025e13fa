"""What every engine promises, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
import time
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.head import HeadInputs


class EngineError(RuntimeError):
    """An engine cannot run this bundle, or failed while running it."""


class EngineUnavailableError(EngineError):
    """The engine's library or hardware is not on this machine."""


class EngineUnsupportedError(EngineError):
    """The engine can never run this bundle in this precision."""


class EngineStoppedError(EngineError):
    """Nobody waits for the engine any more: see stopping.py."""


Report = Callable[[float, str], None]
"""Told the share of a build that is done (0 to 1, never falling) and what is being done."""


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is to run; what it was asked for, not what it became (that is EngineInfo)."""

    precision: str = 'auto'
    """`auto` is the fastest precision whose accuracy needs no check on this machine."""
    num_threads: int = 0
    """CPU threads; 0 leaves the choice to the engine."""
    cache_folder: Path | None = None
    """Where built engines and measured choices are kept; None: the user's cache folder."""
    num_streams: int = 1
    """Threads that want to run it at the same time, each with its share of the cores."""
    for_throughput: bool = False
    """Whether frames per second count alone, and not how long a single one takes."""


@dataclass(frozen=True)
class EngineInfo:
    """What runs where; printed in logs and diagnostics."""

    name: str
    precision: str
    device: str
    """`cpu` or the GPU's name."""
    version: str
    num_classes: int
    """Channels of the logits; 0 where the model does not tell before it ran."""
    gives_labels: bool = False
    """Whether the engine is a LabelEngine for this bundle."""
    num_streams: int = 1
    """Threads that may run it at the same time."""

    def __str__(self) -> str:
        streams = f' in {self.num_streams} streams' if self.num_streams > 1 else ''
        return f'{self.name} {self.version} {self.precision} on {self.device}{streams}'


@dataclass(frozen=True)
class EngineOutput:
    """One batch's result; valid until the engine runs again in the same thread."""

    logits: NDArray[np.float32] | None = None
    """Unnormalised scores ``(N, C, h, w)`` float32, at the input's size over the output stride."""
    label_map: NDArray[np.uint8] | None = None
    """Instead, from a graph that ends in the argmax: class ids ``(N, h, w)`` uint8."""
    confidence: NDArray[np.float32] | None = None
    """Probability of the label ``(N, h, w)`` float32, where such a graph also gives it."""

    @classmethod
    def of(cls, kind: str, arrays: Sequence[NDArray]) -> EngineOutput:
        """Sort a graph's outputs by what the bundle says they are (OutputSpec.kind)."""
        if kind != 'labels':
            return cls(logits=arrays[0])
        confidence = arrays[1] if len(arrays) > 1 else None
        return cls(label_map=arrays[0].astype(np.uint8, copy=False), confidence=confidence)


@runtime_checkable
class Engine(Protocol):
    """Maps a batch of 8-bit images to logits or labels.

    Used from as many threads at a time as `info.num_streams` says.
    """

    info: EngineInfo

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """Run ``(N, H, W, 3)`` uint8 in the bundle's colour order; normalises itself.

        Height and width are multiples of the bundle's stride; every size is accepted.
        """

    def close(self) -> None:
        """Free the model; the engine cannot run afterwards."""


@runtime_checkable
class LabelEngine(Engine, Protocol):
    """An engine whose graph also holds the label head; its `info.gives_labels` is true."""

    def run_labels(self, images: NDArray[np.uint8], head: HeadInputs) -> EngineOutput:
        """Run as `run` does; return labels and confidence, see inference/label_head.py.

        Labels have the input's size, or what the bundle's `label_stride` makes of it.
        """


def warm_up(engine: Engine, size: tuple[int, int], runs: int = 3) -> float:
    """Run black images of a (height, width) and return the fastest run after the first, ms.

    A LabelEngine is run for labels: what frames will ask for, unless somebody wants logits.
    """
    images = np.zeros((1, *size, 3), np.uint8)
    times_ms = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        _run_once(engine, images)
        times_ms.append((time.perf_counter() - started) * 1e3)
    return min(times_ms[1:])


def frames_per_second(engine: Engine, size: tuple[int, int], runs: int = 5) -> float:
    """Run black images of a (height, width) in all streams at the same time; warmed up."""
    images = np.zeros((1, *size, 3), np.uint8)

    def work(count: int) -> None:
        for _ in range(count):
            _run_once(engine, images)

    num_streams = engine.info.num_streams
    with ThreadPoolExecutor(num_streams) as pool:
        list(pool.map(work, [1] * num_streams))  # threads may need buffers of their own
        started = time.perf_counter()
        list(pool.map(work, [runs] * num_streams))
        return num_streams * runs / (time.perf_counter() - started)


def _run_once(engine: Engine, images: NDArray[np.uint8]) -> None:
    num_classes = engine.info.num_classes
    if isinstance(engine, LabelEngine) and engine.info.gives_labels and num_classes:
        engine.run_labels(images, HeadInputs.of_classes(num_classes, range(num_classes)))
    else:
        engine.run(images)


def has_nvidia_gpu() -> bool:
    """Tell whether an NVIDIA GPU is in this machine (a Jetson's too), usable or not."""
    signs = ('/dev/nvidia0', '/dev/nvhost-ctrl-gpu', '/dev/nvgpu', '/proc/driver/nvidia/gpus')
    return any(Path(sign).exists() for sign in signs)
