"""From an ONNX graph to a TensorRT plan: one way for TensorRT 10.3 to 11 and for TensorRT-RTX.

Networks are strongly typed: every layer computes in the precision that the graph says. TensorRT
10 asks for that with a flag, 11 knows nothing else; the builder's own precision flags and
calibrators, which 11 removed, are not used. So this is the same code for all, and what a test
proves with TensorRT-RTX, whose builder needs no GPU, holds for the parser of all.
"""

from __future__ import annotations

import logging
from typing import Any

from offroad_seg_core.inference.engines.base import EngineError, EngineUnsupportedError, Report
from offroad_seg_core.inference.engines.build_progress import BuildProgress

log = logging.getLogger(__name__)

BUILDER_OPTIONS = {'optimization_level': 3, 'tf32': False}
"""Part of a cached engine's fingerprint. TF32 would round what is asked for as fp32."""


def build_plan(
    trt: Any,
    graph: bytes,
    timing_cache: bytes = b'',
    report: Report = lambda share, phase: None,
) -> tuple[bytes, bytes]:
    """Build a plan.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        graph: a serialised ONNX model of fixed shapes.
        timing_cache: what an earlier build returned, or nothing; one of another GPU or version is
            ignored.
        report: told the share that is done (0 to 1, never falling) and the phase, from any thread.

    Returns:
        The plan and the timing cache.

    Raises:
        EngineUnsupportedError: TensorRT does not know an operator; it names the node.
        EngineError: the build fails.
    """
    logger = _make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise EngineUnsupportedError(
            f'TensorRT {trt.__version__} cannot take the graph: '
            + '; '.join(_describe(error) for error in errors)
            + '; fix: export without this operator, or choose engine onnxruntime_cuda'
        )
    config = builder.create_builder_config()
    config.builder_optimization_level = BUILDER_OPTIONS['optimization_level']
    config.clear_flag(trt.BuilderFlag.TF32)
    for known in (timing_cache, b''):  # one of another GPU or version is refused
        cache = config.create_timing_cache(known)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            break
    monitor = _make_monitor(trt, report)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f'TensorRT {trt.__version__} could not build the engine: '
            + ('; '.join(logger.errors[-3:]) or 'it does not say why')
        )
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def _network_flags(trt: Any) -> int:
    # Opt-in on 10, accepted and ignored on 11; a later version may drop the name.
    flag = getattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED', None)
    return 0 if flag is None else 1 << int(flag)


def _describe(error: Any) -> str:
    what = f'node {error.node_name()!r} ({error.node_operator()}): ' if error.node_name() else ''
    return what + error.desc().strip().splitlines()[0]


def _make_logger(trt: Any) -> Any:
    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)  # told by the exception
            if severity != trt.ILogger.VERBOSE:  # one line for each tactic
                log.debug('TensorRT: %s', message)

    return Logger()


def _make_monitor(trt: Any, report: Report) -> Any:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._progress = BuildProgress(report)

        def phase_start(self, phase: str, parent: str | None, num_steps: int) -> None:
            self._progress.start(phase, parent, num_steps)

        def step_complete(self, phase: str, step: int) -> bool:
            self._progress.step(phase, step)
            return True  # go on

        def phase_finish(self, phase: str) -> None:
            self._progress.finish(phase)

    return Monitor()
