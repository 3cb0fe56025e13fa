"""Open rosbag2 bags: folders (mcap, sqlite3, zstd) and single ``.mcap`` or ``.db3`` files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from offroad_seg_core.bags.library import Reader, ReaderError


class BagError(ValueError):
    """A bag cannot be read or written, or does not hold what is needed."""


@contextmanager
def open_bag(path: str | Path) -> Iterator[Reader]:
    """Open a bag for reading; each way in which it can be unreadable becomes a BagError."""
    path = Path(path)
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        files = sorted([*path.glob('*.mcap'), *path.glob('*.db3')])
        if len(files) != 1:
            raise BagError(
                f'{path}: got a folder without metadata.yaml, expected a rosbag2 folder; fix: '
                'give one of its .mcap or .db3 files, or run `ros2 bag reindex`'
            )
        path = files[0]
    if not path.exists():
        raise BagError(f'{path}: no such bag; fix: give a rosbag2 folder or file')
    try:
        with Reader(path) as reader:
            yield reader
    except ReaderError as error:
        fix = 'if its recording was cut off: `ros2 bag reindex`'
        raise BagError(f'{path}: got {error}, expected a whole rosbag2 bag; {fix}') from error


def contents(reader: Reader) -> str:
    """Return the topics and types of an open bag for people to read."""
    topics = {f'{connection.topic} ({connection.msgtype})' for connection in reader.connections}
    return ', '.join(sorted(topics)) or 'no topics at all'
