"""`engine: auto`: measured once on this machine, then remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
import hashlib
from importlib import metadata
import json
import logging
import os
from pathlib import Path
import time

from offroad_seg_core.files import atomic_path, user_cache_folder
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import (
    Engine,
    EngineError,
    EngineSettings,
    EngineUnavailableError,
    has_nvidia_gpu,
    warm_up,
)
from offroad_seg_core.provenance import cpu_name

log = logging.getLogger(__name__)

BUDGET_S = 5.0
"""No further candidate is tried after this; the one in work is finished."""
_CLEARLY_FASTER = 0.95
"""Of the time with the engine's own number of threads: less is noise."""
_GPU_ENGINES = ('tensorrt', 'tensorrt_rtx', 'onnxruntime_cuda', 'torch')
_CPU_ENGINES = ('openvino', 'onnxruntime')
_PACKAGES = ('openvino', 'onnxruntime', 'onnxruntime-gpu', 'torch', 'tensorrt', 'tensorrt-rtx')

_Factories = Mapping[str, Callable[[Bundle, EngineSettings], Engine]]


@dataclass(frozen=True)
class Choice:
    """What was found to be the fastest."""

    engine: str
    precision: str
    num_threads: int


def fastest(engines: _Factories, bundle: Bundle, settings: EngineSettings) -> Engine:
    """Return the engine that runs the bundle's input size fastest here, warmed up.

    At the first start the engines that this machine has are timed: those on a GPU first, then
    OpenVINO and ONNX Runtime, also in int8 where the bundle brings a file of checked accuracy, and
    the best of them with other numbers of threads. PyTorch takes part only where it has a GPU, or
    where nothing else runs. The choice is kept until the bundle, the processor or a library
    changes.

    Raises:
        EngineUnavailableError: no engine runs on this machine.
    """
    file = _choice_file(bundle, settings)
    known = _read(file)
    if known is not None and known.engine in engines:
        chosen = replace(settings, precision=known.precision, num_threads=known.num_threads)
        try:
            engine = engines[known.engine](bundle, chosen)
            warm_up(engine, bundle.manifest.input.size, runs=1)
        except (EngineError, ValueError) as error:
            log.warning('engine auto: %s worked before, and now: %s', known, error)
        else:
            log.info('engine auto: %s, the fastest of an earlier start (%s)', engine.info, file)
            return engine
    engine, choice = _measure(engines, bundle, settings)
    try:
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(asdict(choice)), encoding='utf-8')
    except OSError as error:
        log.info('the choice is not kept: %s', error)
    return engine


def _measure(
    engines: _Factories, bundle: Bundle, settings: EngineSettings
) -> tuple[Engine, Choice]:
    deadline = time.monotonic() + BUDGET_S
    refused: list[str] = []
    trials = _Trials(bundle)
    for name, precision in _candidates(engines, bundle, settings.precision):
        is_enough = time.monotonic() > deadline or (name == 'torch' and not has_nvidia_gpu())
        if trials.best is not None and is_enough:
            break
        try:
            trials.add(name, engines[name], replace(settings, precision=precision))
        except EngineError as error:
            refused.append(f'{name}: {error}')
    if trials.best is None:
        raise EngineUnavailableError('no engine runs on this machine: ' + '; '.join(refused))
    if settings.num_threads == 0 and trials.best.engine.info.device == 'cpu':
        _try_threads(engines, trials, settings, deadline)
    log.info('engine auto chose %s as the fastest: %s', trials.best.engine.info.name, trials.told)
    for reason in refused:
        log.info('engine not used: %s', reason)
    return trials.best.engine, trials.best.choice


def _candidates(engines: _Factories, bundle: Bundle, precision: str) -> Iterator[tuple[str, str]]:
    on_gpu = has_nvidia_gpu()
    names = [*(_GPU_ENGINES if on_gpu else ()), *_CPU_ENGINES, *(() if on_gpu else ('torch',))]
    for name in [name for name in names if name in engines]:
        yield name, precision
        if precision == 'auto' and name in _CPU_ENGINES and _has_checked_int8(bundle):
            yield name, 'int8'


def _has_checked_int8(bundle: Bundle) -> bool:
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
    choice: Choice
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
        choice = Choice(name, engine.info.precision, settings.num_threads)
        self.best = _Trial(engine, choice, duration_ms)


def _choice_file(bundle: Bundle, settings: EngineSettings) -> Path:
    facts = [
        bundle.manifest.files,
        bundle.manifest.input.size,
        settings.precision,
        settings.num_threads,
        cpu_name(),
        len(os.sched_getaffinity(0)),
        has_nvidia_gpu(),
        [(name, _version(name)) for name in _PACKAGES],
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = (settings.cache_folder or user_cache_folder()) / 'choices'
    return folder / f'{digest}.json'


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ''


def _read(file: Path) -> Choice | None:
    try:
        return Choice(**json.loads(file.read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError):
        return None
