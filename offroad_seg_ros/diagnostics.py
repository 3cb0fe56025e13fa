"""How a camera and the engine are doing, as levels, sentences and figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
import math
import os

from offroad_seg_core.inference.engines.base import has_nvidia_gpu
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.provenance import cpu_name
from offroad_seg_ros.camera_statistics import OUTCOMES, Counters, Snapshot
from offroad_seg_ros.installation import PROFILE_VARIABLES
from offroad_seg_ros.params import NodeParams


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


ERROR_AFTER_TIMEOUTS = 5.0


@dataclass(frozen=True)
class Status:
    """One entry of /diagnostics."""

    name: str
    level: Level
    message: str
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CameraState:
    """What a camera's status is made of."""

    name: str
    snapshot: Snapshot
    previous: Counters
    """The counters of the report before."""
    is_active: bool
    wants_images: bool
    """Somebody subscribes to an image, so that the engine runs."""
    wants_info: bool
    """Somebody subscribes to the calibration."""
    topic: str
    topic_problem: str
    num_publishers: int
    reliability: str


def camera_status(state: CameraState, params: NodeParams) -> Status:
    """Judge one camera; the worst finding is its level, all findings are its message."""
    findings = _findings(state, params) if state.is_active else [(Level.OK, 'inactive')]
    level = max(level for level, _ in findings)
    told = [text for at, text in sorted(findings, reverse=True) if at == level or at > Level.OK]
    return Status(state.name, level, '; '.join(told), _camera_values(state))


def _findings(state: CameraState, params: NodeParams) -> list[tuple[Level, str]]:
    findings: list[tuple[Level, str]] = []
    durations_s = {
        'no frame': state.snapshot.seconds_since_frame,
        'no frame came to its end': state.snapshot.seconds_stalled,
    }
    for what, duration_s in durations_s.items():
        if duration_s > params.input_timeout_s:
            is_long = duration_s > ERROR_AFTER_TIMEOUTS * params.input_timeout_s
            level = Level.ERROR if is_long else Level.WARN
            findings.append((level, f'{what} for {duration_s:.1f} s'))
    if state.topic_problem:
        findings.append((Level.WARN, state.topic_problem))
    new = state.snapshot.counters.since(state.previous)
    if new.failed:
        level = Level.WARN if new.processed else Level.ERROR
        findings.append((level, f'{new.failed} frames failed: {state.snapshot.last_error}'))
    if new.dropped_stale and not new.processed:
        findings.append((Level.WARN, f'all {new.dropped_stale} frames were older than max_age_ms'))
    if new.lost_in_transport:
        findings.append((Level.WARN, f'{new.lost_in_transport} frames lost in transport'))
    if not params.enabled:
        findings.append((Level.OK, 'disabled by the parameter enabled'))
    elif not state.wants_images:
        is_read = 'only camera_info is subscribed' if state.wants_info else ''
        findings.append((Level.OK, f'idle: {is_read or "nobody subscribes to an output"}'))
    return findings or [(Level.OK, 'running')]


def _camera_values(state: CameraState) -> dict[str, str]:
    snapshot, facts = state.snapshot, state.snapshot.facts
    values = {
        name: str(getattr(snapshot.counters, name))
        for name in ('received', *OUTCOMES, 'waiting', 'lost_in_transport')
    }
    values['fps_in'] = f'{snapshot.fps_in:.1f}'
    values['fps_out'] = f'{snapshot.fps_out:.1f}'
    for name, (p50, p95) in snapshot.times.items():
        stem = name.removesuffix('_ms')
        values[f'{stem}_p50_ms'], values[f'{stem}_p95_ms'] = _ms(p50), _ms(p95)
    values |= {
        'passes': str(facts.passes),
        'input_size': _size(facts.input_size),
        'output_size': _size(facts.output_size),
        'encoding': facts.encoding,
        'topic': state.topic,
        'publishers': str(state.num_publishers),
        'reliability': state.reliability,
        'seconds_since_frame': f'{snapshot.seconds_since_frame:.2f}',
        'seconds_stalled': f'{snapshot.seconds_stalled:.2f}',
        'last_error': snapshot.last_error,
    }
    return values


def engine_status(
    segmenter: Segmenter, params: NodeParams, lifecycle_state: str, outputs_off: str
) -> Status:
    """Describe bundle, engine and machine; WARN when a GPU stands unused."""
    info, bundle = segmenter.engine.info, segmenter.bundle
    wastes_gpu = info.device == 'cpu' and _has_gpu()
    message = f'{lifecycle_state}: {info}'
    if wastes_gpu:
        message += '; this machine has an NVIDIA GPU: install an engine that uses it'
    height, width = bundle.manifest.input.size
    values = {
        'state': lifecycle_state,
        'bundle': bundle.identity,
        'bundle_path': str(bundle.path),
        'taxonomy': bundle.taxonomy.name,
        'engine': info.name,
        'engine_version': info.version,
        'precision': info.precision,
        'device': info.device,
        'num_threads': str(params.num_threads),
        'num_streams': str(info.num_streams),
        'network_size': f'{height}x{width}',
        'tta': params.tta,
        'cpu': cpu_name(),
        'cpu_cores': str(len(os.sched_getaffinity(0))),
        'outputs_off': outputs_off,
        'fastdds_profile': next(filter(None, map(os.environ.get, PROFILE_VARIABLES)), ''),
    }
    return Status('engine', Level.WARN if wastes_gpu else Level.OK, message, values)


@cache
def _has_gpu() -> bool:
    return has_nvidia_gpu()


def _ms(value: float) -> str:
    return '' if math.isnan(value) else f'{value:.2f}'


def _size(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}' if any(size) else ''
