"""The Falcon desert segmentation challenge: 16-bit masks of raw ids, several environments."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.label_source import Unknown, create_reader
from offroad_seg_core.datasets.masks import DatasetError, MaskReader
from offroad_seg_core.datasets.pairing import find_labels, find_named, pair
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy


@dataclass(frozen=True, config=STRICT)
class FalconConfig:
    """Leave one environment out, validate on a block of each, or on another folder's frames.

    The first two letters of a frame's name tell its environment.

    Attributes:
        kind: Names this dataset.
        root: Holds ``Color_Images`` and ``Segmentation``.
        holdout: The environment to validate on; null trains on all.
        validation_root: A folder like ``root`` to validate on, such as the challenge's own
            validation split; then there is no ``holdout``.
        mapping: From falcon10 to the wanted classes, see ``find_mapping``; taxonomies that know
            the masks' raw ids themselves, such as falcon7, need none.
        unknown: What to do with mask values that the taxonomy does not know.
        validation_block: Share of each environment's frames, the last ones by name, to validate
            on; known places, but no neighbours of training frames. With ``holdout`` also the block
            of that environment, whose other frames are then in neither split.
        adaptation_frames: Train on so many frames of the held-out environment alone, spread over
            its first half by name, and validate on its second half; 0 trains on the others.
    """

    kind: Literal['falcon']
    root: Path
    holdout: str | None
    validation_root: Path | None = None
    mapping: str | None = None
    unknown: Unknown = 'error'
    validation_block: float = Field(default=0.0, ge=0, lt=1)
    adaptation_frames: int = Field(default=0, ge=0)

    def __post_init__(self) -> None:
        """Check that there is one way of validation at most."""
        given = {
            'holdout': self.holdout is not None,
            'validation_root': self.validation_root is not None,
            'validation_block': self.validation_block > 0,
            'adaptation_frames': self.adaptation_frames > 0,
        }
        names = [name for name, is_given in given.items() if is_given]
        allowed = ('holdout', 'validation_block'), ('holdout', 'adaptation_frames')
        if len(names) > 1 and tuple(names) not in allowed:
            raise ValueError(f'got {" and ".join(names)}, expected one of them; remove the others')
        if self.adaptation_frames and self.holdout is None:
            raise ValueError('got adaptation_frames without holdout; name the environment')

    def native_taxonomy(self) -> Taxonomy:
        """Return the dataset's own classes."""
        return load_taxonomy('falcon10')

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of the held-out environment (validation) or of the others (train).

        Raises:
            DatasetError: There are no frames for the split.
        """
        if split == 'validation' and self.validation_root is not None:
            return self._frame_set(
                read_falcon(self.validation_root), self.validation_root, taxonomy
            )
        files = read_falcon(self.root)
        found = sorted({item.environment for item in files})
        if split == 'validation' and self.holdout is None and not self.validation_block:
            raise DatasetError(
                f'{self.root}: no frames for validation, holdout is null; set holdout to one of '
                f'{", ".join(found)}, or validation_root'
            )
        if self.holdout is not None and self.holdout not in found:
            raise DatasetError(
                f'{self.root}: got holdout {self.holdout!r}, expected one of {", ".join(found)}'
            )
        if self.validation_block:
            chosen = _blocks(files, self.validation_block, split)
            if split == 'train':
                chosen = [item for item in chosen if item.environment != self.holdout]
            return self._frame_set(chosen, f'{self.root} ({split} blocks)', taxonomy)
        if self.adaptation_frames:
            files = [item for item in files if item.environment == self.holdout]
            chosen = _halves(files, self.adaptation_frames, split)
            return self._frame_set(chosen, f'{self.root} ({split}, {self.holdout})', taxonomy)
        chosen = [f for f in files if (f.environment == self.holdout) == (split == 'validation')]
        return self._frame_set(chosen, f'{self.root} ({split}, holdout {self.holdout})', taxonomy)

    def _frame_set(
        self, files: list[FrameFiles], origin: Path | str, taxonomy: Taxonomy
    ) -> FrameSet:
        return FrameSet(files, taxonomy, self._reader(taxonomy), str(origin))

    def _reader(self, taxonomy: Taxonomy) -> MaskReader:
        native = self.native_taxonomy()
        if self.mapping is None:
            raw_ids = np.array([raw for entry in native.classes for raw in entry.raw_ids])
            direct = MaskReader(taxonomy, 'raw_ids', None, self.unknown)
            if (direct.labels_of(raw_ids) >= 0).all():
                return direct
        return create_reader(native, taxonomy, 'raw_ids', self.mapping, self.unknown)


def _blocks(files: list[FrameFiles], share: float, split: Split) -> list[FrameFiles]:
    """Return the last share of each environment's frames (validation), or those before."""
    chosen: list[FrameFiles] = []
    for environment in sorted({item.environment for item in files}):
        own = _in_order([item for item in files if item.environment == environment])
        border = len(own) - max(1, round(share * len(own)))
        chosen += own[border:] if split == 'validation' else own[:border]
    return chosen


def _halves(files: list[FrameFiles], count: int, split: Split) -> list[FrameFiles]:
    """Return the second half (validation), or ``count`` frames spread over the first."""
    files = _in_order(files)
    half = len(files) // 2
    if split == 'validation':
        return files[half:]
    count = min(count, half)
    return [files[(2 * index + 1) * half // (2 * count)] for index in range(count)]


def _in_order(files: list[FrameFiles]) -> list[FrameFiles]:
    return sorted(files, key=lambda item: item.image.stem)


def read_falcon(root: Path) -> list[FrameFiles]:
    """List the frames of every environment.

    Raises:
        DatasetError: A folder or a partner is missing.
    """
    images = find_named(root, 'Color_Images/**/*')
    labels = find_labels(root, 'Segmentation/**/*')
    return [
        FrameFiles(root / image, root / label, name.rpartition('/')[2][:2])
        for name, image, label in pair(images, labels, str(root))
    ]
