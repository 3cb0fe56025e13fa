"""What was measured on this machine, remembered until something that it depends on changes."""

from __future__ import annotations

from dataclasses import dataclass
import hashlib
from importlib import metadata
import json
import logging
import os
from pathlib import Path
from typing import Any

from offroad_seg_core.files import atomic_path, user_cache_folder
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import has_nvidia_gpu
from offroad_seg_core.provenance import cpu_name

log = logging.getLogger(__name__)

_PACKAGES = (
    *('openvino', 'onnxruntime', 'onnxruntime-gpu', 'torch', 'cuda-bindings'),
    *('tensorrt', 'tensorrt-cu12', 'tensorrt-cu13', 'tensorrt-rtx'),
)


@dataclass(frozen=True)
class Choice:
    """The place of one answer: a JSON file whose name says all that it depends on."""

    file: Path

    @classmethod
    def of(
        cls, question: str, bundle: Bundle, cache_folder: Path | None, facts: list[Any]
    ) -> Choice:
        """Return the place of a question's answer for this bundle, machine and libraries.

        Args:
            question: What is chosen; a part of the file's name.
            bundle: What runs.
            cache_folder: None is the user's.
            facts: What else the answer depends on, as JSON.
        """
        depends_on = [
            facts,
            bundle.manifest.files,
            bundle.manifest.input.size,
            cpu_name(),
            len(os.sched_getaffinity(0)),
            has_nvidia_gpu(),
            [(name, version(name)) for name in _PACKAGES],
        ]
        digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
        return cls((cache_folder or user_cache_folder()) / 'choices' / f'{question}-{digest}.json')

    def read(self) -> dict[str, Any] | None:
        """Return the answer; None where there is none, or it is damaged."""
        try:
            answer = json.loads(self.file.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None

    def keep(self, answer: dict[str, Any]) -> None:
        """Remember an answer. A folder that cannot be written costs the memory only."""
        try:
            with atomic_path(self.file) as temporary:
                temporary.write_text(json.dumps(answer), encoding='utf-8')
        except OSError as error:
            log.info('the choice is not kept: %s', error)


def version(package: str) -> str:
    """Return the version of a package; '' where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ''
