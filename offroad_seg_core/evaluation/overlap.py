"""Work on several frames at once, in their order: reading, decoding, inference and writing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from queue import Full, Queue
import threading
from typing import Any, TypeVar

T = TypeVar('T')
R = TypeVar('R')

_DEPTH = 4
_POLL_S = 0.05


def background(items: Iterable[T], depth: int = _DEPTH) -> Iterator[T]:
    """Yield items that a thread takes ahead of time.

    What taking them raises is raised here, in its turn. When this iterator is closed the thread
    ends after the item that it is at.

    Args:
        items: Used by that thread alone.
        depth: How many items wait at most.
    """
    queue: Queue[tuple[str, Any]] = Queue(depth)
    stopped = threading.Event()

    def put(kind: str, content: Any = None) -> None:
        while not stopped.is_set():
            try:
                queue.put((kind, content), timeout=_POLL_S)
                return
            except Full:
                continue

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                put('item', item)
                if stopped.is_set():
                    break
            put('end')
        except BaseException as error:
            put('error', error)
        finally:
            _close(iterator)  # generators can be closed by the thread that runs them only

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, content = queue.get()
            if kind == 'end':
                return
            if kind == 'error':
                raise content
            yield content
    finally:
        stopped.set()
        thread.join()


def ahead(
    pool: Executor, function: Callable[[T], R], items: Iterable[T], depth: int = _DEPTH
) -> Iterator[R]:
    """Yield ``function(item)`` in the order of the items, computed by a pool ahead of time.

    Args:
        pool: Runs the calls.
        function: Called once for each item.
        items: Taken one by one.
        depth: How many calls are ahead of the result that is yielded, at most.
    """
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        _close(items)


def _close(items: object) -> None:
    if isinstance(items, Generator):
        items.close()
