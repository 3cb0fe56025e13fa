"""Frames of procedural drives, rendered when they are first needed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.label_source import create_reader
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy
from offroad_seg_core.world import DEMO_SEED
from offroad_seg_core.world.camera import Camera
from offroad_seg_core.world.dataset import DatasetOptions, write_dataset

log = logging.getLogger(__name__)

WORLD_TAXONOMY = 'falcon10'


@dataclass(frozen=True, config=STRICT)
class WorldConfig:
    """Procedural drives; each seed is a place of its own.

    Attributes:
        kind: Names this dataset.
        root: Holds the rendered frames, in one folder a split; missing frames are rendered.
        train_seeds: First seed and the seed after the last one.
        validation_seeds: Likewise; no seed is in both, and the demo's seed is in neither.
        frames_per_seed: Frames of each camera.
        size: (height, width) of the frames.
        cameras: Names of mounted cameras.
        num_workers: Processes that render.
        mapping: From falcon10 to the wanted classes, see ``find_mapping``.
    """

    kind: Literal['world']
    root: Path
    train_seeds: tuple[int, int]
    validation_seeds: tuple[int, int]
    frames_per_seed: int = Field(default=6, ge=1)
    size: tuple[int, int] = (544, 960)
    cameras: tuple[str, ...] = ('windshield', 'left')
    num_workers: int = Field(default=2, ge=1)
    mapping: str | None = None

    def __post_init__(self) -> None:
        """Check that what is measured was never trained on, and that it can be rendered."""
        Camera(self.size)  # raises: a bad size must not show when the folder is claimed already
        train, validation = self.seeds('train'), self.seeds('validation')
        for name, seeds in (('train_seeds', train), ('validation_seeds', validation)):
            if not seeds:
                raise ValueError(f'{name} is empty: [{seeds.start}, {seeds.stop}]')
            if DEMO_SEED in seeds:
                raise ValueError(
                    f'{name} [{seeds.start}, {seeds.stop}] contains {DEMO_SEED}, the seed of the '
                    'demo, which must stay unseen; choose others'
                )
        if max(train.start, validation.start) < min(train.stop, validation.stop):
            raise ValueError(
                f'train_seeds [{train.start}, {train.stop}] and validation_seeds '
                f'[{validation.start}, {validation.stop}] overlap; choose separate ranges'
            )

    def seeds(self, split: Split) -> range:
        """Return the seeds of a split."""
        return range(*(self.train_seeds if split == 'train' else self.validation_seeds))

    def native_taxonomy(self) -> Taxonomy:
        """Return the classes that the world is labelled in."""
        return load_taxonomy(WORLD_TAXONOMY)

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split; render the missing ones.

        Raises:
            DatasetError, TaxonomyError: The taxonomy lacks classes of the world, see
                ``find_mapping``.
            StaleDatasetError: The folder holds frames of other options or of another renderer.
        """
        reader = create_reader(self.native_taxonomy(), taxonomy, 'class_ids', self.mapping)
        options = DatasetOptions(
            self.root / split,
            self.seeds(split),
            self.frames_per_seed,
            self.size,
            self.cameras,
        )
        options.claim()
        pairs = [
            options.paths(seed, camera, index)
            for seed in options.seeds
            for camera in self.cameras
            for index in range(self.frames_per_seed)
        ]
        if not all(path.exists() for pair in pairs for path in pair):
            _render(options, len(pairs), self.num_workers)
        files = [FrameFiles(image, label, 'world') for image, label in pairs]
        return FrameSet(files, taxonomy, reader, str(options.output))


def _render(options: DatasetOptions, num_frames: int, num_workers: int) -> None:
    log.info('rendering %d frames into %s', num_frames, options.output)
    done = 0
    for count in write_dataset(options, num_workers):
        done += count
        log.info('%d of %d frames', done, num_frames)
