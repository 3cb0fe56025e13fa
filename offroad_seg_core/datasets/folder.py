"""Folders of frames: ``<root>/<split>/images/<stem>.jpg`` and ``labels/<stem>.png`` (ids)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.datasets.pairing import find_labels, find_named, pair
from offroad_seg_core.taxonomy import Taxonomy


@dataclass(frozen=True, config=STRICT)
class FolderConfig:
    """Frames that are stored in the project's own layout.

    Attributes:
        kind: Names this dataset.
        root: Holds the folders ``train`` and ``validation``, each with ``images`` and ``labels``.
    """

    kind: Literal['folder']
    root: Path

    def native_taxonomy(self) -> None:
        """Return None: the labels are ids of whatever taxonomy is asked for."""

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split."""
        return read_folder(self.root / split, taxonomy)


def read_folder(folder: Path, taxonomy: Taxonomy) -> FrameSet:
    """Return the frames of ``folder/images`` and ``folder/labels``; one environment."""
    images = find_named(folder, 'images/**/*')
    labels = find_labels(folder, 'labels/**/*')
    files = [
        FrameFiles(folder / image, folder / label, folder.name)
        for _, image, label in pair(images, labels, str(folder))
    ]
    return FrameSet(files, taxonomy, MaskReader(taxonomy, 'class_ids'), str(folder))
