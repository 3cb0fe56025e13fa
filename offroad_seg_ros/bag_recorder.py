"""Record topics into a bag (mcap), without rosbag2 tools.

    ros2 run offroad_seg_ros bag_recorder labels --topics /windshield/segmentation/mask

Messages are stored as the bytes that arrive, with the QoS that their publishers offer. The bag
appears under its name when it is complete; until then it is a hidden folder beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
import sys
import threading
import time

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.utilities import remove_ros_args

from offroad_seg_core.bags.definitions import Definitions, UnknownTypeError
from offroad_seg_core.bags.library import Connection
from offroad_seg_core.bags.reading import BagError
from offroad_seg_core.bags.writing import AtomicBag
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.places import local_path
from offroad_seg_ros.bag_qos import offered_qos, subscribing_qos
from offroad_seg_ros.message_types import message_class
from offroad_seg_ros.spinning import spinning, tool_node

_WATCH_PERIOD_S = 0.1


class BagRecorder:
    """Subscribe to topics as they appear, and write what arrives.

    Somebody spins the node. A message's time in the bag is the node's clock: with
    ``use_sim_time`` the time of the bag that plays. Messages that arrive before such a clock has
    started are kept back until it has.

    Args:
        node: what the subscriptions belong to.
        path: the rosbag2 folder to make.
        topics: what to record; empty: everything.
        on_message: called first with the topic, the serialized message and the steady-clock time
            of its arrival (``time.monotonic_ns``).
    """

    def __init__(
        self,
        node: Node,
        path: str | Path,
        topics: Collection[str] = (),
        on_message: Callable[[str, bytes, int], None] | None = None,
    ) -> None:
        self.num_recorded = 0
        self._node, self._topics, self._on_message = node, frozenset(topics), on_message
        self._bag = AtomicBag(path)
        self._definitions = Definitions()
        self._subscriptions: dict[tuple[str, str], Subscription | None] = {}
        self._waiting: list[tuple[Connection, bytes]] = []
        self._lock = threading.Lock()
        self._watch()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_WATCH_PERIOD_S, self._watch, clock=steady)

    @property
    def topics(self) -> set[str]:
        """The topics that are being recorded."""
        return {topic for (topic, _), entry in tuple(self._subscriptions.items()) if entry}

    def close(self) -> Path:
        """Unsubscribe, complete the bag and return its path."""
        self._unsubscribe()
        with self._lock:
            self._write_waiting(self._node.get_clock().now().nanoseconds or time.time_ns())
            self._bag.close()
        return self._bag.path

    def discard(self) -> None:
        """Unsubscribe and leave no bag."""
        self._unsubscribe()
        with self._lock:
            self._bag.discard()

    def _unsubscribe(self) -> None:
        self._node.destroy_timer(self._timer)
        for subscription in filter(None, self._subscriptions.values()):
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _watch(self) -> None:
        """Subscribe to what has appeared since the last look."""
        for topic, types in self._node.get_topic_names_and_types():
            for kind in types:
                if (topic, kind) not in self._subscriptions and self._is_wanted(topic):
                    self._subscribe(topic, kind)

    def _is_wanted(self, topic: str) -> bool:
        return topic in self._topics if self._topics else '/_' not in topic

    def _subscribe(self, topic: str, kind: str) -> None:
        publishers = [
            info
            for info in self._node.get_publishers_info_by_topic(topic)
            if info.topic_type == kind
        ]
        if not publishers:
            return
        self._subscriptions[topic, kind] = None
        try:
            message = message_class(kind)
            with self._lock:
                connection = self._definitions.add_connection(
                    self._bag.writer, topic, kind, offered_qos(publishers)
                )
        except UnknownTypeError as error:
            self._node.get_logger().warning(f'{topic} is not recorded: {error}')
            return
        self._subscriptions[topic, kind] = self._node.create_subscription(
            message,
            topic,
            lambda data: self._receive(connection, data),
            subscribing_qos(publishers),
            raw=True,
        )

    def _receive(self, connection: Connection, data: bytes) -> None:
        arrived_ns = time.monotonic_ns()
        if self._on_message:
            self._on_message(connection.topic, data, arrived_ns)
        with self._lock:
            self.num_recorded += 1
            self._waiting.append((connection, data))
            now_ns = self._node.get_clock().now().nanoseconds
            if now_ns:
                self._write_waiting(now_ns)

    def _write_waiting(self, now_ns: int) -> None:
        for connection, data in self._waiting:
            self._bag.writer.write(connection, now_ns, data)
        self._waiting.clear()


def main(args: list[str] | None = None) -> int:
    """Record until interrupted; return 0, or 1 where no bag can be made."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(prog='bag_recorder', description=__doc__.splitlines()[0])
    parser.add_argument('bag', type=local_path, help='rosbag2 folder to make')
    parser.add_argument('--topics', nargs='+', default=(), metavar='TOPIC', help='only these')
    given = parser.parse_args(remove_ros_args(args or sys.argv)[1:])
    with tool_node('bag_recorder', args) as (node, stopped):
        try:
            recorder = BagRecorder(node, given.bag, given.topics)
            node.get_logger().info(f'recording into {given.bag}; Ctrl-C ends it')
            try:
                with spinning(node) as ended:
                    while not stopped.wait(0.1) and not ended.is_set():
                        pass
            finally:
                path = recorder.close()
            node.get_logger().info(f'{recorder.num_recorded} messages in {path}')
        except (BagError, OSError) as error:
            node.get_logger().error(str(error))
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
