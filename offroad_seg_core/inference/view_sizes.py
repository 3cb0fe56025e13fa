"""The input sizes of test-time augmentation, opened before they are timed."""

from __future__ import annotations

from offroad_seg_core.inference.engines import Engine, EngineError, EngineStoppedError, warm_up
from offroad_seg_core.inference.engines.opening import as_engine_errors
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.tta import TTA_VIEWS, scaled_size


class ViewSizes:
    """Runs an engine once at each size: a new one costs some a second, and others a build."""

    def __init__(self, engine: Engine, spec: InputSpec) -> None:
        self._engine = engine
        self._spec = spec
        self._opened = {spec.size}
        self._refused: dict[tuple[int, int], str] = {}

    def open(self, tta: str) -> None:
        """Open the sizes of a mode that are new.

        Raises:
            EngineError: one failed, now or before: a build of minutes is not begun at every frame.
            EngineStoppedError: see builds_stopped.
        """
        for view in TTA_VIEWS[tta]:
            size = scaled_size(self._spec.size, view.scale, self._spec.stride)
            if size in self._refused:
                raise EngineError(self._refused[size])
            if size not in self._opened:
                self._open(size)

    def forgive(self) -> None:
        """Let sizes that failed be tried again."""
        self._refused = {}

    def _open(self, size: tuple[int, int]) -> None:
        try:
            with as_engine_errors():
                warm_up(self._engine, size, runs=1)
        except EngineStoppedError:
            raise
        except EngineError as error:
            self._refused[size] = str(error)
            raise
        self._opened.add(size)
