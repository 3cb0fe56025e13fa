"""The parts of rosbags that are used here, or how to get it."""

try:
    from rosbags.interfaces import (
        Connection,
        ConnectionExtRosbag2,
        MessageDefinition,
        MessageDefinitionFormat,
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    from rosbags.rosbag2 import CompressionMode, Reader, ReaderError, StoragePlugin, Writer
    from rosbags.rosbag2.metadata import ReaderMetadata, parse_qos
    from rosbags.rosbag2.reader import zstd  # from the standard library or its backport
    from rosbags.rosbag2.storage_mcap import McapReader
    from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader, apsw
    from rosbags.serde import SerdeError
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    from rosbags.typesys.store import Typestore
except ImportError as error:
    raise ImportError(f'bags need rosbags ({error}); fix: pip install rosbags') from error

__all__ = [
    'CompressionMode',
    'Connection',
    'ConnectionExtRosbag2',
    'McapReader',
    'MessageDefinition',
    'MessageDefinitionFormat',
    'Qos',
    'QosDurability',
    'QosHistory',
    'QosLiveliness',
    'QosReliability',
    'QosTime',
    'Reader',
    'ReaderError',
    'ReaderMetadata',
    'SerdeError',
    'Sqlite3Reader',
    'StoragePlugin',
    'Stores',
    'Typestore',
    'Writer',
    'apsw',
    'get_types_from_msg',
    'get_typestore',
    'parse_qos',
    'zstd',
]
