"""Message types by name: their classes."""

from __future__ import annotations

from importlib import import_module

from offroad_seg_core.bags.definitions import UnknownTypeError, split_type


def message_class(type_name: str) -> type:
    """Import the class of a type such as ``sensor_msgs/msg/Image``.

    Raises:
        UnknownTypeError: The package or the message is not installed or not sourced.
    """
    package, name = split_type(type_name)
    try:
        return getattr(import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise UnknownTypeError(
            f'message type {type_name} is not installed; fix: install {package} or source the '
            'workspace that has it'
        ) from error
