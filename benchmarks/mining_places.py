"""Where benchmarks/mining.py mines: what was seen before, what may be labelled, what is measured.

`real`: a student that knows procedural drives alone comes to the Falcon desert
(data/falcon_desert); the first 70 % of the frames of each environment may be labelled, the others
are measured. `cc`, `w0`, `ww`: it knows two environments and comes to the third, whose first half
may be labelled. Both times it goes on with what was chosen alone. `drives`: it knows ten
procedural places, and of fifty others 600 frames may be labelled; it goes on with what was chosen
and, as often, with what it knew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import json
import os
from pathlib import Path
import shutil

from ablation import CONFIG, FOLDS, measure_half, run_of
from experiments import Run, measure, train_run
from report import ROOT

from offroad_seg_core.config import dump_config
from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.procedural import WORLD_TAXONOMY, WorldConfig
from offroad_seg_core.taxonomy import load_taxonomy

FALCON = Path('data/falcon_desert')
SETS = Path('data/mining')
_WORLD = Path('data/world_desert')
_VALIDATION_SEEDS = (500, 510)
_BLOCK = 0.3


@dataclass(frozen=True)
class FalconPlace:
    """One environment of the Falcon desert.

    Attributes:
        name: Of the environment.
    """

    name: str

    kind = 'place'

    def base_run(self, seed: int) -> Run:
        """Return the training that has never seen the place: the ablation's."""
        return run_of('ce', self.name, seed)

    def before(self, seed: int) -> Run:
        """Return whose scores tell how the place was before."""
        return run_of('few_0', self.name, seed)

    def prepare(self, seed: int) -> None:
        """Measure the student where those that saw chosen frames are measured."""
        measure_half(self.name, seed)
        write_set(f'rest_{self.name}', self._half('validation').files)

    def pool(self) -> FrameSet:
        """Return the frames that may be labelled: the first half."""
        return self._half('train', 10**6)

    def _half(self, split: Split, num_frames: int = 1) -> FrameSet:
        config = FalconConfig('falcon', ROOT / FALCON, self.name, adaptation_frames=num_frames)
        return config.frames(split, load_taxonomy('falcon10'))

    def write(self, name: str, files: Sequence[FrameFiles]) -> None:
        """Make the folder of a training."""
        write_set(name, files)

    def dataset(self, name: str) -> str:
        """Return what a training on a folder of chosen frames is configured with."""
        return _falcon_alone(name, f'rest_{self.name}')


@dataclass(frozen=True)
class Drives:
    """Procedural drives.

    Attributes:
        name: Of this place in tables.
        known_seeds: Places that a student knows.
        pool_seeds: Places that were driven through.
    """

    name: str = 'drives'
    known_seeds: tuple[int, int] = (1000, 1010)
    pool_seeds: tuple[int, int] = (1010, 1060)

    kind = 'drives'

    def _known(self) -> str:
        config = WorldConfig('world', _WORLD, self.known_seeds, _VALIDATION_SEEDS)
        return json.dumps(dump_config(config))

    def base_run(self, seed: int) -> Run:
        """Return the training on the known places."""
        changes = (f'dataset={self._known()}', f'seed={seed}')
        return Run('mining', f'base_{self.name}_{seed}', CONFIG, changes)

    def before(self, seed: int) -> Run:
        """Return whose scores tell how it was before."""
        return self.base_run(seed)

    def prepare(self, seed: int) -> None:
        """Do nothing: the student was measured where the others are."""

    def pool(self) -> FrameSet:
        """Return the frames that may be labelled."""
        config = WorldConfig('world', ROOT / _WORLD, self.pool_seeds, _VALIDATION_SEEDS)
        return config.frames('train', load_taxonomy(WORLD_TAXONOMY))

    def write(self, name: str, files: Sequence[FrameFiles]) -> None:
        """Make the folder of a training."""
        write_set(name, files, ROOT / _WORLD / 'train')

    def dataset(self, name: str) -> str:
        """Return what a training on a folder of chosen frames is configured with."""
        chosen = (
            f'{{kind: pairs, root: {SETS / name}, images: images/*.jpg, labels: labels/*.png, '
            f'taxonomy: {WORLD_TAXONOMY}, mask_format: class_ids}}'
        )
        known = f'{{name: known, dataset: {self._known()}}}'
        chosen = f'{{name: chosen, splits: [train], dataset: {chosen}}}'
        return f'{{kind: mixed, taxonomy: {WORLD_TAXONOMY}, sources: [{known}, {chosen}]}}'


class Real:
    """The Falcon desert, for a student of procedural drives."""

    name, kind = 'real', 'real'

    def base_run(self, seed: int) -> Run:
        """Return the training on procedural drives."""
        return Drives().base_run(seed)

    def before(self, seed: int) -> Run:
        """Return whose scores tell how it was before."""
        dataset = (
            f'dataset={{kind: falcon, root: {FALCON}, holdout: null, validation_block: {_BLOCK}}}'
        )
        return Run('mining', f'before_{self.name}_{seed}', CONFIG, (dataset, f'seed={seed}'))

    def prepare(self, seed: int) -> None:
        """Measure the student where the others are measured."""
        measure(self.before(seed), self.base_run(seed))
        write_set(f'rest_{self.name}', self._frames('validation').files)

    def pool(self) -> FrameSet:
        """Return the frames that may be labelled."""
        return self._frames('train')

    def _frames(self, split: Split) -> FrameSet:
        config = FalconConfig('falcon', ROOT / FALCON, None, validation_block=_BLOCK)
        return config.frames(split, load_taxonomy('falcon10'))

    def write(self, name: str, files: Sequence[FrameFiles]) -> None:
        """Make the folder of a training."""
        write_set(name, files)

    def dataset(self, name: str) -> str:
        """Return what a training on a folder of chosen frames is configured with."""
        return _falcon_alone(name, f'rest_{self.name}')


Place = FalconPlace | Drives | Real
_ALL: tuple[Place, ...] = (Real(), *map(FalconPlace, FOLDS), Drives())
PLACES = {place.name: place for place in _ALL}


def _falcon_alone(name: str, rest: str) -> str:
    root = f'root: {SETS / name}, holdout: null'
    return f'{{kind: falcon, {root}, validation_root: {SETS / rest}}}'


def weights_of(place: Place, seed: int) -> Path:
    """Return where the weights of a base run are."""
    return place.base_run(seed).settings.folder / 'best.ckpt'


def train_base(place: Place, seed: int) -> None:
    """Train the student of a place if its weights are not there, and measure it."""
    if not (ROOT / weights_of(place, seed)).exists():
        train_run(place.base_run(seed))
    place.prepare(seed)


def write_set(name: str, files: Sequence[FrameFiles], root: Path = ROOT / FALCON) -> None:
    """Make a folder that holds only some frames, as links.

    Args:
        name: Of the folder.
        files: The frames.
        root: What their paths begin with; the rest is kept.
    """
    folder = ROOT / SETS / name
    new = folder.with_name(f'.{name}.{os.getpid()}')
    for item in files:
        for path in (item.image, item.label):
            assert path is not None
            link = new / path.relative_to(root)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
