"""Quality of service of inputs and outputs, and what the ROS graph tells about an input topic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import os

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.utilities import get_rmw_implementation_identifier

from offroad_seg_ros.installation import PROFILE_VARIABLES

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

OUTPUT_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
LATCHED_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


def input_qos(reliability: ReliabilityPolicy) -> QoSProfile:
    """Return what is asked of a publisher: volatile, only the newest message."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )


def output_events(node: Node, topic: str) -> PublisherEventCallbacks:
    """Return callbacks that tell when a subscriber asks for more than the output offers."""

    def warn(event: object) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        node.get_logger().warning(
            f'{topic}: a subscriber asks for {policy} that is not offered and receives nothing; '
            'fix: subscribe reliable or best effort, volatile'
        )

    return PublisherEventCallbacks(incompatible_qos=warn)


def input_events(
    node: Node, topic: str, on_lost: Callable[[int], None]
) -> SubscriptionEventCallbacks:
    """Return callbacks for publishers that offer too little, and for lost messages.

    Args:
        node: whose logger warns.
        topic: the input.
        on_lost: gets the number of messages newly reported lost.
    """

    def warn(event: object) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        node.get_logger().warning(
            f'{topic}: a publisher does not offer the requested {policy}; nothing is received '
            "from it; fix: set input_reliability to 'auto' or 'best_effort'"
        )

    return SubscriptionEventCallbacks(
        incompatible_qos=warn, message_lost=lambda event: on_lost(event.total_count_change)
    )


@dataclass(frozen=True)
class TopicState:
    """What the graph knows about the publishers of one input."""

    num_publishers: int
    reliability: ReliabilityPolicy
    """Reliable if every publisher of the right type offers it."""
    problem: str
    """Why no frame can come, with the fix; empty if one can."""


def inspect_topic(node: Node, topic: str, message_type: str) -> TopicState:
    """Look up who publishes a topic.

    Args:
        node: any node of this process.
        topic: the resolved name.
        message_type: such as `sensor_msgs/msg/Image`.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    fitting = [entry for entry in publishers if entry.topic_type == message_type]
    is_reliable = bool(fitting) and all(
        entry.qos_profile.reliability == ReliabilityPolicy.RELIABLE for entry in fitting
    )
    problem = ''
    if publishers and not fitting:
        types = ', '.join(sorted({entry.topic_type for entry in publishers}))
        problem = f'{topic}: got type {types}, expected {message_type}; {_hint(types)}'
    elif not publishers:
        problem = f'{topic}: nobody publishes it; {_image_topics(node)}'
    reliability = ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT
    return TopicState(len(fitting), reliability, problem)


def _hint(types: str) -> str:
    if 'CompressedImage' in types:
        return "fix: set transport to 'compressed' and remap <camera>/image/compressed"
    if 'sensor_msgs/msg/Image' in types:
        return "fix: set transport to 'raw' and remap <camera>/image"
    return 'fix: remap the input to an image topic'


def _image_topics(node: Node) -> str:
    found = [
        f'{name} ({kind.rpartition("/")[2]})'
        for name, kinds in node.get_topic_names_and_types()
        for kind in kinds
        if kind in IMAGE_TYPES and '/segmentation/' not in name and _has_publisher(node, name)
    ]
    if not found:
        return 'no image topic is published at all; fix: start the camera driver'
    return f'image topics that are published: {", ".join(sorted(found))}; fix: remap the input'


def _has_publisher(node: Node, topic: str) -> bool:
    return node.count_publishers(topic) > 0


def missing_profile() -> bool:
    """Tell whether Fast DDS runs without a profile file, so that large frames get lost."""
    uses_fastdds = 'fastrtps' in get_rmw_implementation_identifier()
    return uses_fastdds and not any(os.environ.get(name) for name in PROFILE_VARIABLES)
