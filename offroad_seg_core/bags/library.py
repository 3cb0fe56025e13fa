"""The parts of rosbags that are used here, or how to get it."""

try:
    from rosbags.interfaces import (
        Connection,
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    from rosbags.rosbag2 import Reader, ReaderError, StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore
except ImportError as error:
    raise ImportError(f'bags need rosbags ({error}); fix: pip install rosbags') from error

__all__ = [
    'Connection',
    'Qos',
    'QosDurability',
    'QosHistory',
    'QosLiveliness',
    'QosReliability',
    'QosTime',
    'Reader',
    'ReaderError',
    'StoragePlugin',
    'Stores',
    'Writer',
    'get_typestore',
]
