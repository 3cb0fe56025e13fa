"""What is at fault where an input cannot be read: the drive, or the node of the worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
import logging
from typing import Any

from offroad_seg_core.fleet.chunks import Chunk
from offroad_seg_core.fleet.run import Task

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Member:
    """A worker of a crew.

    Attributes:
        actor: Of the cluster.
        is_trusted: Whether what it fails at next is taken for bad: it has just done a chunk.
        failed_at: Drives at which it failed since it did a chunk.
    """

    actor: Any
    is_trusted: bool = False
    failed_at: set[str] = field(default_factory=set)


class Doubts:
    """Chunks that a worker could not read, of which another one is to say whether they are bad.

    A node whose disk is full, or that lost its share, fails at any chunk within moments, while
    others need seconds for one: it would try all of them before the others have done theirs. So
    the word of a worker that failed is not enough, nor that of one that did nothing so far.
    """

    def __init__(self) -> None:
        self._reasons: dict[Chunk, Exception] = {}

    def choose(self, member: Member, waiting: deque[Task]) -> Task | None:
        """Take what a worker is to do next out of what waits; None: nothing for now.

        One that is trusted is asked for its word first. One that failed is given other drives.
        """
        if not self._reasons and not member.failed_at:
            return waiting.popleft()
        tasks = [task for task in waiting if (task[1] in self._reasons) == member.is_trusted]
        found = next((task for task in tasks if task[1].drive not in member.failed_at), None)
        if found is None and not member.failed_at:
            found = waiting[0]
        if found is not None:
            waiting.remove(found)
        return found

    def failed(self, member: Member, task: Task, reason: OSError, waiting: deque[Task]) -> bool:
        """Take note of a failure; return whether it is the chunk's. If not, the chunk waits."""
        chunk = task[1]
        is_bad = member.is_trusted and chunk in self._reasons
        if not is_bad:
            log.warning(
                '%s: part %d goes to another worker after %s', chunk.drive, chunk.first, reason
            )
            waiting.appendleft(task)
        member.is_trusted = False
        member.failed_at.add(chunk.drive)
        self._reasons[chunk] = reason
        return is_bad

    def done(self, member: Member, chunk: Chunk, others: Iterable[Member]) -> None:
        """Take note of a chunk that was done: its drive can be read, its worker can read."""
        self._reasons.pop(chunk, None)
        member.is_trusted, member.failed_at = True, set()
        for other in others:
            other.failed_at.discard(chunk.drive)

    def left(self, waiting: Iterable[Task]) -> dict[str, Exception]:
        """Return the drives that are in doubt, with the last reason of each."""
        found = [chunk for _, chunk in waiting if chunk in self._reasons]
        return {chunk.drive: self._reasons[chunk] for chunk in found}
