"""Opens the segmenter beside the executor: building an engine may take minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import threading

from rclpy.executors import Executor
from rclpy.task import Future

from offroad_seg_core.inference.engines.stopping import builds_stopped
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_ros.model_loading import (
    cost_overrides,
    open_segmenter,
    segmenter_options,
    wanted_streams,
)
from offroad_seg_ros.params import NodeParams, specs

_STOP_S = 10.0


@dataclass(frozen=True)
class _Outcome:
    params: NodeParams
    result: Segmenter | Exception

    def fits(self, params: NodeParams) -> bool:
        """Whether opening with these parameters would bring the same but for the options."""
        if isinstance(self.result, Exception):
            return params == self.params
        # Test-time augmentation may need engines of other sizes.
        names = [name for name, spec in specs(NodeParams).items() if spec.structural]
        return all(getattr(params, name) == getattr(self.params, name) for name in [*names, 'tta'])

    def close(self) -> None:
        if isinstance(self.result, Segmenter):
            self.result.close()


class EnginePreparation:
    """At most one segmenter on its way; the node goes on answering until it is there."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._outcome: _Outcome | None = None
        self._is_closed = False

    @property
    def is_running(self) -> bool:
        """Whether a segmenter is being opened now."""
        return self._thread is not None

    async def run(self, read: Callable[[], NodeParams], executor: Executor) -> None:
        """Open a segmenter for `take`; what goes wrong is raised there.

        When it is there and the parameters have become others, another one is opened.

        Args:
            read: returns the parameters.
            executor: whose coroutine this is.

        Raises:
            ValueError: as `read` does.
        """
        params = read()
        while True:
            await self._prepare(params, executor)
            params = read()
            if self._outcome is None or self._outcome.fits(params):  # the former: stopped
                return

    async def _prepare(self, params: NodeParams, executor: Executor) -> None:
        future = Future(executor=executor)

        def work() -> None:
            self._outcome = _Outcome(params, _attempt(params))
            if not self._is_closed:
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
        outcome = self._outcome
        if outcome is None or not outcome.fits(params):
            self._discard()
            return _open(params)
        if isinstance(outcome.result, Exception):
            self._discard()
            raise outcome.result
        segmenter = outcome.result
        if params != outcome.params:
            segmenter.options = segmenter_options(params, dict(segmenter.options.cost_overrides))
        self._outcome = None
        return segmenter

    def stop(self) -> None:
        """End a build and free what nobody took."""
        if self._thread is not None:
            with builds_stopped():
                self._thread.join(_STOP_S)
        self._discard()

    def close(self) -> None:
        """Stop at the end of the node, when nothing spins.

        Native code must not run when the process is taken apart.
        """
        self._is_closed = True
        self.stop()

    def _discard(self) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome.close()


def _open(params: NodeParams) -> Segmenter:
    return open_segmenter(params, cost_overrides(params), wanted_streams(params))


def _attempt(params: NodeParams) -> Segmenter | Exception:
    try:
        return _open(params)
    except Exception as error:  # whatever it is: `take` raises it where callers know what to do
        return error
