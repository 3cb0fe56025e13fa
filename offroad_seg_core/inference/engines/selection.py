"""What `auto` leaves open: measured once on this machine, then remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
import logging
import os
import time
from typing import Any

from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.engines.base import (
    Engine,
    EngineError,
    EngineSettings,
    EngineStoppedError,
    EngineUnavailableError,
    EngineUnsupportedError,
    frames_per_second,
    has_nvidia_gpu,
)
from offroad_seg_core.inference.engines.choices import Choice
from offroad_seg_core.inference.engines.opening import (
    EngineFactory,
    as_engine_errors,
    open_engine,
)
from offroad_seg_core.inference.engines.stopping import check_not_stopped

log = logging.getLogger(__name__)

BUDGET_S = 4.0
"""No further candidate is tried after this; the one in work is finished, within five seconds."""
_CLEARLY_FASTER = 0.95
"""Of the time with the engine's own number of threads: less is noise."""
_CLEARLY_MORE = 1.1
"""Times the frames per second of one caller: a camera that is alone waits longer in a stream."""
_ROUNDS = 2
"""In turn, so that a busy moment hits both."""
_ROUND_S = 1.0
_ROUND_RUNS = 5
"""Runs of a round; fewer of an engine that takes longer than a round is to last."""
_GPU_ENGINES = ('tensorrt', 'tensorrt_rtx', 'onnxruntime_cuda', 'torch')
CPU_ENGINES = ('openvino', 'onnxruntime')

