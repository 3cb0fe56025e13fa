"""A folder of frames with pre-labels that annotation tools import and that training reads.

The layout is CVAT's 'Segmentation mask 1.1', which is Pascal VOC's: ``JPEGImages``,
``SegmentationClass`` in colours, ``ImageSets/Segmentation/default.txt`` and ``labelmap.txt``.
Beside it lie the same labels as COCO regions, and what ``kind: pairs`` needs.
"""

from __future__ import annotations

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

IMAGES, MASKS, LIST = 'JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation/default.txt'
LABEL_MAP, CVAT_LABELS = 'labelmap.txt', 'cvat_labels.json'
CVAT_ZIP, COCO = 'cvat_masks.zip', 'annotations/instances_default.json'
DATA, TAXONOMY = 'data.yaml', 'taxonomy.yaml'
SEPARATOR = '__'
"""Between the camera and the name of a frame: annotation tools like flat folders."""
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class AnnotationSet:
    """Writes the set; it is complete after ``finish``.

    Args:
        folder: Where to; made here.
        taxonomy: Of the labels.
    """

    def __init__(self, folder: Path, taxonomy: Taxonomy) -> None:
        self._folder, self._taxonomy = folder, with_background(taxonomy)
        self._frames: list[tuple[str, tuple[int, int], list[dict[str, Any]]]] = []
        for name in (IMAGES, MASKS, Path(LIST).parent, Path(COCO).parent):
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
        mask = encode_mask(label_map, self._taxonomy, 'colors', name)
        (self._folder / MASKS / f'{name}.png').write_bytes(mask)
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
            {'name': entry.name, 'color': '#' + bytes(entry.color_rgb).hex(), 'attributes': []}
            for entry in taxonomy.classes
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
            'environment': f'^{IMAGES}/(.+?){SEPARATOR}',
        }
        _write(folder / DATA, yaml.safe_dump(data, sort_keys=False))
        with zipfile.ZipFile(folder / CVAT_ZIP, 'w', zipfile.ZIP_DEFLATED) as archive:
            masks = [f'{MASKS}/{stem}.png' for stem in stems]
            for name in (LABEL_MAP, LIST, *masks):
                archive.write(folder / name, name)


def with_background(taxonomy: Taxonomy) -> Taxonomy:
    """Return a taxonomy in which a colour stands for pixels without a label.

    It is black where no class is.
    """
    if taxonomy.ignored_colors:
        return taxonomy
    taken = {entry.color_rgb for entry in taxonomy.classes}
    grays = ((level, level, level) for level in range(256))
    background = next(color for color in grays if color not in taken)  # at most 255 classes
    return replace(taxonomy, ignored_colors=(background,))


def labelmap_text(taxonomy: Taxonomy) -> str:
    """Return CVAT's table of colours: ``name:red,green,blue:parts:actions`` a line."""
    entries = [('background', taxonomy.ignored_colors[0])]
    entries += [(entry.name, entry.color_rgb) for entry in taxonomy.classes]
    lines = [f'{name}:{red},{green},{blue}::' for name, (red, green, blue) in entries]
    return '\n'.join(['# label:color_rgb:parts:actions', *lines]) + '\n'


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding='utf-8')
