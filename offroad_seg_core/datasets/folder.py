"""Folders of frames: ``<root>/<split>/images/<stem>.jpg`` and ``labels/<stem>.png`` (ids)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameSet, pair_by_stem
from offroad_seg_core.datasets.masks import read_label_map
from offroad_seg_core.taxonomy import Taxonomy

Split = Literal['train', 'validation']


@dataclass(frozen=True, config=STRICT)
class FolderConfig:
    """Frames that are stored in the project's own layout.

    Attributes:
        kind: Names this dataset.
        root: Holds the folders ``train`` and ``validation``, each with ``images`` and ``labels``.
    """

    kind: Literal['folder']
    root: Path

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split."""
        return read_folder(self.root / split, taxonomy)


def read_folder(folder: Path, taxonomy: Taxonomy) -> FrameSet:
    """Return the frames of ``folder/images`` and ``folder/labels``; one environment."""
    files = pair_by_stem(folder / 'images', folder / 'labels', lambda stem: folder.name)
    return FrameSet(files, taxonomy, read_label_map, str(folder))
