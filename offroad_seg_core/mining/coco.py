"""Label maps as COCO annotations: one region of run lengths a class and frame.

COCO's format of data: https://cocodataset.org/#format-data. The runs are not compressed, which
the format allows, so that nothing but JSON is needed to read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy


def coco_document(
    taxonomy: Taxonomy, frames: Iterable[tuple[str, tuple[int, int], list[dict[str, Any]]]]
) -> dict[str, Any]:
    """Return the content of a COCO file.

    Args:
        taxonomy: Category ids are its class ids plus 1, as 0 means nothing in COCO.
        frames: File name, (height, width) and regions (see coco_regions) of each picture.
    """
    categories = [
        {'id': entry.id + 1, 'name': entry.name, 'supercategory': entry.group}
        for entry in taxonomy.classes
    ]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, (height, width), regions in frames:
        images.append({'id': len(images) + 1, 'file_name': name, 'height': height, 'width': width})
        for region in regions:
            ids = {'id': len(annotations) + 1, 'image_id': len(images)}
            annotations.append({**ids, **region})
    return {'images': images, 'annotations': annotations, 'categories': categories}


def coco_regions(label_map: np.ndarray) -> list[dict[str, Any]]:
    """Return the regions of a label map without the ids that a document gives them.

    Args:
        label_map: Class ids or 255, ``(H, W)`` uint8; 255 is no region.
    """
    found = []
    for label in np.unique(label_map[label_map != IGNORE_INDEX]).tolist():
        mask = label_map == label
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
        found.append(
            {
                'category_id': label + 1,
                'iscrowd': 1,  # COCO's way to say that run lengths follow, not a polygon
                'area': int(mask.sum()),
                'bbox': [left, top, width, height],
                'segmentation': {'size': list(mask.shape), 'counts': run_lengths(mask)},
            }
        )
    return found


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return COCO's runs of a mask: column by column, of false and true by turns, false first.

    Args:
        mask: ``(H, W)`` bool.
    """
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0, *lengths] if flat[0] else lengths
