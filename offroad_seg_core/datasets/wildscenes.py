"""WildScenes: natural forests, five traverses.

Layout: ``<root>/<sequence>/image/<stem>.png`` and ``<root>/<sequence>/indexLabel/<stem>.png``.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.label_source import Unknown, create_reader
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.pairing import (
    find_labels,
    find_named,
    leave_out,
    pair,
    warn_of_idle,
)
from offroad_seg_core.datasets.split_lists import choose, frame_of, sequence_of
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

_LISTS: dict[Split, str] = {'train': 'train.csv', 'validation': 'val.csv'}


@dataclass(frozen=True, config=STRICT)
class WildScenesConfig:
    """WildScenes in 2D; the environments are its sequences.

    Attributes:
        kind: Names this dataset.
        root: The folder ``WildScenes2d`` that holds K-01, K-03, V-01, V-02 and V-03.
        validation: Sequences to validate on, all others are for training; null takes ``lists``.
            The published lists have frames of every sequence in every split.
        lists: Folder of the published ``train.csv`` and ``val.csv``, ``data/splits/opt2d`` in
            github.com/csiro-robotics/WildScenes; null: ``root``.
        exclude: Globs of frames to leave out, ``<sequence>/<stem>``.
        mapping: From wildscenes to the wanted classes, see ``find_mapping``.
        unknown: What to do with mask values that wildscenes does not know.
    """

    kind: Literal['wildscenes']
    root: Path
    validation: tuple[str, ...] | None = None
    lists: Path | None = None
    exclude: tuple[str, ...] = ()
    mapping: str | None = None
    unknown: Unknown = 'error'

    def native_taxonomy(self) -> Taxonomy:
        """Return the dataset's own classes."""
        return load_taxonomy('wildscenes')

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split.

        Raises:
            DatasetError: A list, a folder or a partner is missing, or the split has no frames.
        """
        images = find_named(self.root, '*/image/*')
        labels = find_labels(self.root, '*/indexLabel/*')
        every = {**labels, **images}
        warn_of_idle(every, self.exclude, str(self.root))
        # Of all frames: a published list also names those that are left out.
        chosen = self._choose(every, split)
        pairs = pair(
            leave_out(images, self.exclude, 'exclude'),
            leave_out(labels, self.exclude, 'exclude'),
            str(self.root),
        )
        files = [
            FrameFiles(self.root / image, self.root / label, sequence_of(name))
            for name, image, label in pairs
            if name in chosen
        ]
        native = self.native_taxonomy()
        reader = create_reader(native, taxonomy, 'raw_ids', self.mapping, self.unknown)
        return FrameSet(files, taxonomy, reader, f'{self.root} ({split})')

    def _choose(self, files: dict[str, str], split: Split) -> dict[str, str]:
        folder = self.lists or self.root
        lists = {key: folder / name for key, name in _LISTS.items()}
        return choose(files, split, self.root, self.validation, lists, _read_list)


def _read_list(path: Path) -> list[str]:
    """Read the column ``im_path``, such as ``/WildScenes2d/K-01/image/a.png``."""
    with open(path, encoding='utf-8', newline='') as stream:
        rows = csv.DictReader(stream)
        if 'im_path' not in (rows.fieldnames or ()):
            raise DatasetError(
                f'{path}: got the columns {rows.fieldnames}, expected one named im_path'
            )
        return [frame_of(row['im_path'], str(path)) for row in rows]
