"""Quality of service: from a bag to rclpy, from live publishers to rclpy and to a bag."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from offroad_seg_core.bags.library import Qos, QosDurability, QosHistory, QosReliability
from offroad_seg_core.bags.writing import FALLBACK_DEPTH, bag_qos

RECORDING_DEPTH = 50


def publishing_qos(recorded: Sequence[Qos]) -> QoSProfile:
    """Return what to offer for a topic that was recorded from publishers with these profiles.

    Reliability, durability and history are kept; where the publishers differed, the offer that
    every subscriber of any of them accepts. Deadline, lifespan and liveliness are not: they are
    promises about the original rate. Nothing recorded: reliable, volatile, depth 10.
    """
    best_effort = bool(recorded) and all(
        entry.reliability is QosReliability.BEST_EFFORT for entry in recorded
    )
    latched = any(entry.durability is QosDurability.TRANSIENT_LOCAL for entry in recorded)
    keep_all = any(entry.history is QosHistory.KEEP_ALL for entry in recorded)
    return QoSProfile(
        history=HistoryPolicy.KEEP_ALL if keep_all else HistoryPolicy.KEEP_LAST,
        depth=max((entry.depth for entry in recorded), default=0) or FALLBACK_DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def subscribing_qos(publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """Return the strictest request that all these publishers satisfy."""
    offers = [info.qos_profile for info in publishers]
    reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
    latched = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=RECORDING_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def offered_qos(publishers: Sequence[TopicEndpointInfo]) -> list[Qos]:
    """Return the different offers of these publishers as a bag stores them.

    DDS discovery does not tell history and depth; they are stored as the fallback depth.
    """
    offers = []
    for info in publishers:
        profile = info.qos_profile
        latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        reliable = profile.reliability == ReliabilityPolicy.RELIABLE
        offer = bag_qos(reliable=reliable, latched=latched, depth=profile.depth)
        if offer not in offers:
            offers.append(offer)
    return offers
