"""Serve a node's callbacks beside the main thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import threading

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


@contextmanager
def spinning(*nodes: Node) -> Iterator[threading.Event]:
    """Spin nodes in a thread until the block ends.

    Yields an event that is set when spinning ends early: the context was shut down or a callback
    raised something, which is raised again at the end of the block.
    """
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    errors: list[BaseException] = []
    ended = threading.Event()

    def spin() -> None:
        try:
            with suppress(ExternalShutdownException):
                executor.spin()
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        executor.shutdown()
        thread.join()
        for node in nodes:
            executor.remove_node(node)
    if errors:
        raise errors[0]
