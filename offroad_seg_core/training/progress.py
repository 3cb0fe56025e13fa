"""One line that says how far a training is: a bar in a terminal, now and then a line in a log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
import logging
import sys
import time
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from offroad_seg_core.metrics.segmentation import SegmentationScores
from offroad_seg_core.training.lightning_import import lightning

log = logging.getLogger(__name__)

_WINDOW = 20  # steps that the pace is averaged over


def describe_progress(
    images_per_s: float,
    left_s: float,
    loss: float,
    learning_rate: float,
    scores: SegmentationScores | None,
) -> str:
    """Return pace, time left, loss, learning rate and newest score in a line."""
    left = timedelta(seconds=round(left_s))
    miou = '' if scores is None else f', mIoU {scores.miou_present:.4f}'
    return (
        f'{images_per_s:.1f} images/s, {left} left, loss {loss:.4f}, '
        f'learning rate {learning_rate:.2e}{miou}'
    )


class Progress(lightning.Callback):
    """Show where the training is: a bar if errors go to a terminal, else a line in the log.

    Args:
        images_per_step: Views of a step, in all processes.
        scores: Returns those of the newest validation.
        log_every_s: Seconds between lines of the log.
    """

    def __init__(
        self,
        images_per_step: int,
        scores: Callable[[], SegmentationScores | None],
        log_every_s: float = 30.0,
    ) -> None:
        self._images_per_step = images_per_step
        self._scores = scores
        self._log_every_s = log_every_s
        self._bar: Any = None
        self._open = ExitStack()
        self._times_s: deque[tuple[int, float]] = deque(maxlen=_WINDOW + 1)
        self._start = (0, 0.0)
        self._shown_s = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Begin to count."""
        if not trainer.is_global_zero:
            return
        self._start = (trainer.global_step, time.monotonic())
        self._times_s.append(self._start)
        self._shown_s = time.monotonic()
        if sys.stderr.isatty():
            self._open.enter_context(logging_redirect_tqdm())
            self._bar = self._open.enter_context(
                tqdm(
                    total=trainer.max_steps,
                    initial=trainer.global_step,
                    unit='step',
                    dynamic_ncols=True,
                    bar_format='{percentage:3.0f}% |{bar}| step {n_fmt} of {total_fmt}{postfix}',
                )
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step, if it is time."""
        step, now_s = trainer.global_step, time.monotonic()
        if not self._times_s or step == self._times_s[-1][0]:  # not the first process; half a step
            return
        self._times_s.append((step, now_s))
        if self._bar is not None:
            self._bar.set_postfix_str(self._line(trainer, pl_module), refresh=False)
            self._bar.update(step - self._bar.n)
        elif now_s - self._shown_s >= self._log_every_s:
            self._shown_s = now_s
            line = self._line(trainer, pl_module)
            log.info('step %d of %d: %s', step, trainer.max_steps, line)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Leave the bar as it is."""
        self._open.close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Leave the bar as it is."""
        self._open.close()

    def _line(self, trainer: lightning.Trainer, task: Any) -> str:
        (before, before_s), (step, now_s) = self._times_s[0], self._times_s[-1]
        pace = (step - before) / max(now_s - before_s, 1e-9)
        # Over everything since the start, as validations take their time, too.
        whole_pace = (step - self._start[0]) / max(now_s - self._start[1], 1e-9)
        return describe_progress(
            pace * self._images_per_step,
            (trainer.max_steps - step) / whole_pace,
            task.terms.get('total', float('nan')),
            next(iter(task.learning_rates.values())),
            self._scores(),
        )
