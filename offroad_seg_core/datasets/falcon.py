"""The Falcon desert segmentation challenge: 16-bit masks of raw ids, several environments."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.folder import Split
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, pair_by_stem
from offroad_seg_core.datasets.masks import DatasetError, read_raw_label_map
from offroad_seg_core.taxonomy import Taxonomy

ENVIRONMENTS = {
    'cc': 'dry canyon at the coast',
    'w0': 'white-rock island',
    'ww': 'the same island, very dark',
}


@dataclass(frozen=True, config=STRICT)
class FalconConfig:
    """Leave one environment out: train on the others, validate on it.

    Attributes:
        kind: Names this dataset.
        root: Holds ``Color_Images`` and ``Segmentation``.
        holdout: The environment to validate on, a key of ``ENVIRONMENTS``.
    """

    kind: Literal['falcon']
    root: Path
    holdout: Literal['cc', 'w0', 'ww']

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of the held-out environment (validation) or of the others (train).

        Raises:
            DatasetError: The folder has no frames for the split.
        """
        files = [
            files
            for files in read_falcon(self.root)
            if (files.environment == self.holdout) == (split == 'validation')
        ]
        origin = f'{self.root} ({split}, holdout {self.holdout})'
        return FrameSet(files, taxonomy, read_raw_label_map, origin)


def read_falcon(root: Path) -> list[FrameFiles]:
    """List the frames of every environment.

    Raises:
        DatasetError: A folder or a partner is missing, or a stem is of no known environment.
    """
    files = pair_by_stem(root / 'Color_Images', root / 'Segmentation', lambda stem: stem[:2])
    strangers = sorted(item.stem for item in files if item.environment not in ENVIRONMENTS)
    if strangers:
        raise DatasetError(
            f'{root}: {strangers[0]} and {len(strangers) - 1} more are of no known environment; '
            f'expected stems that begin with {", ".join(ENVIRONMENTS)}'
        )
    return files
