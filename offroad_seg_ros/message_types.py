"""Message types by name: their classes, and their definitions for bags."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
import os
from pathlib import Path
import re
import struct
import sys
from typing import Any

from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

_TYPE_NAME = re.compile(r'([A-Za-z]\w*)/msg/([A-Za-z]\w*)')
_FIELD_TYPE = re.compile(r'^\s*(?:([A-Za-z]\w*)/)?([A-Z]\w*)(?:<=\d+)?(?:\[[^\]]*\])?\s+\w', re.M)


class UnknownTypeError(ValueError):
    """A message type is not installed on this machine."""


def message_class(type_name: str) -> type:
    """Import the class of a type such as ``sensor_msgs/msg/Image``.

    Raises:
        UnknownTypeError: The package or the message is not installed or not sourced.
    """
    match = _TYPE_NAME.fullmatch(type_name)
    if match is None:
        raise UnknownTypeError(f'got message type {type_name!r}, expected package/msg/Name')
    try:
        return getattr(import_module(f'{match[1]}.msg'), match[2])
    except (ImportError, AttributeError) as error:
        raise UnknownTypeError(
            f'message type {type_name} is not installed; fix: install {match[1]} or source the '
            'workspace that has it'
        ) from error


def header_stamp_ns(data: bytes) -> int:
    """Return the header stamp of a serialized message whose first field is a std_msgs/Header.

    CDR: four bytes that name the byte order, then int32 seconds and uint32 nanoseconds.
    """
    order = '<' if data[1] & 1 else '>'
    seconds, nanoseconds = struct.unpack_from(f'{order}iI', data, 4)
    return seconds * 1_000_000_000 + nanoseconds


class Definitions:
    """Message definitions and their hashes, which a bag stores beside the messages.

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
        match = _TYPE_NAME.fullmatch(type_name)
        path = next(_definition_files(match[1], match[2]), None) if match else None
        if match is None or path is None:
            raise UnknownTypeError(
                f'no definition of message type {type_name} is installed; fix: source the '
                'workspace that has it'
            )
        text = path.read_text(encoding='utf-8')
        for package, name in _FIELD_TYPE.findall(text):
            home = package or ('std_msgs' if name == 'Header' else match[1])
            self.learn(f'{home}/msg/{name}')
        self.store.register(get_types_from_msg(text, type_name))


def _definition_files(package: str, name: str) -> Iterator[Path]:
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    for prefix in filter(None, prefixes):
        path = Path(prefix) / 'share' / package / 'msg' / f'{name}.msg'
        if path.is_file():
            yield path