_Factories = Mapping[str, EngineFactory]


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
    where nothing else runs. Where several threads want to run it (`settings.num_streams`) one on
    the CPU gets a stream for each if that gives enough more frames per second in total. The
    choice is kept until the bundle, the processor or a library changes; not if an engine failed
    for a reason that may pass. A kept choice that does not work today stays for tomorrow.

    Raises:
        EngineUnavailableError: no engine runs on this machine.
        EngineStoppedError: see builds_stopped.
        BundleError: the bundle lacks what an engine needs.
    """
    choice = _choice(engines, bundle, settings)
    known = _fastest_of(choice.read())
    if known is not None and known.engine in engines:
        chosen = replace(
            settings,
            precision=known.precision,
            num_threads=known.num_threads,
            num_streams=known.num_streams,
        )
        try:
            engine, _ = open_engine(engines[known.engine], bundle, chosen, runs=1)
        except EngineStoppedError:
            raise
        except (EngineError, BundleError) as error:
            log.warning(
                'engine %s worked before, and now: %s; delete %s if it shall not be tried again',
                known,
                error,
                choice.file,
            )
        else:
            log.info('engine %s, the fastest of an earlier start (%s)', engine.info, choice.file)
            return engine
    trials = _measure_as_alone(engines, bundle, settings) or _measure(engines, bundle, settings)
    if known is None and trials.is_final:
        choice.keep(asdict(trials.best.choice))
    return trials.best.engine


def _measure_as_alone(
    engines: _Factories, bundle: Bundle, settings: EngineSettings
) -> _Trials | None:
    """Measure streams of what one thread gets, which labels alike; None if that is not known."""
    if settings.num_streams == 1:
        return None
    of_one = _choice(engines, bundle, replace(settings, num_streams=1))
    if (alone := _fastest_of(of_one.read())) is None:
        trials = _measure(engines, bundle, settings)
        if trials.is_final:
            of_one.keep(asdict(trials.alone))
        return trials
    if alone.engine not in engines:
        return None
    own, only = replace(settings, precision=alone.precision), {alone.engine: engines[alone.engine]}
    try:
        return _measure(only, bundle, own)
    except EngineUnavailableError as error:
        log.warning('engine %s worked before, and now: %s', alone, error)
        return None


def _choice(engines: _Factories, bundle: Bundle, settings: EngineSettings) -> Choice:
    """Return where the answer for these settings is remembered."""
    in_streams = settings.num_streams > 1
    streams = settings.num_streams, settings.for_throughput and in_streams
    facts = [sorted(engines), settings.precision, settings.num_threads, *streams]
    return Choice.of('engine', bundle, settings.cache_folder, facts)


def _fastest_of(answer: dict[str, Any] | None) -> _Fastest | None:
    with suppress(TypeError):
        return None if answer is None else _Fastest(**answer)
    return None


def _measure(engines: _Factories, bundle: Bundle, settings: EngineSettings) -> _Trials:
    trials = _Trials(bundle, time.monotonic() + BUDGET_S)
    with ExitStack() as owned:
        owned.callback(trials.close)
        for name, precision in _candidates(engines, bundle, settings.precision):
            is_late = time.monotonic() > trials.deadline
            is_enough = is_late or (name == 'torch' and not has_nvidia_gpu())
            if trials.has_best and is_enough:
                break
            # A stream on a GPU costs nothing until it is used, and its copies overlap.
            num_streams = 1 if name in CPU_ENGINES else settings.num_streams
            wanted = replace(settings, precision=precision, num_streams=num_streams)
            trials.add(name, engines[name], wanted)
        best = trials.best.choice
        wanted = replace(settings, precision=best.precision)
        if settings.num_threads == 0 and trials.best.engine.info.device == 'cpu':
            _try_threads(engines[best.engine], trials, replace(wanted, num_streams=1))
        trials.alone = replace(trials.best.choice, num_streams=1)
        if settings.num_streams > 1 and best.engine in CPU_ENGINES:
            trials.add_streams(engines[best.engine], wanted)
        owned.pop_all()
    trials.tell()
    return trials


def _candidates(engines: _Factories, bundle: Bundle, precision: str) -> Iterator[tuple[str, str]]:
    on_gpu = has_nvidia_gpu()
    names = [*(_GPU_ENGINES if on_gpu else ()), *CPU_ENGINES, *(() if on_gpu else ('torch',))]
    for name in [name for name in names if name in engines]:
        yield name, precision
        if precision == 'auto' and name in CPU_ENGINES and has_checked_int8(bundle, name):
            yield name, 'int8'


def has_checked_int8(bundle: Bundle, engine: str) -> bool:
    """Tell whether the bundle brings an int8 file whose accuracy was checked, with this engine.

    A bundle that does not say which engines it was checked with was checked with all of them.
    """
    measured = bundle.manifest.metrics.get('quantization', {}).get('int8', CPU_ENGINES)
    return engine in measured and any(
        model.precision == 'int8' and model.is_checked for model in bundle.manifest.models
    )


def _try_threads(make: EngineFactory, trials: _Trials, settings: EngineSettings) -> None:
    cores = len(os.sched_getaffinity(0))
    for num_threads in {cores, max(1, cores // 2)}:
        if time.monotonic() < trials.deadline:
            other = replace(settings, num_threads=num_threads)
            trials.add(trials.best.choice.engine, make, other, _CLEARLY_FASTER)


@dataclass(frozen=True)
class _Trial:
    engine: Engine
    choice: _Fastest
    duration_ms: float


class _Trials:
    """Times engines and keeps the fastest open."""

    def __init__(self, bundle: Bundle, deadline: float) -> None:
        self.deadline = deadline
        self.is_final = True
        """Whether no engine failed that may work another time."""
        self.alone: _Fastest  # of one thread, when all were tried
        self._bundle = bundle
        self._figures: list[str] = []
        self._refused: list[str] = []
        self._best: _Trial | None = None

    @property
    def has_best(self) -> bool:
        """Whether an engine works."""
        return self._best is not None

    @property
    def best(self) -> _Trial:
        """The fastest; EngineUnavailableError if none works."""
        if self._best is None:
            reasons = '; '.join(self._refused)
            raise EngineUnavailableError(f'no engine runs on this machine: {reasons}')
        return self._best

    def add(
        self, name: str, make: EngineFactory, settings: EngineSettings, must_take: float = 1.0
    ) -> None:
        """Time an engine; it becomes the best if it takes less than this share of the best's."""
        check_not_stopped()
        try:
            engine, duration_ms = open_engine(make, self._bundle, settings)
        except EngineError as error:
            self._refuse(name, error)
            return
        threads = f' with {settings.num_threads} threads' if settings.num_threads else ''
        self._figures.append(f'{engine.info}{threads} {duration_ms:.1f} ms')
        if self._best is not None and duration_ms >= must_take * self._best.duration_ms:
            engine.close()
            return
        self.close()
        info = engine.info
        choice = _Fastest(name, info.precision, settings.num_threads, info.num_streams)
        self._best = _Trial(engine, choice, duration_ms)

    def add_streams(self, make: EngineFactory, settings: EngineSettings) -> None:
        """Time the best engine in streams; they take its place if all of them together do more."""
        if time.monotonic() >= self.deadline:
            return
        check_not_stopped()
        best = self.best
        try:
            with as_engine_errors(), ExitStack() as owned:
                engine = make(self._bundle, settings)
                owned.callback(engine.close)
                per_s = self._frames_per_second(engine, settings.for_throughput)
                if per_s == 0:
                    return
                owned.pop_all()
        except EngineError as error:
            self._refuse(f'{best.choice.engine} in streams', error)
            return
        self.close()
        num_streams = engine.info.num_streams
        choice = replace(best.choice, num_threads=settings.num_threads, num_streams=num_streams)
        self._best = _Trial(engine, choice, 1e3 / per_s)

    def _frames_per_second(self, engine: Engine, for_throughput: bool) -> float:
        """Return what an engine in streams does; 0 unless that is enough more than the best."""
        best, size = self.best, self._bundle.manifest.input.size
        runs = min(_ROUND_RUNS, max(1, int(_ROUND_S * 1e3 / max(best.duration_ms, 1.0))))
        must_gain = 1.0 if for_throughput else _CLEARLY_MORE
        per_s = alone_per_s = 0.0
        for _ in range(_ROUNDS if engine.info.num_streams > 1 else 0):  # not every engine can
            alone_per_s = max(alone_per_s, frames_per_second(best.engine, size, runs))
            per_s = max(per_s, frames_per_second(engine, size, runs))
            if time.monotonic() >= self.deadline:
                break
        self._figures.append(f'{engine.info} {per_s:.1f} frames/s, alone {alone_per_s:.1f}')
        return per_s if per_s > must_gain * alone_per_s else 0.0

    def _refuse(self, what: str, error: EngineError) -> None:
        if isinstance(error, EngineStoppedError):
            raise error
        lasts = isinstance(error, (EngineUnavailableError, EngineUnsupportedError))
        self.is_final = self.is_final and lasts
        self._refused.append(f'{what}: {error}')

    def tell(self) -> None:
        """Log all figures, and why engines do not take part."""
        log.info('chose %s as the fastest: %s', self.best.choice.engine, ', '.join(self._figures))
        for reason in self._refused:
            log.info('engine not used: %s', reason)

    def close(self) -> None:
        """Close the best, if there is one."""
        if self._best is not None:
            self._best.engine.close()
