"""Play a bag over ROS at its own rate, with ``/clock``; needs no rosbag2 tools.

Messages are sent as the bytes that were recorded. The command is bag_player.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
import threading
import time

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from offroad_seg_core.bags.definitions import UnknownTypeError
from offroad_seg_core.bags.library import Connection
from offroad_seg_core.bags.reading import Bag, BagError, contents
from offroad_seg_ros.bag_qos import publishing_qos
from offroad_seg_ros.message_types import message_class
from offroad_seg_ros.playback_timer import PlaybackTimer

# Writers and readers have found each other when the counts stay as they are for so long: a
# subscriber may replace its subscription once it has seen what the publisher offers.
_SETTLED_S = 0.5
_DELIVERY_TIMEOUT_S = 2.0
_MESSAGE_TICK_S = 0.001
_NUM_AHEAD = 8
"""Messages that are read before their time."""
_Message = tuple[Connection, int, bytes]


@dataclass(frozen=True)
class PlayerOptions:
    """How to play."""

    rate: float = 1.0
    """Bag seconds per second, above 0."""
    loop: bool = False
    start_paused: bool = False
    topics: tuple[str, ...] = ()
    """Play only these; empty: all."""
    remaps: Mapping[str, str] = field(default_factory=dict)
    """Recorded topic → topic to publish."""
    duration_s: float = float('inf')
    """Play only so many seconds of the bag."""
    clock_hz: float = 100.0
    """Rate of ``/clock``, which also ticks before messages; 0 publishes none."""

    def __post_init__(self) -> None:
        for name in ('rate', 'duration_s'):
            if not getattr(self, name) > 0:
                raise BagError(f'{name}: got {getattr(self, name)}, expected a number above 0')
        if not self.clock_hz >= 0:
            raise BagError(f'clock_hz: got {self.clock_hz}, expected 0 or more')


class BagPlayer:
    """Publish a bag's messages through a node.

    Args:
        node: what the publishers belong to. Nobody needs to spin it for playing.
        reader: an open bag, see open_bag; while it is played a thread reads it.
        options: how to play.
        on_publish: called after each message with the published topic, the serialized message
            and the steady-clock time (``time.monotonic_ns``) from before it was handed over.
    """

    def __init__(
        self,
        node: Node,
        reader: Bag,
        options: PlayerOptions | None = None,
        on_publish: Callable[[str, bytes, int], None] | None = None,
    ) -> None:
        self.options = options or PlayerOptions()
        if not reader.message_count:
            raise BagError('got a bag without messages, expected at least one to play')
        self.start_ns = reader.start_time
        length_ns = reader.end_time - self.start_ns
        self.end_ns = self.start_ns + int(min(length_ns, self.options.duration_s * 1e9))
        self.num_published = 0
        self.timer = PlaybackTimer(self.options.rate, self.options.start_paused)
        self._node, self._reader, self._on_publish = node, reader, on_publish
        self._stopped = threading.Event()
        self._connections: list[Connection] = []
        self._publishers: dict[tuple[str, str], Publisher] = {}
        self._create_publishers()
        self._clock = node.create_publisher(Clock, '/clock', 1) if self.options.clock_hz else None
        self._tick_s, self._last_tick_s = 1.0 / (self.options.clock_hz or 100.0), 0.0

    @property
    def topics(self) -> dict[str, str]:
        """The topics that are published, after remapping, and their types."""
        return {entry.topic_name: kind for (_, kind), entry in self._publishers.items()}

    def stop(self) -> None:
        """Make play() return soon; callable from any thread and from signal handlers."""
        self._stopped.set()

    def wait_for_subscribers(self, topics: Iterable[str], timeout_s: float) -> tuple[str, ...]:
        """Wait until each of these published topics has a steady number of subscribers above 0.

        ``/clock`` ticks at the start of the bag meanwhile. Returns the topics that have none even
        so, and those that are not published.
        """
        asked = {self._node.resolve_topic_name(topic): None for topic in topics}
        watched = [p for p in self._publishers.values() if p.topic_name in asked]
        deadline = time.monotonic() + timeout_s
        counts, since = None, time.monotonic()
        while not self._stopped.is_set() and time.monotonic() < deadline:
            now = [publisher.get_subscription_count() for publisher in watched]
            if now != counts:
                counts, since = now, time.monotonic()
            elif all(now) and time.monotonic() - since > _SETTLED_S:
                break
            self._tick(self.start_ns, 0.02)
            self._stopped.wait(0.02)
        served = {p.topic_name for p in watched if p.get_subscription_count()}
        return tuple(topic for topic in asked if topic not in served)

    def play(self) -> None:
        """Play to the end, over and over if asked to; return early after stop()."""
        while not self._stopped.is_set():
            self._play_once()
            if not self.options.loop:
                break
        self._wait_for_delivery()

    def _play_once(self) -> None:
        ended, reached_ns = threading.Event(), self.start_ns
        messages = self._reader.messages(self._connections, is_stopped=ended.is_set)

        def read() -> _Message | None:
            return next(messages, None)

        # Reading a message may mean to unpack a file, which takes seconds.
        with closing(messages), ThreadPoolExecutor(1) as thread:
            try:
                self.timer.restart()
                coming = deque(thread.submit(read) for _ in range(_NUM_AHEAD))
                while message := self._take(coming.popleft(), reached_ns):
                    coming.append(thread.submit(read))
                    reached_ns = message[1]
                    if reached_ns >= self.end_ns or not self._wait_until(reached_ns):
                        return
                    self._publish(message)
            finally:
                ended.set()
                thread.shutdown(cancel_futures=True)

    def _take(self, coming: Future[_Message | None], reached_ns: int) -> _Message | None:
        """Return the next message, None behind the last one or when stopped.

        Bag time stands still at ``reached_ns`` while its reader is late: else what would have been
        due meanwhile came all at once.
        """
        if coming.done():
            return coming.result()
        with self.timer.held():
            while not self._stopped.is_set():
                self._tick(reached_ns, self._tick_s)
                if wait([coming], self._tick_s).done:
                    return coming.result()
        return None

    def _publish(self, message: _Message) -> None:
        connection, _, data = message
        publisher = self._publishers[connection.topic, connection.msgtype]
        taken_ns = time.monotonic_ns()
        publisher.publish(bytes(data))
        self.num_published += 1
        if self._on_publish:
            self._on_publish(publisher.topic_name, data, taken_ns)

    def _wait_until(self, stamp_ns: int) -> bool:
        """Wait for bag time ``stamp_ns`` while the clock ticks; return False when stopped."""
        while not self._stopped.is_set():
            now_ns = self.start_ns + self.timer.elapsed_ns()
            missing_s = (stamp_ns - now_ns) / 1e9 / self.options.rate
            if missing_s <= 0 and not self.timer.paused:
                self._tick(stamp_ns, _MESSAGE_TICK_S)  # a message is not of the future
                return True
            self._tick(min(now_ns, stamp_ns), self._tick_s)
            self._stopped.wait(self._tick_s if self.timer.paused else min(missing_s, self._tick_s))
        return False

    def _tick(self, time_ns: int, period_s: float) -> None:
        """Publish ``/clock``, unless the last tick is not so long ago."""
        now_s = time.monotonic()
        if self._clock is None or now_s < self._last_tick_s + period_s:
            return
        self._last_tick_s = now_s
        seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
        self._clock.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))

    def _create_publishers(self) -> None:
        self._check_topics()
        recorded: dict[tuple[str, str], list[Connection]] = {}
        for connection in self._reader.connections:
            if not self.options.topics or connection.topic in self.options.topics:
                recorded.setdefault((connection.topic, connection.msgtype), []).append(connection)
        if self.options.clock_hz:
            # Two sources of time would make it jump to and fro.
            recorded = {key: value for key, value in recorded.items() if key[0] != '/clock'}
        for (topic, type_name), connections in recorded.items():
            try:
                message = message_class(type_name)
            except UnknownTypeError as error:
                self._node.get_logger().warning(f'{topic} is not played: {error}')
                continue
            qos = publishing_qos([q for c in connections for q in c.ext.offered_qos_profiles])
            name = self.options.remaps.get(topic, topic)
            self._publishers[topic, type_name] = self._node.create_publisher(message, name, qos)
            self._connections += connections
        if not self._publishers:
            raise BagError(f'got a bag without playable topics; it holds {contents(self._reader)}')

    def _check_topics(self) -> None:
        known = {connection.topic for connection in self._reader.connections}
        missing = sorted({*self.options.topics, *self.options.remaps} - known)
        if missing:
            raise BagError(
                f'topics: got {", ".join(missing)}, expected topics of the bag; it holds '
                f'{contents(self._reader)}'
            )

    def _wait_for_delivery(self) -> None:
        """Let reliable subscribers get the last messages before the publishers go."""
        deadline = time.monotonic() + _DELIVERY_TIMEOUT_S
        for publisher in self._publishers.values():
            if publisher.qos_profile.reliability != ReliabilityPolicy.RELIABLE:
                continue
            # In short steps: rclpy holds the interpreter lock meanwhile, and other threads wait.
            while not publisher.wait_for_all_acked(Duration(nanoseconds=1)):
                if time.monotonic() > deadline:
                    return
                time.sleep(0.01)
