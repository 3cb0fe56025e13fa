"""Builds TensorRT plans in a process of their own.

A build takes minutes in native code. In a child it can be stopped at any time, its memory is free
again when it ends, and the parent goes on answering. The child dies with its parent, whatever
killed that.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
from typing import Any

from offroad_seg_core.files import atomic_path
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import (
    EngineError,
    EngineUnavailableError,
    EngineUnsupportedError,
    Report,
)
from offroad_seg_core.inference.engines.build_progress import ProgressLog
from offroad_seg_core.inference.engines.gpu_graph import gpu_graph
from offroad_seg_core.inference.engines.stopping import check_not_stopped, stoppable
from offroad_seg_core.inference.engines.tensorrt_build import build_plan


@dataclass(frozen=True)
class PlanJob:
    """One plan to build."""

    library: str
    """`tensorrt`, `tensorrt_rtx` or `torch2trt`."""
    bundle: str
    precision: str
    size: tuple[int, int]
    """Network input (height, width), px."""
    timing_file: str
    """Read before the build and written after it; may be missing. Not used by torch2trt."""

    def build(self, output: Path, report: Report) -> None:
        """Build in this process. Errors: see gpu_graph, build_plan and build_state_dict."""
        if self.library == 'torch2trt':
            from offroad_seg_core.inference.engines.torch2trt import build_state_dict

            build_state_dict(Bundle.load(self.bundle), self.precision, self.size, output)
            return
        try:
            trt = import_module(self.library)
        except (ImportError, OSError) as error:
            raise EngineUnavailableError(f'{self.library} does not import ({error})') from error
        graph = gpu_graph(Bundle.load(self.bundle), self.precision, self.size)
        timing_file = Path(self.timing_file)
        known = timing_file.read_bytes() if timing_file.is_file() else b''
        plan, timing = build_plan(trt, graph.SerializeToString(), known, report)
        output.write_bytes(plan)
        with atomic_path(timing_file) as temporary:
            temporary.write_bytes(timing)


def build_in_child(job: PlanJob, output: Path) -> None:
    """Build in a child process and wait for it; it is killed when this is interrupted.

    Progress goes to the log.

    Raises:
        EngineError: as in PlanJob.build, or the child died.
        EngineStoppedError: see builds_stopped.
    """
    check_not_stopped()
    environment = os.environ | {
        'PYTHONPATH': os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    }
    # A session of its own: Ctrl-C reaches the parent alone, which then ends the child.
    child = subprocess.Popen(
        [sys.executable, '-m', __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert child.stdin is not None and child.stdout is not None  # noqa: PT018
    try:
        with stoppable(child):
            failure = _converse(child, {**asdict(job), 'output': str(output)})
            child.wait()
    finally:
        child.kill()
        child.wait()
        with suppress(BrokenPipeError):
            child.stdin.close()
        child.stdout.close()
    if failure or child.returncode:
        check_not_stopped()
    if failure:
        kinds = {kind.__name__: kind for kind in (EngineUnavailableError, EngineUnsupportedError)}
        raise kinds.get(failure['kind'], EngineError)(failure['error'])
    if child.returncode:
        raise EngineError(f'the process that builds the engine {_end_of(child.returncode)}')


def _converse(child: subprocess.Popen, request: dict[str, Any]) -> dict[str, Any]:
    """Ask for a build and log its progress; return what the child says of its failure, or {}."""
    assert child.stdin is not None and child.stdout is not None  # noqa: PT018
    failure: dict[str, Any] = {}
    progress = ProgressLog()
    with suppress(BrokenPipeError):  # it died already, which its end tells
        child.stdin.write(json.dumps(request) + '\n')
        child.stdin.flush()  # and left open: its end tells the child that the parent is gone
    for line in child.stdout:
        message = json.loads(line)
        if 'share' in message:
            progress(message['share'], message['phase'])
        else:
            failure = message
    return failure


def _end_of(code: int) -> str:
    if code == -signal.SIGKILL:
        return 'was killed, as the kernel does when memory runs out; fix: end other programs'
    if code < 0:
        return f'ended with signal {signal.Signals(-code).name}'
    return f'ended with code {code}; its message stands above'


def _serve() -> None:
    """Do the job that comes on stdin; tell progress and failure as JSON lines on stdout."""
    # Libraries may print to stdout: it becomes stderr, and the parent gets the original.
    channel = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)
    arguments = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    output = Path(arguments.pop('output'))
    job = PlanJob(**arguments | {'size': tuple(arguments['size'])})

    def tell(**message: Any) -> None:
        channel.write(json.dumps(message) + '\n')

    try:
        job.build(output, lambda share, phase: tell(share=share, phase=phase))
    except (EngineError, ValueError) as error:  # a bundle's errors are ValueErrors
        tell(error=str(error), kind=type(error).__name__)
        sys.exit(1)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == '__main__':
    _serve()
