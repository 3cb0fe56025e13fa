"""Any folder of images and label files, described by two patterns and a taxonomy."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Literal

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.environment_split import choose_globs, choose_share
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.label_source import Unknown, create_reader
from offroad_seg_core.datasets.listing import LOSSLESS_SUFFIXES, PICTURE_SUFFIXES, Pattern, some
from offroad_seg_core.datasets.masks import DatasetError, MaskFormat
from offroad_seg_core.datasets.pairing import by_name, find_named, idle_globs, leave_out, pair
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

PARENT_FOLDER = 'parent folder'


@dataclass(frozen=True, config=STRICT)
class PairsConfig:
    """One's own frames: ``kind``, ``root``, ``images``, ``labels`` and ``taxonomy`` suffice.

    An image and a label belong together if the wildcards of their patterns stand for the same:
    ``images/**/*.jpg`` and ``masks/**/*.png`` pair images/a/1.jpg with masks/a/1.png.

    Attributes:
        kind: Names this dataset.
        root: Where the patterns begin.
        images: Pattern, see ``Pattern``.
        labels: Likewise; null for frames without labels.
        taxonomy: What the labels mean: the name of a shipped taxonomy, or the path of a YAML
            file, from the working directory or from ``root``.
        mask_format: What the label files store, see ``MaskReader``.
        image_suffix: End of image stems that label stems lack.
        label_suffix: End of label stems that image stems lack.
        pair_by: ``stem`` compares file names alone, where the folders differ.
        environment: How places are told apart: by the folder of the image, or by a regular
            expression whose one group is found in the image's path from ``root``.
        validation: Globs of image paths from ``root``; or a share of the frames, made up of whole
            environments: frames beside each other are alike, so they are never torn apart. Null
            trains on all.
        exclude: Globs of frames to leave out: what the wildcards stand for, with folders also
            where ``pair_by`` is ``stem``.
        skip_unlabelled: Leave out images that have no label.
        mapping: To the wanted classes, see ``find_mapping``.
        unknown: What to do with mask values that the taxonomy does not know.
    """

    kind: Literal['pairs']
    root: Path
    images: str
    labels: str | None
    taxonomy: str
    mask_format: MaskFormat = 'raw_ids'
    image_suffix: str = ''
    label_suffix: str = ''
    pair_by: Literal['path', 'stem'] = 'path'
    environment: str = PARENT_FOLDER
    validation: tuple[str, ...] | float | None = None
    exclude: tuple[str, ...] = ()
    skip_unlabelled: bool = False
    mapping: str | None = None
    unknown: Unknown = 'error'

    def __post_init__(self) -> None:
        """Check what can be checked without the files."""
        if isinstance(self.validation, float) and not 0 < self.validation < 1:
            raise ValueError(
                f'validation: got the share {self.validation:g}, expected one between 0 and 1'
            )
        if self.environment != PARENT_FOLDER:
            try:
                groups = re.compile(self.environment).groups
            except re.error as error:
                raise ValueError(f'environment: no regular expression: {error}') from error
            if groups != 1:
                raise ValueError(
                    f'environment: {self.environment!r} has {groups} groups, expected 1, such as '
                    f"'^([a-z]+)_', or {PARENT_FOLDER!r}"
                )

    def native_taxonomy(self) -> Taxonomy:
        """Return the dataset's own classes."""
        beside = self.root / self.taxonomy
        if not Path(self.taxonomy).is_file() and beside.is_file():
            return load_taxonomy(beside)
        return load_taxonomy(self.taxonomy)

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the frames of a split.

        Raises:
            DatasetError: A partner is missing, a name is used twice, a glob fits nothing, or the
                split has no frames.
        """
        reader = create_reader(
            self.native_taxonomy(), taxonomy, self.mask_format, self.mapping, self.unknown
        )
        files = self._choose(self._files(), split)
        return FrameSet(files, taxonomy, reader, f'{self.root} ({split})')

    def _files(self) -> list[FrameFiles]:
        every = self._find(self.images, self.image_suffix)
        every_label = {}
        if self.labels is not None:
            every_label = self._find(self.labels, self.label_suffix, LOSSLESS_SUFFIXES)
        self._check_exclude([*every, *every_label])
        images = self._cut(leave_out(every, self.exclude, 'exclude'))
        environments = self._environments(images)
        if self.labels is None:
            return [
                FrameFiles(self.root / path, None, environments[name])
                for name, path in sorted(images.items())
            ]
        labels = self._cut(leave_out(every_label, self.exclude, 'exclude'))
        # Labels in other folders than their images may fit no glob themselves.
        for name in {self._key(name) for name in every} - images.keys():
            labels.pop(name, None)
        return [
            FrameFiles(self.root / image, self.root / label, environments[name])
            for name, image, label in pair(images, labels, str(self.root), self.skip_unlabelled)
        ]

    def _find(
        self, pattern: str, suffix: str, suffixes: tuple[str, ...] = PICTURE_SUFFIXES
    ) -> dict[str, str]:
        """Return what the wildcards stand for -> path."""

        def name_of(meaning: tuple[str, ...]) -> str:
            return '/'.join(meaning).removesuffix(suffix)

        return find_named(self.root, pattern, suffixes, name_of)

    def _check_exclude(self, names: list[str]) -> None:
        idle = idle_globs(names, self.exclude)
        if names and idle:
            raise DatasetError(
                f'{self.root}: exclude: {", ".join(idle)} fits no frame, expected what the '
                f'wildcards stand for, such as {names[0]}; mend or remove it'
            )

    def _key(self, name: str) -> str:
        """Return what an image and its label have in common."""
        return name.rpartition('/')[2] if self.pair_by == 'stem' else name

    def _cut(self, files: dict[str, str]) -> dict[str, str]:
        return by_name(self.root, ((self._key(name), path) for name, path in files.items()))

    def _environments(self, images: dict[str, str]) -> dict[str, str]:
        """Return name -> environment."""
        if self.environment == PARENT_FOLDER:
            start = len(Pattern(self.images).folder)
            return {
                name: path[start:].rpartition('/')[0].strip('/') or self.root.name
                for name, path in images.items()
            }
        search = re.compile(self.environment).search
        found = {name: search(path) for name, path in images.items()}
        strangers = [images[name] for name, match in found.items() if not (match and match[1])]
        if strangers:
            raise DatasetError(
                f'{self.root}: environment {self.environment!r} is not found in {len(strangers)} '
                f'paths: {some(strangers)}'
            )
        return {name: match[1] for name, match in found.items() if match}

    def _choose(self, files: list[FrameFiles], split: Split) -> list[FrameFiles]:
        if not files:
            raise DatasetError(f'{self.root}: no file fits {self.images}')
        if self.validation is None:
            if split == 'validation':
                raise DatasetError(
                    f'{self.root}: no frames for validation; set validation to globs of image '
                    'paths, or to a share of the frames'
                )
            return files
        if isinstance(self.validation, float):
            return choose_share(files, self.validation, split, str(self.root))
        return choose_globs(files, self.validation, split, self.root)
