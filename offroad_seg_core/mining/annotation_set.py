"""A folder of frames with pre-labels that annotation tools import and that training reads.

The layout is CVAT's 'Segmentation mask 1.1', which is Pascal VOC's: ``JPEGImages``,
``SegmentationClass`` and ``SegmentationObject`` in colours, ``labelmap.txt`` and
``ImageSets/Segmentation/default.txt``. Beside it lie the same labels as COCO regions, and what
``kind: pairs`` needs.

CVAT reads an object of each colour of ``SegmentationClass``, that of no label among them, unless
``SegmentationObject`` says where the objects are; what it exports is black where nobody labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import json
from pathlib import Path
from typing import Any
import zipfile

import cv2
import numpy as np
import yaml

from offroad_seg_core.datasets.mask_writing import encode_mask
from offroad_seg_core.mining.coco import coco_document, coco_regions
from offroad_seg_core.taxonomy import Taxonomy

IMAGES, MASKS, OBJECTS = 'JPEGImages', 'SegmentationClass', 'SegmentationObject'
LIST = 'ImageSets/Segmentation/default.txt'
LABEL_MAP, CVAT_LABELS = 'labelmap.txt', 'cvat_labels.json'
CVAT_ZIP, COCO = 'cvat_masks.zip', 'annotations/instances_default.json'
DATA, TAXONOMY = 'data.yaml', 'taxonomy.yaml'
SEPARATOR = '__'
"""Between the camera and the name of a frame: annotation tools like flat folders."""
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
_Color = tuple[int, int, int]
_BACKGROUND, _BLACK = 'background', (0, 0, 0)


class AnnotationSet:
    """Writes the set; it is complete after ``finish``.

    Args:
        folder: Where to; made here.
        taxonomy: Of the labels.
    """

    def __init__(self, folder: Path, taxonomy: Taxonomy) -> None:
        self._folder, self._taxonomy = folder, reserve_black(taxonomy)
        self._objects = _coloured_as_objects(taxonomy)
        self._frames: list[tuple[str, tuple[int, int], list[dict[str, Any]]]] = []
        for name in (IMAGES, MASKS, OBJECTS, Path(LIST).parent, Path(COCO).parent):
            (folder / name).mkdir(parents=True)

    def add(self, name: str, image_bgr: np.ndarray, label_map: np.ndarray) -> None:
        """Write one frame.

        Args:
            name: Of its files, without a suffix.
            image_bgr: ``(H, W, 3)`` uint8; stored without loss.
            label_map: Class ids or 255, ``(H, W)`` uint8.
        """
        _, data = cv2.imencode('.png', image_bgr, _PNG)
        (self._folder / IMAGES / f'{name}.png').write_bytes(data.tobytes())
        for place, taxonomy in ((MASKS, self._taxonomy), (OBJECTS, self._objects)):
            mask = encode_mask(label_map, taxonomy, 'colors', name)
            (self._folder / place / f'{name}.png').write_bytes(mask)
        self._frames.append((f'{name}.png', label_map.shape, coco_regions(label_map)))

    def finish(self, root: Path) -> None:
        """Write what describes the frames.

        Args:
            root: Where the folder will lie, for its data set configuration.
        """
        folder, taxonomy = self._folder, self._taxonomy
        stems = [Path(name).stem for name, *_ in self._frames]
        _write(folder / LIST, ''.join(f'{stem}\n' for stem in stems))
        _write(folder / LABEL_MAP, labelmap_text(taxonomy))
        labels = [
            {'name': name, 'color': '#' + bytes(color).hex(), 'attributes': []}
            for name, color in _cvat_labels(taxonomy)
        ]
        _write(folder / CVAT_LABELS, json.dumps(labels, indent=1) + '\n')
        _write(folder / COCO, json.dumps(coco_document(taxonomy, self._frames)))
        _write(folder / TAXONOMY, yaml.safe_dump(taxonomy.to_dict(), sort_keys=False))
        data = {
            'kind': 'pairs',
            'root': str(root),
            'images': f'{IMAGES}/*.png',
            'labels': f'{MASKS}/*.png',
            'taxonomy': TAXONOMY,
            'mask_format': 'colors',
            'skip_unlabelled': True,  # CVAT exports no mask of a frame without any label
            'environment': f'^{IMAGES}/(.+?){SEPARATOR}',
        }
        _write(folder / DATA, yaml.safe_dump(data, sort_keys=False))
        with zipfile.ZipFile(folder / CVAT_ZIP, 'w', zipfile.ZIP_DEFLATED) as archive:
            masks = [f'{place}/{stem}.png' for place in (MASKS, OBJECTS) for stem in stems]
            for name in (LABEL_MAP, LIST, *masks):
                archive.write(folder / name, name)


def reserve_black(taxonomy: Taxonomy) -> Taxonomy:
    """Return a taxonomy in which black, and no other colour, stands for pixels without a label.

    A class that is black itself becomes grey.
    """
    colors = [entry.color_rgb for entry in taxonomy.classes]
    grays = ((level, level, level) for level in (*range(64, 256), *range(1, 64)))
    free = (gray for gray in grays if gray not in colors)  # one at least: 255 classes, one black
    return _recoloured(taxonomy, [next(free) if color == _BLACK else color for color in colors])


def labelmap_text(taxonomy: Taxonomy) -> str:
    """Return CVAT's table of colours: ``name:red,green,blue:parts:actions`` a line."""
    entries = [(_BACKGROUND, _BLACK), *_cvat_labels(taxonomy)]
    lines = [f'{name}:{red},{green},{blue}::' for name, (red, green, blue) in entries]
    return '\n'.join(['# label:color_rgb:parts:actions', *lines]) + '\n'


def _cvat_labels(taxonomy: Taxonomy) -> list[tuple[str, _Color]]:
    """Return the name and colour of each class; CVAT keeps one name for what nobody labelled."""
    return [
        ('background class' if entry.name == _BACKGROUND else entry.name, entry.color_rgb)
        for entry in taxonomy.classes
    ]


def _coloured_as_objects(taxonomy: Taxonomy) -> Taxonomy:
    """Return a taxonomy in Pascal VOC's colours of objects: class 0 is object 1, no label is 0."""
    numbers = np.arange(1, taxonomy.num_classes + 1, dtype=np.uint8)[:, None]
    bits = np.unpackbits(numbers, axis=1, bitorder='little')
    # Red is of bits 0, 3 and 6, green of 1, 4 and 7, blue of 2 and 5, the highest first.
    colors = np.hstack([np.packbits(bits[:, channel::3], axis=1) for channel in range(3)])
    return _recoloured(taxonomy, [(red, green, blue) for red, green, blue in colors.tolist()])


def _recoloured(taxonomy: Taxonomy, colors: Sequence[_Color]) -> Taxonomy:
    pairs = zip(taxonomy.classes, colors, strict=True)
    classes = tuple(replace(entry, color_rgb=color) for entry, color in pairs)
    return replace(taxonomy, classes=classes, ignored_colors=(_BLACK,))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding='utf-8')
