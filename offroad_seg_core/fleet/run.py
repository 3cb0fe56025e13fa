"""Evaluate many drives by workers elsewhere: hand out chunks, keep results, put them together."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
import logging
from pathlib import Path
import shutil
import time
from zipfile import BadZipFile

from offroad_seg_core.evaluation.evaluate import Evaluation, conclude
from offroad_seg_core.evaluation.parts import CHUNKS, UNPACKED, PartResult, Unfinished
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.evaluation.sources.frame import LEFT_OUT, Source
from offroad_seg_core.evaluation.summary import ResultError
from offroad_seg_core.fleet.chunks import Chunk, Drive, plan, read_parts, unpack
from offroad_seg_core.fleet.storage import ChunkStore

log = logging.getLogger(__name__)

Task = tuple[Source, Chunk]
Perform = Callable[[deque[Task]], Generator[tuple[Task, bytes | Exception], None, None]]
"""Does tasks in any order, also those that are added meanwhile; yields what comes of each."""
OnChunk = Callable[[int, int, int], object]
"""Called with the number of chunks that are complete, of all chunks, and of completed frames."""

MAX_ATTEMPTS = 3


class Fleet:
    """One evaluation of many drives.

    Args:
        evaluation: What is done; its source may be SeveralSources.
        on_chunk: Told of the progress.
        chunks: Folder or URL where finished chunks are kept, also after the end; empty: in the
            unfinished result, until it is complete.
        restart: Do everything anew.

    Raises:
        OutputError, StorageError, OSError: A place for results is none.
    """

    def __init__(
        self, evaluation: Evaluation, on_chunk: OnChunk, chunks: str = '', restart: bool = False
    ) -> None:
        self._evaluation, self._on_chunk = evaluation, on_chunk
        self._unfinished = Unfinished(evaluation.output, evaluation.identity(), restart)
        self._store = ChunkStore(chunks or str((self._unfinished.folder / CHUNKS).resolve()))
        self._stored = set() if restart else self._store.keys()
        self._drives = {drive.name: drive for drive in plan(evaluation)}
        self._attempts: Counter[Chunk] = Counter()
        self._failed: dict[str, str] = {}
        self._num_frames: Counter[str] = Counter()

    def evaluate(self, perform: Perform) -> Path:
        """Do what is left, and return the folder of the result: that of ``evaluate``.

        A drive that fails is left out; the summary names it and the reason. What was completed
        before an exception is kept.

        Args:
            perform: Does chunks.

        Raises:
            ValueError: There is one drive, and it failed; no drive could be evaluated.
            OSError: A file cannot be written.
        """
        waiting: deque[Task] = deque()
        for drive in self._drives.values():
            self._take_stored(drive, waiting)
        started, done_before = time.monotonic(), self._num_frames.copy()
        if waiting:
            with closing(perform(waiting)) as outcomes:
                for task, outcome in outcomes:
                    self._take(task, outcome, waiting)
        num_frames = (self._num_frames - done_before).total()
        return self._put_together(num_frames / (time.monotonic() - started))

    def _take_stored(self, drive: Drive, waiting: deque[Task]) -> None:
        """Use what is in the store; all else of a drive waits to be done."""
        for chunk in list(drive.chunks):
            parts = self._stored_parts(chunk)
            if parts is None:
                waiting.append((drive.source, chunk))
            else:
                self._add(drive, chunk, parts, waiting)

    def _stored_parts(self, chunk: Chunk) -> list[PartResult] | None:
        if chunk.key not in self._stored:
            return None
        try:
            return read_parts(self._store.read(chunk.key), chunk, self._evaluation.meter)
        except (BadZipFile, FileNotFoundError) as error:
            log.warning('chunk %s is damaged or gone (%s) and is done again', chunk.key, error)
            return None

    def _take(self, task: Task, outcome: bytes | Exception, waiting: deque[Task]) -> None:
        """Keep a result; let a failure be tried again, or give its drive up."""
        source, chunk = task
        if isinstance(outcome, bytes):
            self._store.write(chunk.key, outcome)
        if chunk.drive in self._failed:
            return
        if isinstance(outcome, bytes):
            parts = read_parts(outcome, chunk, self._evaluation.meter)
            self._add(self._drives[chunk.drive], chunk, parts, waiting)
            return
        self._attempts[chunk] += 1
        is_input = isinstance(outcome, ValueError)  # which does not get better
        reason = str(outcome) if is_input else f'{type(outcome).__name__}: {outcome}'
        if not is_input and self._attempts[chunk] < MAX_ATTEMPTS:
            log.warning('%s: part %d is tried again after %s', chunk.drive, chunk.first, reason)
            waiting.append((source, chunk))
            return
        log.error('%s: given up after %s', chunk.drive, reason)
        self._failed[chunk.drive] = reason
        others = [entry for entry in waiting if entry[1].drive != chunk.drive]
        waiting.clear()
        waiting.extend(others)
        self._tell()

    def _add(
        self, drive: Drive, chunk: Chunk, parts: Sequence[PartResult], waiting: deque[Task]
    ) -> None:
        self._num_frames[drive.name] += sum(len(part.rows) for part in parts)
        if drive.add(chunk, parts):
            self._num_frames[drive.name] = 0  # they come again
            log.info('%s: its parts do not stand alone; it is done in one piece', drive.name)
            self._take_stored(drive, waiting)
        self._tell()

    def _tell(self) -> None:
        left = [entry for entry in self._drives.values() if entry.name not in self._failed]
        total = sum(len(entry.chunks) for entry in left)
        self._on_chunk(sum(entry.num_done for entry in left), total, self._num_frames.total())

    def _put_together(self, speed: float) -> Path:
        """Make the result of all chunks, in the order of the frames."""
        evaluation, unfinished = self._evaluation, self._unfinished
        whole = [drive for drive in self._drives.values() if drive.name not in self._failed]
        if not whole:
            raise ResultError('; '.join(self._failed.values()))
        unfinished.forget_parts()  # of an earlier time that did not come to its end
        unpacked = unfinished.folder / UNPACKED
        for chunk in (chunk for drive in whole for chunk in drive.chunks):
            shutil.rmtree(unpacked, ignore_errors=True)
            unpack(self._store.read(chunk.key), unpacked)
            unfinished.adopt(unpacked)
        shutil.rmtree(unpacked)
        source = evaluation.source
        if isinstance(source, SeveralSources):
            lost = [f'{name}{LEFT_OUT}{why}' for name, why in self._failed.items()]
            left = {drive.name: source.sources[drive.name] for drive in whole}
            source = SeveralSources(left, [*source.left_out, *lost])
        return conclude(replace(evaluation, source=source), unfinished, speed)
