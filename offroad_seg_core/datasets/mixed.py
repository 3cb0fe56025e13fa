"""Several datasets as one, each with its share of the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
import logging
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.datasets.folder import FolderConfig
from offroad_seg_core.datasets.frames import FrameSet, Split, mix_frames
from offroad_seg_core.datasets.freiburg_forest import FreiburgForestConfig
from offroad_seg_core.datasets.goose import GooseConfig
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.pairs import PairsConfig
from offroad_seg_core.datasets.procedural import WorldConfig
from offroad_seg_core.datasets.rellis3d import Rellis3dConfig
from offroad_seg_core.datasets.rugd import RugdConfig
from offroad_seg_core.datasets.wildscenes import WildScenesConfig
from offroad_seg_core.datasets.ycor import YcorConfig
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

log = logging.getLogger(__name__)

SourceConfig = (
    FalconConfig
    | FolderConfig
    | FreiburgForestConfig
    | GooseConfig
    | PairsConfig
    | Rellis3dConfig
    | RugdConfig
    | WildScenesConfig
    | WorldConfig
    | YcorConfig
)


@dataclass(frozen=True, config=STRICT)
class MixedSource:
    """One of the datasets.

    Attributes:
        dataset: Its configuration, with the mapping to the target taxonomy.
        weight: Its share of the drawn frames relative to the other sources, whatever its size.
        name: Told apart by it; null: its kind, numbered where a kind comes twice.
        splits: The splits it has frames in.
    """

    dataset: Annotated[SourceConfig, Field(discriminator='kind')]
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    name: str | None = None
    splits: tuple[Split, ...] = Field(default=('train', 'validation'), min_length=1)


@dataclass(frozen=True, config=STRICT)
class MixedConfig:
    """Several datasets in one target taxonomy.

    Attributes:
        kind: Names this dataset.
        sources: The datasets.
        taxonomy: The target: a shipped taxonomy by name, or the path of a YAML file.
    """

    kind: Literal['mixed']
    sources: Annotated[tuple[MixedSource, ...], Field(min_length=1)]
    taxonomy: str

    def __post_init__(self) -> None:
        """Check that every source has a name of its own."""
        twice = [name for name, count in Counter(self.source_names()).items() if count > 1]
        if twice:
            raise ValueError(f'two sources are named {twice[0]!r}; give each its own name')

    def source_names(self) -> list[str]:
        """Return the names of the sources."""
        kinds = [source.dataset.kind for source in self.sources]
        unique = [
            kind if kinds.count(kind) == 1 else f'{kind}-{number}'
            for number, kind in enumerate(kinds, 1)
        ]
        named = zip(self.sources, unique, strict=True)
        return [source.name or default for source, default in named]

    def native_taxonomy(self) -> Taxonomy:
        """Return the target taxonomy."""
        return load_taxonomy(self.taxonomy)

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split of every source; ``weights`` give each its share.

        An environment that several sources have is prefixed with the name of the source.

        Raises:
            DatasetError: ``taxonomy`` is not the target, or a source cannot give its frames.
        """
        target = self.native_taxonomy()
        if taxonomy.names != target.names:
            raise DatasetError(
                f'the sources are mixed in {target.name}, not in {taxonomy.name}; set the same '
                'taxonomy in both places'
            )
        parts = [
            (name, source)
            for name, source in zip(self.source_names(), self.sources, strict=True)
            if split in source.splits
        ]
        if not parts:
            raise DatasetError(f'no source has the split {split}; add it to the splits of one')
        names, weights = [name for name, _ in parts], [source.weight for _, source in parts]
        sets = [source.dataset.frames(split, taxonomy) for _, source in parts]
        for name, weight, frames in zip(names, weights, sets, strict=True):
            share = 100 * weight / sum(weights)
            log.info('%s: %d frames, %.1f %% of what is drawn', name, len(frames), share)
        origin = f'{" + ".join(names)} ({split})'
        return mix_frames(_tell_apart(names, sets), weights, origin)


def _tell_apart(names: Sequence[str], sets: Sequence[FrameSet]) -> list[FrameSet]:
    """Prefix the environments that several sets have with the names of the sets."""
    found = Counter(place for part in sets for place in {i.environment for i in part.files})
    result = []
    for name, part in zip(names, sets, strict=True):
        files = [
            replace(item, environment=f'{name}/{item.environment}')
            if found[item.environment] > 1
            else item
            for item in part.files
        ]
        readers = [part.reader_of(index) for index in range(len(part))]
        result.append(FrameSet(files, part.taxonomy, readers, part.origin, part.weights))
    return result
