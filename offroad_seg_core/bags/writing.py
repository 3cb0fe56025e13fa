"""Write rosbag2 bags (mcap) that appear under their names when they are complete."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import shutil
from typing import Any, cast
import uuid

import numpy as np

from offroad_seg_core.bags.camera_topics import COMPRESSED_TYPE, IMAGE_TYPE
from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.bags.library import (
    CompressionMode,
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
    StoragePlugin,
    Writer,
)
from offroad_seg_core.bags.reading import BagError

# Newer versions of the format cannot be read on Humble.
BAG_VERSION = 8
FALLBACK_DEPTH = 10
STRING_TYPE = 'std_msgs/msg/String'
_FOREVER = QosTime(2147483647, 4294967295)


def bag_qos(*, reliable: bool = True, latched: bool = False, depth: int = 0) -> Qos:
    """Return an offer as a bag stores it; depth 0 is the fallback depth."""
    return Qos(
        QosHistory.KEEP_LAST,
        depth or FALLBACK_DEPTH,
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


class AtomicBag:
    """A bag being written that appears under its name when it is closed.

    Args:
        path: the rosbag2 folder to make; must not exist.
        compressed: compress the chunks of the file (zstd), as every reader of mcap understands.
    """

    def __init__(self, path: str | Path, compressed: bool = False) -> None:
        self.path = Path(path)
        if self.path.exists():
            fix = 'give another name or remove it first'
            raise BagError(f'{self.path}: got a path that exists, expected a new one; {fix}')
        # The writer names the files inside after the folder, so that one has its final name.
        self._temporary = self.path.with_name(f'.{self.path.name}.{uuid.uuid4().hex[:8]}')
        self._temporary.mkdir(parents=True)
        self.writer = Writer(
            self._temporary / self.path.name,
            version=cast(Any, BAG_VERSION),
            storage_plugin=StoragePlugin.MCAP,
        )
        if compressed:
            # The format is for modes that compress more than chunks.
            self.writer.compression_mode = CompressionMode.STORAGE
        self.writer.open()

    def close(self) -> None:
        """Complete the bag and give it its name."""
        self.writer.close()
        (self._temporary / self.path.name).rename(self.path)
        self._temporary.rmdir()

    def discard(self) -> None:
        """Remove what was written."""
        self.writer.abort()
        shutil.rmtree(self._temporary, ignore_errors=True)


@dataclass(frozen=True)
class Header:
    """The header of a message.

    Attributes:
        stamp_ns: When the picture was taken.
        frame_id: Coordinate frame of the camera.
    """

    stamp_ns: int
    frame_id: str = ''


class MessageBag:
    """A bag of pictures and texts being written.

    A context manager: the bag appears when its block ends well.

    Args:
        path: the rosbag2 folder to make; must not exist.
        compressed: see AtomicBag.
    """

    def __init__(self, path: str | Path, compressed: bool = False) -> None:
        self._bag = AtomicBag(path, compressed)
        self._definitions = Definitions()
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> MessageBag:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Complete the bag."""
        self._bag.close()

    def discard(self) -> None:
        """Leave no bag."""
        self._bag.discard()

    def set_custom_data(self, key: str, value: str) -> None:
        """Store a text in the bag's metadata."""
        self._bag.writer.set_custom_data(key, value)

    def write_image(
        self, topic: str, time_ns: int, header: Header, pixels: np.ndarray, encoding: str
    ) -> None:
        """Write an image; ``pixels`` is (H, W) or (H, W, C) uint8, ``time_ns`` bag time."""
        height, width = pixels.shape[:2]
        flat = np.ascontiguousarray(pixels).reshape(-1)
        fields = (height, width, encoding, 0, flat.size // height, flat)
        self.write(topic, IMAGE_TYPE, time_ns, self.make_header(header), *fields)

    def write_compressed(
        self, topic: str, time_ns: int, header: Header, data: np.ndarray, format: str
    ) -> None:
        """Write a picture file's content, (N,) uint8; ``format`` as image_transport says it."""
        self.write(topic, COMPRESSED_TYPE, time_ns, self.make_header(header), format, data)

    def write_latched(self, topic: str, time_ns: int, text: str) -> None:
        """Write a text that subscribers also get when they come later."""
        self.write(topic, STRING_TYPE, time_ns, text, qos=bag_qos(latched=True, depth=1))

    def write(
        self, topic: str, kind: str, time_ns: int, *fields: object, qos: Qos | None = None
    ) -> None:
        """Write a message of any common type, from the values of its fields in their order."""
        if topic not in self._connections:
            self._connections[topic] = self._definitions.add_connection(
                self._bag.writer, topic, kind, [qos or bag_qos()]
            )
        data = self._definitions.store.serialize_cdr(self.make(kind, *fields), kind)
        self._bag.writer.write(self._connections[topic], time_ns, data)

    def make(self, kind: str, *fields: Any) -> Any:
        """Return a message that is part of others."""
        return self._definitions.store.types[kind](*fields)

    def make_header(self, header: Header) -> object:
        """Return a std_msgs/Header."""
        stamp = self.make('builtin_interfaces/msg/Time', *divmod(header.stamp_ns, 1_000_000_000))
        return self.make('std_msgs/msg/Header', stamp, header.frame_id)
