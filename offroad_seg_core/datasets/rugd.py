"""RUGD: 24 classes as colour masks, video sequences of one robot."""

from __future__ import annotations

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
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

# The published split, Wigness et al., "A RUGD Dataset for Autonomous Navigation and Visual
# Perception in Unstructured Outdoor Environments", IROS 2019.
VALIDATION = ('park-8', 'trail-5')
TEST = ('creek', 'park-1', 'trail-7', 'trail-13')
TRAIN = ('park-2', 'trail', 'trail-3', 'trail-4', 'trail-6', 'trail-9', 'trail-10') + (
    ('trail-11', 'trail-12', 'trail-14', 'trail-15', 'village')
)
# Frames and labels: in the complete archives, and in the sample.
_FOLDERS = (('RUGD_frames-with-annotations', 'RUGD_annotations'), ('images', 'annotations'))


@dataclass(frozen=True, config=STRICT)
class RugdConfig:
    """RUGD; the environments are its sequences.

    Attributes:
        kind: Names this dataset.
        root: Holds ``RUGD_frames-with-annotations`` and ``RUGD_annotations``, or ``images`` and
            ``annotations``.
        validation: Sequences to validate on.
        test: Sequences that are kept out of both splits.
        exclude: Globs of frames to leave out, ``<sequence>/<frame>``.
        mapping: From rugd to the wanted classes, see ``find_mapping``.
        unknown: What to do with colours that rugd does not know.
    """

    kind: Literal['rugd']
    root: Path
    validation: tuple[str, ...] = VALIDATION
    test: tuple[str, ...] = TEST
    exclude: tuple[str, ...] = ()
    mapping: str | None = None
    unknown: Unknown = 'error'

    def __post_init__(self) -> None:
        """Check the sequences: a misspelt one would be trained on."""
        known = TRAIN + VALIDATION + TEST
        for name in self.validation + self.test:
            if name not in known:
                raise ValueError(
                    f'RUGD has no sequence {name!r}; expected some of {", ".join(sorted(known))}'
                )

    def native_taxonomy(self) -> Taxonomy:
        """Return the dataset's own classes."""
        return load_taxonomy('rugd')

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split.

        Raises:
            DatasetError: A folder or a partner is missing, or the split has no frames.
        """
        chosen = [
            item
            for item in self._files()
            if item.environment not in self.test
            and (item.environment in self.validation) == (split == 'validation')
        ]
        native = self.native_taxonomy()
        reader = create_reader(native, taxonomy, 'colors', self.mapping, self.unknown)
        return FrameSet(chosen, taxonomy, reader, f'{self.root} ({split})')

    def _files(self) -> list[FrameFiles]:
        for frames, masks in _FOLDERS:
            if (self.root / frames).is_dir():
                images = find_named(self.root, f'{frames}/**/*')
                labels = find_labels(self.root, f'{masks}/**/*')
                warn_of_idle({**images, **labels}, self.exclude, str(self.root))
                pairs = pair(
                    leave_out(images, self.exclude, 'exclude'),
                    leave_out(labels, self.exclude, 'exclude'),
                    str(self.root),
                )
                return [
                    FrameFiles(self.root / image, self.root / label, _sequence(name))
                    for name, image, label in pairs
                ]
        raise DatasetError(
            f'{self.root}: holds neither of {", ".join(frames for frames, _ in _FOLDERS)}; unpack '
            'both RUGD archives there'
        )


def _sequence(name: str) -> str:
    """Return the sequence of a frame: ``park-1`` for ``park-1/park-1_00001``."""
    return name.rpartition('/')[2].rpartition('_')[0]
