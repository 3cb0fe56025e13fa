"""Pictures out of bags, by topic and stamp."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from offroad_seg_core.bags.camera_topics import COMPRESSED_TYPE
from offroad_seg_core.bags.definitions import header_stamp_ns
from offroad_seg_core.bags.reading import open_bag
from offroad_seg_ros.conversions import FrameError, image_from_compressed, image_from_message


def read_images(
    bag: Path, topics: Collection[str], stamps: Mapping[str, Collection[int]] | None = None
) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """Yield (topic, header stamp ns, bag time ns, pixels) in the order of the bag.

    Pixels are BGR ``(H, W, 3)``, or ``(H, W)`` of mono images, uint8. Images that cannot be
    decoded are left out, as the node leaves them out.

    Args:
        bag: what to read.
        topics: of images, raw or compressed.
        stamps: topic → header stamps to decode; None: all.
    """
    with open_bag(bag) as reader:
        connections = [entry for entry in reader.connections if entry.topic in topics]
        if not connections:
            return
        for connection, time_ns, data in reader.messages(connections):
            stamp_ns = header_stamp_ns(data)
            if stamps is None or stamp_ns in stamps[connection.topic]:
                pixels = _decode(connection.msgtype, bytes(data))
                if pixels is not None:
                    yield connection.topic, stamp_ns, time_ns, pixels


def _decode(kind: str, data: bytes) -> np.ndarray | None:
    try:
        if kind == COMPRESSED_TYPE:
            return image_from_compressed(deserialize_message(data, CompressedImage)).pixels
        image = image_from_message(deserialize_message(data, Image))
    except FrameError:
        return None
    return image.pixels if image.color_order == 'mono' else image.bgr()
