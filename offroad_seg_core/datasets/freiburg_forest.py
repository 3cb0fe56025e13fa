"""Freiburg Forest: 6 classes as colour masks, drives through one forest.

Layout: ``<root>/{train,test}/rgb/<name>_Clipped.jpg`` and ``GT_color/<name>_mask.png``; some label
files end with ``_Clipped`` too.
"""

from __future__ import annotations

from pathlib import Path
import re
from typing import Literal

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.label_source import Unknown, create_reader
from offroad_seg_core.datasets.pairing import find_labels, find_named, leave_out, pair
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

_FOLDERS: dict[Split, str] = {'train': 'train', 'validation': 'test'}
_ENDINGS = re.compile(r'(_Clipped|_mask)+$')


@dataclass(frozen=True, config=STRICT)
class FreiburgForestConfig:
    """Freiburg Forest; the published test set is for validation. It is one environment.

    Attributes:
        kind: Names this dataset.
        root: The folder ``freiburg_forest_annotated`` that holds ``train`` and ``test``.
        exclude: Globs of frames to leave out, such as ``b1-09517``.
        mapping: From freiburg_forest to the wanted classes, see ``find_mapping``.
        unknown: What to do with colours that freiburg_forest does not know.
    """

    kind: Literal['freiburg_forest']
    root: Path
    exclude: tuple[str, ...] = ()
    mapping: str | None = None
    unknown: Unknown = 'error'

    def native_taxonomy(self) -> Taxonomy:
        """Return the dataset's own classes."""
        return load_taxonomy('freiburg_forest')

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split.

        Raises:
            DatasetError: A folder or a partner is missing, or the split has no frames.
        """
        folder = _FOLDERS[split]
        images = find_named(self.root, f'{folder}/rgb/*', name_of=_name)
        labels = find_labels(self.root, f'{folder}/GT_color/*', name_of=_name)
        pairs = pair(
            leave_out(images, self.exclude, 'exclude'),
            leave_out(labels, self.exclude, 'exclude'),
            str(self.root),
        )
        files = [
            FrameFiles(self.root / image, self.root / label, 'freiburg_forest')
            for _, image, label in pairs
        ]
        native = self.native_taxonomy()
        reader = create_reader(native, taxonomy, 'colors', self.mapping, self.unknown)
        return FrameSet(files, taxonomy, reader, f'{self.root} ({split})')


def _name(meaning: tuple[str, ...]) -> str:
    return _ENDINGS.sub('', '/'.join(meaning))
