"""Opens the segmenter beside the executor: building an engine may take minutes."""

from __future__ import annotations

from dataclasses import dataclass
import threading

from rclpy.executors import Executor
from rclpy.task import Future

from offroad_seg_core.inference.engines.stopping import builds_stopped
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_ros.model_loading import cost_overrides, open_segmenter, wanted_streams
from offroad_seg_ros.params import NodeParams

_STOP_S = 10.0


@dataclass(frozen=True)
class _Outcome:
    params: NodeParams
    result: Segmenter | Exception


class EnginePreparation:
    """At most one segmenter on its way; the node goes on answering until it is there."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._outcome: _Outcome | None = None
        self._is_stopped = False

    @property
    def is_running(self) -> bool:
        """Whether a segmenter is being opened now."""
        return self._thread is not None

    async def run(self, params: NodeParams, executor: Executor) -> None:
        """Open a segmenter for `take`; what goes wrong is raised there.

        Args:
            params: what it is opened with.
            executor: whose coroutine this is.
        """
        future = Future(executor=executor)

        def work() -> None:
            self._outcome = _Outcome(params, _attempt(params))
            if not self._is_stopped:
                executor.create_task(future.set_result, None)  # also wakes it

        self._discard()
        self._thread = threading.Thread(target=work, name='engine_preparation', daemon=True)
        self._thread.start()
        await future
        self._thread = None

    def take(self, params: NodeParams) -> Segmenter:
        """Return the segmenter that was prepared with these parameters, or open one now.

        Raises:
            ValueError, EngineError, OSError: see open_segmenter.
        """
        outcome, self._outcome = self._outcome, None
        if outcome is None or outcome.params != params:
            if outcome is not None and isinstance(outcome.result, Segmenter):
                outcome.result.close()
            return _open(params)
        if isinstance(outcome.result, Exception):
            raise outcome.result
        return outcome.result

    def stop(self) -> None:
        """End a build and free what nobody took; for the end of the node, when nothing spins."""
        self._is_stopped = True
        thread = self._thread
        if thread is not None:
            with builds_stopped():
                thread.join(_STOP_S)  # native code must not run when the process is taken apart
        self._discard()

    def _discard(self) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None and isinstance(outcome.result, Segmenter):
            outcome.result.close()


def _open(params: NodeParams) -> Segmenter:
    return open_segmenter(params, cost_overrides(params), wanted_streams(params))


def _attempt(params: NodeParams) -> Segmenter | Exception:
    try:
        return _open(params)
    except Exception as error:  # whatever it is: `take` raises it where callers know what to do
        return error
