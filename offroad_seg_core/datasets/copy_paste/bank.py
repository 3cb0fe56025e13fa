"""A bank of cut-out objects of rare classes, with what was learned about where they stand.

    <bank>/bank.json            classes, counts, profiles, digests
    <bank>/instances.jsonl      one line an object
    <bank>/<class>/<stem>_<number>.png    RGBA

Every file is checked against its SHA-256 when it is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from offroad_seg_core.datasets.picture_files import DatasetError, decode, read_file
from offroad_seg_core.files import atomic_path
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy

FORMAT_VERSION = 1
BANK_FILE, INDEX_FILE = 'bank.json', 'instances.jsonl'
_CACHE_BYTES = 256_000_000  # cut-outs kept decoded in each process


@dataclass(frozen=True)
class BankEntry:
    """One object of a bank.

    Attributes:
        file: Its RGBA picture, relative to the bank.
        sha256: Of that file.
        class_name: Its class.
        source: Path of the picture it was cut from, below the folder that all frames share.
        source_size: (height, width) of that picture.
        box: (top, left, bottom, right) there, in pixels, exclusive, without padding.
        area_px: Number of its pixels.
        foot: Where its lowest row is, 0 (top of the picture) to 1 (bottom).
        truncated: Whether the rim of the picture cuts it off.
        solidity: Area against the convex hull's.
        light_rgb: Mean colour around it, see ``instances.Surroundings``.
        contrast: Likewise.
        padding_px: Rim around the object in its picture.
    """

    file: str
    sha256: str
    class_name: str
    source: str
    source_size: tuple[int, int]
    box: tuple[int, int, int, int]
    area_px: int
    foot: float
    truncated: bool
    solidity: float
    light_rgb: tuple[float, float, float]
    contrast: float
    padding_px: int


@dataclass(frozen=True)
class ClassProfile:
    """Where objects of a class stand.

    Attributes:
        num_instances: Objects that it was learned from.
        foot_quantiles: Their ``foot`` at evenly spaced probabilities from 0 to 1, ascending.
        growth: An object moved down by the whole picture grows by ``exp(growth)``; 0 or more.
        min_contrast: Of the surroundings; objects are not seen where there is less.
        support: Class name -> share of what is right beneath the objects; shares sum to 1.
    """

    num_instances: int
    foot_quantiles: tuple[float, ...]
    growth: float
    min_contrast: float
    support: Mapping[str, float]


class InstanceBank:
    """Objects to paste; see ``instance_bank_building.build_bank`` for how one is made.

    Attributes:
        folder: Where it is stored.
        entries: Every object, in the order of the index.
        profiles: By class name.
        class_pixels: Pixels of each class in the frames that the bank was built from, ``(C,)``.
        class_frames: Frames that hold each class, ``(C,)``.
        num_frames: Frames it was built from.
        sha256: Digest of the whole bank.
    """

    def __init__(self, folder: Path, content: Mapping[str, Any], entries: list[BankEntry]) -> None:
        self.folder = folder
        self.entries = tuple(entries)
        self.sha256 = digest(content)
        self.profiles = {name: ClassProfile(**v) for name, v in content['profiles'].items()}
        self.class_pixels = np.array(content['class_pixels'], np.int64)
        self.class_frames = np.array(content['class_frames'], np.int64)
        self.num_frames = int(content['num_frames'])
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()
        self._cached_bytes = 0

    @classmethod
    def load(cls, folder: str | Path, taxonomy: Taxonomy) -> InstanceBank:
        """Open a bank.

        Args:
            folder: Where it is stored.
            taxonomy: The classes that the caller works with.

        Raises:
            DatasetError: There is no finished bank, it is of another taxonomy, or it was changed.
        """
        folder = Path(folder)
        path = folder / BANK_FILE
        if not path.is_file():
            raise DatasetError(
                f'{folder}: no instance bank there (no {BANK_FILE}); make one with '
                'training/make_copy_paste.py'
            )
        content = _parse(path, read_file(path))
        if content.pop('sha256', None) != digest(content):
            raise DatasetError(f'{path}: its content is not what its digest says; build it again')
        if content['format_version'] != FORMAT_VERSION:
            raise DatasetError(
                f'{path}: got version {content["format_version"]}, expected {FORMAT_VERSION}; '
                'build the bank again'
            )
        if content['taxonomy_sha256'] != taxonomy.sha256():
            raise DatasetError(
                f'{path}: its classes are those of {content["taxonomy"]!r} '
                f'({content["taxonomy_sha256"][:8]}), expected {taxonomy.name!r} '
                f'({taxonomy.sha256()[:8]}); build a bank for this taxonomy'
            )
        lines = _checked(folder / INDEX_FILE, content['index_sha256']).splitlines()
        entries = [entry_from_dict(json.loads(line)) for line in lines]
        if not entries:
            raise DatasetError(f'{folder}: the bank is empty; loosen its rules or name classes')
        return cls(folder, content, entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getstate__(self) -> dict[str, Any]:
        """Leave decoded pictures out of pickles."""
        return {**self.__dict__, '_cache': OrderedDict(), '_cached_bytes': 0}

    @cached_property
    def by_class(self) -> dict[str, tuple[BankEntry, ...]]:
        """The objects of each class that has any, in the order of the index."""
        groups: dict[str, list[BankEntry]] = {}
        for entry in self.entries:
            groups.setdefault(entry.class_name, []).append(entry)
        return {name: tuple(group) for name, group in groups.items()}

    def read(self, entry: BankEntry) -> np.ndarray:
        """Return the picture of an object, ``(h, w, 4)`` uint8 RGBA, read-only.

        Raises:
            DatasetError: The file is missing, or is not the one that was written.
        """
        if entry.file in self._cache:
            self._cache.move_to_end(entry.file)
            return self._cache[entry.file]
        path = self.folder / entry.file
        bgra = decode(path, _checked(path, entry.sha256), cv2.IMREAD_UNCHANGED)
        rgba = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA, dst=bgra)
        rgba.flags.writeable = False
        self._cache[entry.file] = rgba
        self._cached_bytes += rgba.nbytes
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return rgba

    def may_cover(self, class_id: int) -> np.ndarray:
        """Return which labels an object of a class may cover, ``(256,)`` bool.

        Its own class and more frequent ones; never rarer ones, never ignored pixels.
        """
        table = np.zeros(256, bool)
        table[: self.class_pixels.size] = self.class_pixels >= self.class_pixels[class_id]
        table[IGNORE_INDEX] = False
        return table


def write_bank(folder: Path, content: dict[str, Any], entries: list[BankEntry]) -> None:
    """Write index and header; the header comes last and makes the bank a finished one."""
    lines = ''.join(json.dumps(asdict(entry)) + '\n' for entry in entries)
    with atomic_path(folder / INDEX_FILE) as path:
        path.write_text(lines, encoding='utf-8')
    content = {**content, 'index_sha256': hashlib.sha256(lines.encode()).hexdigest()}
    with atomic_path(folder / BANK_FILE) as path:
        path.write_text(json.dumps({**content, 'sha256': digest(content)}, indent=1))


def entry_from_dict(data: Mapping[str, Any]) -> BankEntry:
    """Build an entry from a line of the index."""
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in data.items()
    }
    return BankEntry(**values)


def digest(content: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 of plain data, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def _checked(path: Path, sha256: str) -> bytes:
    data = read_file(path)
    got = hashlib.sha256(data).hexdigest()
    if got != sha256:
        raise DatasetError(
            f'{path}: got SHA-256 {got[:12]}…, expected {sha256[:12]}…; the file was changed, '
            'build the bank again'
        )
    return data


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError) as error:
        raise DatasetError(f'{path}: not valid JSON: {error}; build the bank again') from error
