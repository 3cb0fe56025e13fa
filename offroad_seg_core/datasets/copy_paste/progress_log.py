"""Long work that can be stopped at any time: what is done stands in a file, one line a piece."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from offroad_seg_core.datasets.picture_files import DatasetError


class ProgressLog:
    """Remember finished pieces of work across interruptions.

    Args:
        path: JSON lines: the claim, then a [key, record] pair for each finished piece.
        claim: Identifies the work; a log of other work is not gone on with.

    Attributes:
        done: Record of each finished piece by its key.

    Raises:
        DatasetError: The file is of other work.
    """

    def __init__(self, path: Path, claim: str) -> None:
        self.done: dict[int, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = 0
        if path.is_file():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b'\n'):
                    break  # the last write was cut off; that piece is done again
                self._take(path, json.loads(line), claim, kept == 0)
                kept += len(line)
        self._stream = open(path, 'ab')  # noqa: SIM115 - closed by __exit__
        self._stream.truncate(kept)
        if not kept:
            self._write(claim)

    def _take(self, path: Path, content: Any, claim: str, is_first: bool) -> None:
        if not is_first:
            self.done[content[0]] = content[1]
        elif content != claim:
            raise DatasetError(
                f'{path.parent}: holds unfinished work on other frames or with other options; '
                'use those again, remove the folder, or name another one'
            )

    def add(self, key: int, record: Any) -> None:
        """Note a finished piece; its files must be written already."""
        self._write([key, record])
        # Read back like after an interruption, so that both ways give the same result.
        self.done[key] = json.loads(json.dumps(record))

    def _write(self, content: Any) -> None:
        self._stream.write(json.dumps(content).encode() + b'\n')
        self._stream.flush()

    def __enter__(self) -> ProgressLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.fsync(self._stream.fileno())
        self._stream.close()
