"""YCOR, the Yamaha-CMU off-road dataset: 8 classes as indexed PNG files.

Layout: ``<root>/{train,valid}/<frame>/rgb.jpg`` and ``labels.png`` beside it; the folder is the
name of the frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.label_source import Unknown, create_reader
from offroad_seg_core.datasets.pairing import find_labels, find_named, leave_out, pair
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

_FOLDERS: dict[Split, str] = {'train': 'train', 'validation': 'valid'}


@dataclass(frozen=True, config=STRICT)
class YcorConfig:
    """YCOR in its published split; the files do not tell places apart.

    Attributes:
        kind: Names this dataset.
        root: The folder ``yamaha_v0`` that holds ``train`` and ``valid``.
        exclude: Globs of frames to leave out, ``<split>/<frame>``.
        mapping: From ycor to the wanted classes, see ``find_mapping``.
        unknown: What to do with mask values that ycor does not know.
    """

    kind: Literal['ycor']
    root: Path
    exclude: tuple[str, ...] = ()
    mapping: str | None = None
    unknown: Unknown = 'error'

    def native_taxonomy(self) -> Taxonomy:
        """Return the dataset's own classes."""
        return load_taxonomy('ycor')

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split.

        Raises:
            DatasetError: A folder or a partner is missing, or the split has no frames.
        """
        folder = _FOLDERS[split]

        def name_of(meaning: tuple[str, ...]) -> str:
            return '/'.join((folder, *meaning))

        images = find_named(self.root, f'{folder}/*/rgb.jpg', name_of=name_of)
        labels = find_labels(self.root, f'{folder}/*/labels.png', name_of=name_of)
        pairs = pair(
            leave_out(images, self.exclude, 'exclude'),
            leave_out(labels, self.exclude, 'exclude'),
            str(self.root),
        )
        files = [
            FrameFiles(self.root / image, self.root / label, 'ycor') for _, image, label in pairs
        ]
        native = self.native_taxonomy()
        reader = create_reader(native, taxonomy, 'palette', self.mapping, self.unknown)
        return FrameSet(files, taxonomy, reader, f'{self.root} ({split})')
