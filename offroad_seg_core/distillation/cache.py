"""The teachers' answers on disk, so that each frame is shown to them once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from offroad_seg_core.config import ConfigError
from offroad_seg_core.datasets.analysis.scan_cache import fingerprint
from offroad_seg_core.datasets.picture_files import read_file, read_image
from offroad_seg_core.distillation.config import SoftLabelConfig
from offroad_seg_core.distillation.soft_labels import ClassSet, SoftLabels
from offroad_seg_core.files import atomic_path

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
_MANIFEST = 'manifest.json'
_HASHES = 'frames.json'
_LOG_EVERY = 100  # frames


class SoftLabelCache:
    """A folder with one file for each frame, named by the content of its picture.

    It may be filled by several processes at once, killed at any time and gone on with: files
    appear whole, and what is there is not made again.

    Args:
        config: Where, and what is kept.
        identity: What the answers depend on besides the frame, of plain values.
        classes: What the answers are about.

    Raises:
        ConfigError: The folder holds answers of other teachers or options.
    """

    def __init__(
        self, config: SoftLabelConfig, identity: Mapping[str, Any], classes: ClassSet
    ) -> None:
        self.config = config
        self.classes = classes
        expected = {
            'format_version': FORMAT_VERSION,
            **identity,
            'num_classes': classes.num_classes,
            'known_classes': list(classes.known),
            'top_k': config.top_k,
            'storage': config.storage,
        }
        path = config.folder / _MANIFEST
        if not path.exists():
            _write_json(path, expected)
            return
        found = json.loads(path.read_text(encoding='utf-8'))
        differences = list(_differences(found, expected))
        if differences:
            raise ConfigError(
                f'{config.folder}: holds soft labels of other teachers or options: '
                f'{"; ".join(differences[:4])}; name another distillation.soft_labels.folder, '
                'or delete this one'
            )

    def fill(
        self,
        pictures: Sequence[Path],
        answer: Callable[[np.ndarray], np.ndarray],
        part: tuple[int, int] = (0, 1),
    ) -> list[Path]:
        """Make the answers that are missing; return the file of each picture.

        Args:
            pictures: Of the frames.
            answer: From an RGB image, ``(H, W, 3)`` uint8, to probabilities ``(C, h, w)``; only
                called if one is missing.
            part: Number of this process and of all that fill the same cache; each begins
                elsewhere and goes on until nothing is missing.

        Raises:
            DatasetError: A picture cannot be read.
        """
        hashes = self._hashes(pictures)
        files = [self.config.folder / 'frames' / f'{digest[:32]}.npz' for digest in hashes]
        start = part[0] * len(files) // part[1]
        order = [*range(start, len(files)), *range(start)]
        missing = [index for index in order if not files[index].exists()]
        if missing:
            log.info('teachers answer %d of %d frames', len(missing), len(files))
        for count, index in enumerate(missing, 1):
            if files[index].exists():  # a frame that is there twice, or another process made it
                continue
            image = read_image(pictures[index])
            SoftLabels.of(
                answer(image),
                image.shape[:2],
                self.classes,
                self.config.top_k,
                self.config.storage,
            ).write(files[index])
            if count % _LOG_EVERY == 0:
                log.info('%d of %d frames answered', count, len(missing))
        return files

    def _hashes(self, pictures: Sequence[Path]) -> list[str]:
        """Return the SHA-256 of each picture; those of unchanged files are remembered."""
        path = self.config.folder / _HASHES
        known: dict[str, list[str]] = {}
        if path.exists():
            known = json.loads(path.read_text(encoding='utf-8'))

        def entry(picture: Path) -> list[str]:
            mark = fingerprint(picture) or ''
            before = known.get(str(picture.resolve()))
            if before is not None and mark and before[0] == mark:
                return before
            return [mark, hashlib.sha256(read_file(picture)).hexdigest()]

        with ThreadPoolExecutor() as pool:
            entries = list(pool.map(entry, pictures))
        merged = known | {str(p.resolve()): e for p, e in zip(pictures, entries, strict=True)}
        if merged != known:
            _write_json(path, merged)
        return [digest for _, digest in entries]


def _write_json(path: Path, content: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding='utf-8')


def _differences(found: Any, expected: Any, name: str = '') -> Iterator[str]:
    """Yield what differs between two values from JSON, by place."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in {**expected, **found}:
            place = f'{name}.{key}' if name else key
            yield from _differences(found.get(key), expected.get(key), place)
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, pair in enumerate(zip(found, expected, strict=True)):
            yield from _differences(*pair, f'{name}[{index}]')
    elif found != expected:
        yield f'{name}: got {_short(found)}, expected {_short(expected)}'


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else f'{text[:12]}…'
