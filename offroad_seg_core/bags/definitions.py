"""Message definitions by type name, which a bag stores beside its messages."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import re
import struct
import sys
from typing import Any

from offroad_seg_core.bags.library import (
    Stores,
    Typestore,
    Writer,
    get_types_from_msg,
    get_typestore,
)

_TYPE_NAME = re.compile(r'([A-Za-z]\w*)/msg/([A-Za-z]\w*)')
_FIELD_TYPE = re.compile(r'^\s*(?:([A-Za-z]\w*)/)?([A-Z]\w*)(?:<=\d+)?(?:\[[^\]]*\])?\s+\w', re.M)


class UnknownTypeError(ValueError):
    """A message type is not installed on this machine."""


def split_type(type_name: str) -> tuple[str, str]:
    """Return package and name of a type such as ``sensor_msgs/msg/Image``.

    Raises:
        UnknownTypeError: It is no name of a message type.
    """
    match = _TYPE_NAME.fullmatch(type_name)
    if match is None:
        raise UnknownTypeError(f'got message type {type_name!r}, expected package/msg/Name')
    return match[1], match[2]


def header_stamp_ns(data: bytes) -> int:
    """Return the header stamp of a serialized message whose first field is a std_msgs/Header.

    CDR: four bytes that name the byte order, then int32 seconds and uint32 nanoseconds.
    """
    order = '<' if data[1] & 1 else '>'
    seconds, nanoseconds = struct.unpack_from(f'{order}iI', data, 4)
    return seconds * 1_000_000_000 + nanoseconds


def header_frame_id(data: bytes) -> str:
    """Return the header's frame_id of such a message: a length with its closing zero, the text."""
    (length,) = struct.unpack_from('<I' if data[1] & 1 else '>I', data, 12)
    return bytes(data[16 : 15 + length]).decode(errors='replace')


class Definitions:
    """Message definitions and their hashes.

    The common packages come with rosbags; others are read from the installed ``.msg`` files.
    """

    def __init__(self) -> None:
        distro = os.environ.get('ROS_DISTRO', 'jazzy').upper()
        self.store: Typestore = get_typestore(getattr(Stores, f'ROS2_{distro}', Stores.ROS2_JAZZY))

    def add_connection(self, writer: Writer, topic: str, type_name: str, qos: Any = ()) -> Any:
        """Add a topic to an open writer and return its connection.

        Raises:
            UnknownTypeError: No definition of the type is found.
        """
        self.learn(type_name)
        return writer.add_connection(
            topic, type_name, typestore=self.store, offered_qos_profiles=qos
        )

    def learn(self, type_name: str) -> None:
        """Make sure that the store knows a type and all types in it."""
        if type_name in self.store.fielddefs:
            return
        home, name = split_type(type_name)
        path = next(_definition_files(home, name), None)
        if path is None:
            raise UnknownTypeError(
                f'no definition of message type {type_name} is installed; fix: source the '
                'workspace that has it'
            )
        text = path.read_text(encoding='utf-8')
        for package, part in _FIELD_TYPE.findall(text):
            self.learn(f'{package or ("std_msgs" if part == "Header" else home)}/msg/{part}')
        self.store.register(get_types_from_msg(text, type_name))


def _definition_files(package: str, name: str) -> Iterator[Path]:
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    for prefix in filter(None, prefixes):
        path = Path(prefix) / 'share' / package / 'msg' / f'{name}.msg'
        if path.is_file():
            yield path
