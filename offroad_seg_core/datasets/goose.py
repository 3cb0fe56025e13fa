"""GOOSE and GOOSE-Ex: 64 classes, several robots with a camera each.

Layout, as in goosetools of github.com/FraunhoferIOSB/goose_dataset::

    images/{train,val,test}/<scenario>/<base>_<camera>.png
    labels/{train,val}/<scenario>/<base>_{labelids,color,instanceids}.png
"""

from __future__ import annotations

import logging
from pathlib import Path
import re
from typing import Literal

from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.faults import known_faults
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet, Split
from offroad_seg_core.datasets.label_source import Unknown, create_reader
from offroad_seg_core.datasets.listing import some
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.pairing import find_named, leave_out, pair
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

log = logging.getLogger(__name__)

Camera = Literal['windshield_vis', 'camera_left', 'front', 'realsense']
CAMERAS: tuple[Camera, ...] = ('windshield_vis', 'camera_left', 'front', 'realsense')
_INFRARED = 'windshield_nir'  # beside windshield_vis in some scenarios; no label is for it
_FOLDERS: dict[Split, str] = {'train': 'train', 'validation': 'val'}


@dataclass(frozen=True, config=STRICT)
class GooseConfig:
    """GOOSE, GOOSE-Ex, or both in one folder; the environments are the scenarios.

    Attributes:
        kind: Names this dataset; the two have one layout.
        root: Holds ``images`` and ``labels``.
        cameras: Whose frames to take: MuCAR-3 has windshield_vis, ALICE camera_left, Spot front
            and realsense.
        mask_format: Which label files to read. The ids are surer: published colour tables of
            GOOSE give hedge the colour of snow.
        exclude_faults: Leave out frames whose labels are known to be wrong, see
            ``faults/goose.yaml``.
        exclude: Globs of further frames, ``<split>/<scenario>/<base>``.
        mapping: From goose64 to the wanted classes, see ``find_mapping``.
        unknown: What to do with mask values that goose64 does not know.
    """

    kind: Literal['goose', 'goose_ex']
    root: Path
    cameras: tuple[Camera, ...] = CAMERAS
    mask_format: Literal['labelids', 'color'] = 'labelids'
    exclude_faults: bool = True
    exclude: tuple[str, ...] = ()
    mapping: str | None = None
    unknown: Unknown = 'error'

    def native_taxonomy(self) -> Taxonomy:
        """Return the dataset's own classes."""
        return load_taxonomy('goose64')

    def frames(self, split: Split, taxonomy: Taxonomy) -> FrameSet:
        """Return the labelled frames of a split.

        Raises:
            DatasetError: A file has no partner, is of no known camera, or no frame is left.
        """
        folder = _FOLDERS[split]
        images, others = self._images(folder)
        labels, instances = self._labels(folder)
        labels = {name: path for name, path in labels.items() if name not in others}
        files = [
            FrameFiles(
                self.root / image,
                self.root / label,
                name.split('/')[1],
                self.root / instances[name] if name in instances else None,
            )
            for name, image, label in pair(images, labels, str(self.root))
        ]
        form: Literal['raw_ids', 'colors'] = (
            'raw_ids' if self.mask_format == 'labelids' else 'colors'
        )
        native = self.native_taxonomy()
        reader = create_reader(native, taxonomy, form, self.mapping, self.unknown)
        return FrameSet(files, taxonomy, reader, f'{self.root} ({split})')

    def _images(self, folder: str) -> tuple[dict[str, str], set[str]]:
        """Return name -> path of the chosen cameras, and the names that only others have."""
        found = self._by_ending(f'images/{folder}/*/*', (*CAMERAS, _INFRARED))
        if found['']:
            raise DatasetError(
                f'{self.root}: {len(found[""])} images are of no known camera: '
                f'{some(found[""].values())}; expected names that end with {", ".join(CAMERAS)}'
            )
        images: dict[str, str] = {}
        for camera in self.cameras:
            double = sorted(images.keys() & found[camera].keys())
            if double:
                raise DatasetError(
                    f'{self.root}: {len(double)} frames have images of several cameras but one '
                    f'label: {some(double)}; name the camera that the labels are for in cameras'
                )
            images |= found[camera]
        others = {name for files in found.values() for name in files} - images.keys()
        if others:
            log.info('%s: %d frames of other cameras left out', self.root, len(others))
        return images, others

    def _labels(self, folder: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return name -> path of the labels, and of the instance ids where there are some."""
        found = self._by_ending(f'labels/{folder}/*/*', ('labelids', 'color', 'instanceids'))
        if found['']:
            raise DatasetError(
                f'{self.root}: {len(found[""])} label files are of no known kind: '
                f'{some(found[""].values())}; expected names that end with _labelids, _color or '
                '_instanceids'
            )
        return found[self.mask_format], found['instanceids']

    def _by_ending(self, pattern: str, endings: tuple[str, ...]) -> dict[str, dict[str, str]]:
        """Return ending -> name without it -> path; the ending is '' where it is another."""
        regex = re.compile(f'(.*)_({"|".join(endings)})')
        found: dict[str, dict[str, str]] = {ending: {} for ending in (*endings, '')}
        for whole, path in find_named(self.root, pattern).items():
            match = regex.fullmatch(whole)
            name, ending = match.groups() if match else (whole, '')
            found[ending][f'{pattern.split("/")[1]}/{name}'] = path
        return {ending: self._keep(files) for ending, files in found.items()}

    def _keep(self, files: dict[str, str]) -> dict[str, str]:
        faults = known_faults('goose') if self.exclude_faults else {}
        for glob, why in faults.items():
            files = leave_out(files, [glob], why)
        return leave_out(files, self.exclude, 'exclude')
