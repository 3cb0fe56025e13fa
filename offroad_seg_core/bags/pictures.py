"""Read camera pictures out of a bag, by topic and stamp."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
import logging
from pathlib import Path
from typing import Any

from offroad_seg_core.bags.camera_images import (
    CameraImage,
    FrameError,
    image_from_compressed,
    image_from_message,
)
from offroad_seg_core.bags.camera_topics import (
    COMPRESSED_TYPE,
    TRANSPORTS,
    CameraTopic,
    camera_names,
    find_all_cameras,
)
from offroad_seg_core.bags.definitions import header_stamp_ns
from offroad_seg_core.bags.library import SerdeError, Stores, Typestore, get_typestore
from offroad_seg_core.bags.reading import Bag, BagError, contents, open_bag

log = logging.getLogger(__name__)

_FIX = 'fix: name the topics of the pictures (--topics TOPIC)'


@dataclass(frozen=True)
class Picture:
    """One picture of a camera.

    Attributes:
        camera: Short name of its camera, see ``camera_names``.
        stamp_ns: Of the message's header.
        image: Its pixels.
    """

    camera: str
    stamp_ns: int
    image: CameraImage


def read_pictures(
    bag: str | Path, topics: Sequence[str] = (), every: int = 1
) -> Iterator[Picture]:
    """Yield the pictures of cameras in the order of the bag.

    Pictures that cannot be decoded are left out; their number is logged.

    Args:
        bag: A rosbag2 folder, or one of its files.
        topics: Of sensor_msgs/Image or CompressedImage; empty: those of every camera.
        every: Of each topic, the first picture and every so many after it.

    Raises:
        BagError: The bag cannot be read, has no camera, or lacks a topic.
    """
    seen: Counter[str] = Counter()
    broken: list[str] = []
    with open_bag(bag) as reader:
        cameras = choose_cameras(reader, topics)
        wanted = [entry for entry in reader.connections if entry.topic in cameras]
        for connection, _, data in reader.messages(wanted):
            seen[connection.topic] += 1
            if (seen[connection.topic] - 1) % every:
                continue
            try:
                image = decode_picture(connection.msgtype, data)
            except FrameError as error:
                broken.append(f'{connection.topic}: {error}')
                continue
            yield Picture(cameras[connection.topic].name, header_stamp_ns(data), image)
    if broken:
        log.warning('%s: %d pictures left out; the first: %s', bag, len(broken), broken[0])


def decode_picture(kind: str, data: bytes) -> CameraImage:
    """Return the pixels of a serialized sensor_msgs/Image or CompressedImage.

    Raises:
        FrameError: It holds no usable picture.
    """
    message = deserialize(kind, data)
    if kind == COMPRESSED_TYPE:
        return image_from_compressed(message)
    return image_from_message(message)


def deserialize(kind: str, data: bytes) -> Any:
    """Return a message of a common type, from its bytes.

    Raises:
        FrameError: They are no such message.
    """
    try:
        return _store().deserialize_cdr(data, kind)
    except SerdeError as error:
        got = f'{len(data)} bytes that say otherwise ({error})'
        raise FrameError.of('message', got, kind, 'check the recording') from error


@cache
def _store() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


def choose_cameras(bag: Bag, topics: Sequence[str] = ()) -> dict[str, CameraTopic]:
    """Return topic -> camera: of every camera of an open bag, or of the named topics.

    Raises:
        BagError: There is no camera, or a topic is not there or carries no pictures.
    """
    types = {entry.topic: entry.msgtype for entry in bag.connections}
    if not topics:
        found = find_all_cameras(types)
        if not found:
            raise BagError(
                f'{bag.path}: got no topic that is a camera by its name, expected one of '
                f'sensor_msgs/Image or CompressedImage; it holds {contents(bag)}; {_FIX}'
            )
        return {camera.input_topic: camera for camera in found}
    wrong = [topic for topic in topics if types.get(topic) not in TRANSPORTS]
    if wrong:
        raise BagError(
            f'{bag.path}: got {", ".join(wrong)}, expected topics of sensor_msgs/Image or '
            f'CompressedImage; it holds {contents(bag)}; {_FIX}'
        )
    names = camera_names(list(topics))
    return {
        topic: CameraTopic(name, topic, TRANSPORTS[types[topic]])
        for name, topic in zip(names, topics, strict=True)
    }
