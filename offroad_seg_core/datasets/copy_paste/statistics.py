"""What pasting added to a data set: counts, and crops to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from offroad_seg_core.datasets.copy_paste.bank import InstanceBank
from offroad_seg_core.datasets.picture_files import read_image
from offroad_seg_core.files import atomic_path
from offroad_seg_core.visualization import contact_sheet

_CROP_HW = (240, 320)


def summarize(
    records: Sequence[dict[str, Any]], bank: InstanceBank, names: Sequence[str]
) -> dict[str, Any]:
    """Count what was added.

    Args:
        records: Lines of the manifest.
        bank: Knows the counts before.
        names: Class names in the order of their ids.

    Returns:
        ``images_before``, ``images_added``, ``objects_left_out`` and ``classes``: name -> pixels
        and images ``before`` and ``after`` (the frames and the new images together), and
        ``pasted_objects`` and ``pasted_pixels``.
    """
    written = [record for record in records if record['image'] is not None]
    counts = np.array([record['class_pixels'] for record in written], np.int64)
    counts = counts.reshape(len(written), len(names))
    objects = [item for record in written for item in record['objects']]
    classes = {}
    for index, name in enumerate(names):
        own = [item['pixels'] for item in objects if item['class_name'] == name]
        pixels, images = int(bank.class_pixels[index]), int(bank.class_frames[index])
        classes[name] = {
            'pixels_before': pixels,
            'pixels_after': pixels + int(counts[:, index].sum()),
            'images_before': images,
            'images_after': images + int(np.count_nonzero(counts[:, index])),
            'pasted_objects': len(own),
            'pasted_pixels': sum(own),
        }
    return {
        'images_before': bank.num_frames,
        'images_added': len(written),
        'objects_left_out': sum(len(record['left_out']) for record in records),
        'classes': classes,
    }


def format_statistics(statistics: dict[str, Any]) -> str:
    """Return the statistics as a table for a terminal."""
    lines = [
        f'{statistics["images_before"]} images, {statistics["images_added"]} added, '
        f'{statistics["objects_left_out"]} objects found no place',
        f'{"class":20} {"share":>8} {"after":>8} {"images":>8} {"after":>8} {"pasted":>8}',
    ]
    rows = statistics['classes']
    before = max(1, sum(row['pixels_before'] for row in rows.values()))
    after = max(1, sum(row['pixels_after'] for row in rows.values()))
    for name, row in sorted(rows.items(), key=lambda item: item[1]['pixels_before']):
        lines.append(
            f'{name:20} {row["pixels_before"] / before:8.3%} {row["pixels_after"] / after:8.3%} '
            f'{row["images_before"]:8} {row["images_after"]:8} {row["pasted_objects"]:8}'
        )
    return '\n'.join(lines)


def write_contact_sheet(manifest: Path, folder: Path, path: Path) -> None:
    """Write the contact sheet of a manifest as PNG; nothing if no object was pasted."""
    records = [json.loads(line) for line in manifest.read_text(encoding='utf-8').splitlines()]
    if any(record['objects'] for record in records):
        sheet = draw_contact_sheet(records, folder)
        data = cv2.imencode('.png', cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
        with atomic_path(path) as temporary:
            temporary.write_bytes(data.tobytes())


def draw_contact_sheet(
    records: Sequence[dict[str, Any]], folder: Path, num_tiles: int = 48, columns: int = 8
) -> np.ndarray:
    """Show pasted objects in their new places, every class as often as the others.

    Args:
        records: Lines of the manifest; at least one object was pasted.
        folder: Where ``image`` of a record begins.
        num_tiles: At most.
        columns: Tiles in a row.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    chosen = list(_spread(records, num_tiles))
    tiles = [
        _crop(read_image(folder / record['image']), item['row'], item['column'])
        for record, item in chosen
    ]
    captions = [f'{item["class_name"]} x{item["scale"]:.2f}' for _, item in chosen]
    return contact_sheet(tiles, columns, captions, tile_width=_CROP_HW[1])


def _spread(
    records: Sequence[dict[str, Any]], count: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield (record, object) pairs, evenly from the pasted objects of each class."""
    groups: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for record in records:
        for item in record['objects']:
            groups.setdefault(item['class_name'], []).append((record, item))
    share = max(1, count // max(1, len(groups)))
    for name in sorted(groups):
        own = groups[name]
        for place in np.unique(np.linspace(0, len(own) - 1, min(share, len(own))).astype(int)):
            yield own[place]


def _crop(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return the surroundings of a foot point, which lies a little below the middle."""
    height, width = (
        min(wanted, side) for wanted, side in zip(_CROP_HW, image.shape, strict=False)
    )
    top = int(np.clip(row - 2 * height // 3, 0, image.shape[0] - height))
    left = int(np.clip(column - width // 2, 0, image.shape[1] - width))
    return image[top : top + height, left : left + width]
