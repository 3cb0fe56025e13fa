"""What `auto` leaves open: measured once on this machine, then remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
import logging
import os
import time
from typing import Any

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import (
    Engine,
    EngineError,
    EngineSettings,
    EngineUnavailableError,
    frames_per_second,
    has_nvidia_gpu,
    warm_up,
)
from offroad_seg_core.inference.engines.choices import Choice

log = logging.getLogger(__name__)

BUDGET_S = 4.0
"""No further candidate is tried after this; the one in work is finished, within five seconds."""
_CLEARLY_FASTER = 0.95
"""Of the time with the engine's own number of threads: less is noise."""
_CLEARLY_MORE = 1.1
"""Times the frames per second of one caller: a camera that is alone waits longer in a stream."""
_ROUNDS = 2
"""In turn, so that a busy moment hits both."""
_GPU_ENGINES = ('tensorrt', 'tensorrt_rtx', 'onnxruntime_cuda', 'torch')
CPU_ENGINES = ('openvino', 'onnxruntime')

_Factories = Mapping[str, Callable[[Bundle, EngineSettings], Engine]]


@dataclass(frozen=True)
class _Fastest:
    """What was found to be the fastest."""

    engine: str
    precision: str
    num_threads: int
    num_streams: int


def fastest(engines: _Factories, bundle: Bundle, settings: EngineSettings) -> Engine:
    """Return the engine that runs the bundle's input size fastest here, warmed up.

    At the first start the engines that this machine has are timed: those on a GPU first, then
    OpenVINO and ONNX Runtime, also in int8 where the bundle brings a file of checked accuracy, and
    the best of them with other numbers of threads. PyTorch takes part only where it has a GPU, or
    where nothing else runs. Where several threads want to run it (`settings.num_streams`) it gets
    a stream for each if that gives clearly more frames per second in total. The choice is kept
    until the bundle, the processor or a library changes.

    Raises:
        EngineUnavailableError: no engine runs on this machine.
    """
    facts = [sorted(engines), settings.precision, settings.num_threads, settings.num_streams]
    choice = Choice.of('engine', bundle, settings.cache_folder, facts)
    known = _fastest_of(choice.read())
    if known is not None and known.engine in engines:
        chosen = replace(
            settings,
            precision=known.precision,
            num_threads=known.num_threads,
            num_streams=known.num_streams,
        )
        try:
            engine = engines[known.engine](bundle, chosen)
            warm_up(engine, bundle.manifest.input.size, runs=1)
        except (EngineError, ValueError) as error:
            log.warning('engine %s worked before, and now: %s', known, error)
        else:
            log.info('engine %s, the fastest of an earlier start (%s)', engine.info, choice.file)
            return engine
    engine, found = _measure(engines, bundle, settings)
    choice.keep(asdict(found))
    return engine


def _fastest_of(answer: dict[str, Any] | None) -> _Fastest | None:
    try:
        return None if answer is None else _Fastest(**answer)
    except TypeError:
        return None


def _measure(
    engines: _Factories, bundle: Bundle, settings: EngineSettings
) -> tuple[Engine, _Fastest]:
    deadline = time.monotonic() + BUDGET_S
    refused: list[str] = []
    trials = _Trials(bundle)
    for name, precision in _candidates(engines, bundle, settings.precision):
        is_enough = time.monotonic() > deadline or (name == 'torch' and not has_nvidia_gpu())
        if trials.best is not None and is_enough:
            break
        try:
            alone = replace(settings, precision=precision, num_streams=1)
            trials.add(name, engines[name], alone)
        except EngineError as error:
            refused.append(f'{name}: {error}')
    if trials.best is None:
        raise EngineUnavailableError('no engine runs on this machine: ' + '; '.join(refused))
    if settings.num_threads == 0 and trials.best.engine.info.device == 'cpu':
        _try_threads(engines, trials, replace(settings, num_streams=1), deadline)
    if settings.num_streams > 1 and time.monotonic() < deadline:
        best = trials.best.choice
        trials.add_streams(engines[best.engine], replace(settings, precision=best.precision))
    log.info('chose %s as the fastest: %s', trials.best.engine.info.name, trials.told)
    for reason in refused:
        log.info('engine not used: %s', reason)
    return trials.best.engine, trials.best.choice


def _candidates(engines: _Factories, bundle: Bundle, precision: str) -> Iterator[tuple[str, str]]:
    on_gpu = has_nvidia_gpu()
    names = [*(_GPU_ENGINES if on_gpu else ()), *CPU_ENGINES, *(() if on_gpu else ('torch',))]
    for name in [name for name in names if name in engines]:
        yield name, precision
        if precision == 'auto' and name in CPU_ENGINES and has_checked_int8(bundle):
            yield name, 'int8'


def has_checked_int8(bundle: Bundle) -> bool:
    """Tell whether the bundle brings an int8 file whose accuracy was checked."""
    return any(model.precision == 'int8' and model.is_checked for model in bundle.manifest.models)


def _try_threads(
    engines: _Factories, trials: _Trials, settings: EngineSettings, deadline: float
) -> None:
    assert trials.best is not None
    cores = len(os.sched_getaffinity(0))
    name, precision = trials.best.choice.engine, trials.best.choice.precision
    for num_threads in {cores, max(1, cores // 2)}:
        if time.monotonic() < deadline:
            other = replace(settings, precision=precision, num_threads=num_threads)
            trials.add(name, engines[name], other, _CLEARLY_FASTER)


@dataclass(frozen=True)
class _Trial:
    engine: Engine
    choice: _Fastest
    duration_ms: float


class _Trials:
    """Times engines and keeps the fastest open."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._lines: list[str] = []
        self.best: _Trial | None = None

    @property
    def told(self) -> str:
        """All figures, as text."""
        return ', '.join(self._lines)

    def add(
        self,
        name: str,
        make: Callable[[Bundle, EngineSettings], Engine],
        settings: EngineSettings,
        must_take: float = 1.0,
    ) -> None:
        """Time an engine; it becomes the best if it takes less than this share of the best's."""
        engine = make(self._bundle, settings)
        duration_ms = warm_up(engine, self._bundle.manifest.input.size)
        threads = f' with {settings.num_threads} threads' if settings.num_threads else ''
        self._lines.append(f'{engine.info}{threads} {duration_ms:.1f} ms')
        if self.best is not None and duration_ms >= must_take * self.best.duration_ms:
            engine.close()
            return
        if self.best is not None:
            self.best.engine.close()
        choice = _Fastest(name, engine.info.precision, settings.num_threads, 1)
        self.best = _Trial(engine, choice, duration_ms)

    def add_streams(
        self, make: Callable[[Bundle, EngineSettings], Engine], settings: EngineSettings
    ) -> None:
        """Time the best engine in streams; they take its place if all of them together do more."""
        assert self.best is not None
        engine, size = make(self._bundle, settings), self._bundle.manifest.input.size
        per_s = alone_per_s = 0.0
        for _ in range(_ROUNDS if engine.info.num_streams > 1 else 0):  # not every engine can
            alone_per_s = max(alone_per_s, frames_per_second(self.best.engine, size))
            per_s = max(per_s, frames_per_second(engine, size))
        self._lines.append(f'{engine.info} {per_s:.1f} frames/s, alone {alone_per_s:.1f}')
        if per_s <= _CLEARLY_MORE * alone_per_s:
            engine.close()
            return
        self.best.engine.close()
        choice = replace(
            self.best.choice,
            num_threads=settings.num_threads,
            num_streams=engine.info.num_streams,
        )
        self.best = _Trial(engine, choice, 1e3 / per_s)
