"""Models that OpenVINO compiled, on disk: taking one in is several times as fast as compiling.

    ~/.cache/offroad_seg/engines/openvino-2026.4.1/0f3c….blob   32 bytes SHA-256, then the model

OpenVINO has a cache of its own, which takes in damaged files without a word. Here a file is used
only if it is whole and OpenVINO accepts it; else the model is compiled, as without this cache.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from offroad_seg_core.files import atomic_path, user_cache_folder

log = logging.getLogger(__name__)

_HASH_BYTES = 32
_MOST_FILES = 64
"""Of one version; the one that was used longest ago goes."""


class CompiledModels:
    """Compiled models of one version of OpenVINO. Several processes may use them at once.

    Args:
        folder: Of all caches; None is the user's.
        version: OpenVINO's, whole.
        facts: What every compiled model depends on besides: the graph, the processor, the
            settings. Plain data.
    """

    def __init__(self, folder: Path | None, version: str, facts: dict[str, Any]) -> None:
        self._folder = (folder or user_cache_folder()) / 'engines' / f'openvino-{version}'
        self._facts = facts

    def take(self, what: list[Any], open_: Callable[[bytes], Any]) -> Any | None:
        """Return what ``open_`` makes of a stored model; None where there is none to use.

        Args:
            what: Tells the models of one graph apart; plain data.
            open_: Raises RuntimeError for a model that it cannot take.
        """
        file = self._file(what)
        try:
            content = file.read_bytes()
        except OSError:
            return None
        stored, blob = content[:_HASH_BYTES], content[_HASH_BYTES:]
        if hashlib.sha256(blob).digest() != stored:
            log.info('%s is damaged: compiled again', file)
            return None
        try:
            model = open_(blob)
        except RuntimeError as error:
            log.info('%s is refused (%s): compiled again', file, error)
            return None
        with suppress(OSError):  # not ours to write
            os.utime(file)
        return model

    def keep(self, what: list[Any], blob: bytes) -> None:
        """Store a compiled model; without a word where nothing can be written."""
        file = self._file(what)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as temporary:
                temporary.write_bytes(hashlib.sha256(blob).digest() + blob)
            self._remove_oldest()
        except OSError as error:
            log.debug('%s is not kept: %s', file, error)

    def _remove_oldest(self) -> None:
        files = sorted(self._folder.glob('*.blob'), key=lambda file: file.stat().st_mtime_ns)
        for file in files[:-_MOST_FILES]:
            file.unlink(missing_ok=True)

    def _file(self, what: list[Any]) -> Path:
        facts = json.dumps([self._facts, what], sort_keys=True)
        return self._folder / f'{hashlib.sha256(facts.encode()).hexdigest()[:32]}.blob'
