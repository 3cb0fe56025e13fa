"""RELLIS-3D: 20 classes, five drives over one campus.

Layout: ``<root>/<sequence>/pylon_camera_node/<stem>.jpg`` and
``<root>/<sequence>/pylon_camera_node_label_id/<stem>.png``, ids that are not contiguous.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.label_source import Unknown, create_reader
from offroad_seg_core.datasets.masks import MaskFormat
from offroad_seg_core.datasets.pairing import (
    find_labels,
    find_named,
    leave_out,
    pair,
    warn_of_idle,
)
from offroad_seg_core.datasets.split_lists import choose, frame_of, sequence_of
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

_LISTS: dict[Split, str] = {'train': 'train.lst', 'validation': 'val.lst'}
_LABELS: dict[str, tuple[str, MaskFormat]] = {
    'id': ('pylon_camera_node_label_id', 'raw_ids'),
    'color': ('pylon_camera_node_label_color', 'colors'),
}


@dataclass(frozen=True, config=STRICT)
class Rellis3dConfig:
    """RELLIS-3D; the environments are its sequences.

    Attributes:
        kind: Names this dataset.
        root: The folder ``Rellis-3D`` that holds 00000 to 00004.
        validation: Sequences to validate on, all others are for training; null takes the
            published lists.
        lists: Folder of the published ``train.lst`` and ``val.lst``; null: ``root``.
        mask_format: Which label files to read.
        skip_unlabelled: Leave out images that have no label: the complete archive of images has
            more of them than the one of labels.
        exclude: Globs of frames to leave out, ``<sequence>/<stem>``.
        mapping: From rellis3d to the wanted classes, see ``find_mapping``.
        unknown: What to do with mask values that rellis3d does not know.
    """

    kind: Literal['rellis3d']
    root: Path
    validation: tuple[str, ...] | None = None
    lists: Path | None = None
    mask_format: Literal['id', 'color'] = 'id'
    skip_unlabelled: bool = False
    exclude: tuple[str, ...] = ()
    mapping: str | None = None
    unknown: Unknown = 'error'

    def native_taxonomy(self) -> Taxonomy:
        """Return the dataset's own classes."""
        return load_taxonomy('rellis3d')

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split.

        Raises:
            DatasetError: A list, a folder or a partner is missing, or the split has no frames.
        """
        folder, form = _LABELS[self.mask_format]
        images = find_named(self.root, '*/pylon_camera_node/*')
        labels = find_labels(self.root, f'*/{folder}/*')
        warn_of_idle({**images, **labels}, self.exclude, str(self.root))
        images = self._choose(images, split)
        if self.validation is None:  # the labels of the other lists are no surplus
            labels = {name: path for name, path in labels.items() if name in images}
        else:
            labels = self._choose(labels, split)
        files = [
            FrameFiles(self.root / image, self.root / label, sequence_of(name))
            for name, image, label in pair(images, labels, str(self.root), self.skip_unlabelled)
        ]
        native = self.native_taxonomy()
        reader = create_reader(native, taxonomy, form, self.mapping, self.unknown)
        return FrameSet(files, taxonomy, reader, f'{self.root} ({split})')

    def _choose(self, files: dict[str, str], split: Split) -> dict[str, str]:
        folder = self.lists or self.root
        lists = {key: folder / name for key, name in _LISTS.items()}
        chosen = choose(files, split, self.root, self.validation, lists, _read_list)
        return leave_out(chosen, self.exclude, 'exclude')


def _read_list(path: Path) -> list[str]:
    """Read lines such as ``00000/pylon_camera_node/a.jpg 00000/..._label_id/a.png``."""
    lines = [line for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    return [frame_of(line.split()[0], str(path)) for line in lines]
