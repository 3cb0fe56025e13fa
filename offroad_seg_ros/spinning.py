"""Nodes of programs that end by themselves, served beside the main thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import signal
import threading

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions


@contextmanager
def tool_node(name: str, args: list[str] | None = None) -> Iterator[tuple[Node, threading.Event]]:
    """Make a node, and an event that SIGINT and SIGTERM set; shut all down when the block ends.

    With rclpy's own handlers Ctrl-C would take the context away before the last message is out and
    before files are complete.
    """
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node, stopped = Node(name), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        yield node, stopped
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


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
