"""Read sqlite3 storage that was cut off or is still being written: the rows that are whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
import sqlite3
from typing import NamedTuple
from urllib.parse import quote

from offroad_seg_core.bags.library import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    ReaderMetadata,
    parse_qos,
)

_NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, '')


class _Row(NamedTuple):
    time_ns: int
    id: int
    topic_id: int


class MendedSqlite:
    """The rows of a database file without its end, in the order of their times.

    Args:
        path: The file.

    Raises:
        sqlite3.Error: Not even the list of topics can be read.

    Attributes:
        connections: Topics; message counts are those of whole messages.
        start_time: Of the first message, ns.
        end_time: Behind the last message, ns.
        message_count: Whole messages.
    """

    def __init__(self, path: Path) -> None:
        uri = f'file:{quote(str(path))}?mode=ro'
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        # Without it SQLite refuses a file that has fewer pages than its header says.
        self._database.execute('PRAGMA writable_schema = ON')
        self._database.row_factory = sqlite3.Row
        topics = self._database.execute('SELECT * FROM topics').fetchall()
        self._rows = self._whole_rows()
        counts = Counter(row.topic_id for row in self._rows)
        self.connections = [self._connection(topic, counts[topic['id']]) for topic in topics]
        start_ns = self._rows[0].time_ns if self._rows else 2**63 - 1
        end_ns = self._rows[-1].time_ns + 1 if self._rows else 0
        duration_ns = max(0, end_ns - start_ns)
        self.metadata = ReaderMetadata(
            duration_ns, start_ns, end_ns, len(self._rows), None, None, None, None
        )

    def messages(
        self, connections: Collection[Connection], start: int | None, stop: int | None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield (connection, time ns, serialized message) from ``start`` to before ``stop``."""
        wanted = {connection.id: connection for connection in connections}
        for row in self._rows:
            is_inside = (start is None or row.time_ns >= start) and (
                stop is None or row.time_ns < stop
            )
            if is_inside and row.topic_id in wanted:
                yield wanted[row.topic_id], row.time_ns, self._data(row)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _connection(self, topic: sqlite3.Row, num_messages: int) -> Connection:
        # Recordings of 2020 and before have no profiles.
        qos = dict(topic).get('offered_qos_profiles', '')
        return Connection(
            id=topic['id'],
            topic=topic['name'],
            msgtype=topic['type'],
            msgdef=_NO_DEFINITION,
            digest='',
            msgcount=num_messages,
            ext=ConnectionExtRosbag2(topic['serialization_format'], parse_qos(qos)),
            owner=self,
        )

    def _whole_rows(self) -> list[_Row]:
        rows = []
        with suppress(sqlite3.DatabaseError):  # the first page that is missing
            for row in self._database.execute(
                'SELECT timestamp, id, topic_id FROM messages ORDER BY id'
            ):
                rows.append(_Row(*row))
        # Large messages lie behind their rows: of the last ones only a beginning may be there.
        while rows and not self._is_whole(rows[-1]):
            rows.pop()
        return sorted(rows)

    def _is_whole(self, row: _Row) -> bool:
        try:
            self._data(row)
        except (sqlite3.DatabaseError, TypeError):
            return False
        return True

    def _data(self, row: _Row) -> bytes:
        return self._database.execute(
            'SELECT data FROM messages WHERE id = ?', (row.id,)
        ).fetchone()[0]
