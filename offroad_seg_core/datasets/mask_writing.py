"""Write label maps as a dataset stores them, so that its own tools read predictions."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from offroad_seg_core.datasets.mask_values import MaskFormat, stored_values
from offroad_seg_core.datasets.picture_files import DatasetError
from offroad_seg_core.files import atomic_path
from offroad_seg_core.lookup import lookup
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy

_UNUSED = -1


def write_mask(
    path: str | Path, label_map: np.ndarray, taxonomy: Taxonomy, format: MaskFormat
) -> None:
    """Write a label map as a PNG file; it appears whole or, if anything fails, not at all.

    ``raw_ids`` are written with 16 bits if the taxonomy has a raw id above 255, else with 8. A
    class with several raw ids gets its first; 255 becomes the first ignored raw id or colour.

    Args:
        path: Where to; must end in ``.png``.
        label_map: ``(H, W)`` uint8 class ids of ``taxonomy`` or 255.
        taxonomy: The dataset's own classes.
        format: What to store, see MaskFormat.

    Raises:
        DatasetError: The suffix, shape or type is another, a label is no class, or it is 255 and
            the taxonomy has nothing that stands for ignored pixels.
        OSError: The file cannot be written, for example because the disk is full.
    """
    if Path(path).suffix.lower() != '.png':
        raise DatasetError(f'{path}: expected a name that ends in .png, which loses nothing')
    data = encode_mask(label_map, taxonomy, format, str(path))
    # Encoded in memory: OpenCV's own writer does not say why it failed.
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_mask(
    label_map: np.ndarray, taxonomy: Taxonomy, format: MaskFormat, where: str = 'mask'
) -> bytes:
    """Return the content of the PNG file; see write_mask. ``where`` is for errors."""
    if label_map.ndim != 2 or label_map.dtype != np.uint8 or not label_map.size:
        raise DatasetError(
            f'{where}: got shape {label_map.shape} {label_map.dtype}; expected a label map '
            '(H, W) uint8 that is not empty'
        )
    values = _values_to_write(taxonomy, format)
    _check_labels(label_map, values, taxonomy, where)
    if format == 'colors':
        # Bytes of a little-endian 0xRRGGBB are blue, green, red, nothing: as OpenCV stores them.
        bgr = values.astype('<u4').view(np.uint8).reshape(256, 4)[:, :3]
        return _encode_png(np.ascontiguousarray(bgr)[label_map])
    if format == 'palette':
        return _encode_indexed(label_map, values, taxonomy)
    if values.max() <= 255:
        return _encode_png(lookup(label_map, values.astype(np.uint8)))
    return _encode_png(values.astype(np.uint16)[label_map])


def _values_to_write(taxonomy: Taxonomy, format: MaskFormat) -> np.ndarray:
    """Return the stored value of each label, (256,) int64; _UNUSED where there is none."""
    values = np.full(256, _UNUSED, np.int64)
    stored = stored_values(taxonomy, format)
    for value, label in stored.items():
        if values[label] == _UNUSED:
            values[label] = value
    if format == 'palette' and max(stored) > 255:
        raise DatasetError(
            f'{taxonomy.name} has raw ids up to {max(stored)}; an indexed PNG file holds 0 to '
            "255; write 'raw_ids'"
        )
    return values


def _check_labels(
    label_map: np.ndarray, values: np.ndarray, taxonomy: Taxonomy, where: str
) -> None:
    counts = np.bincount(label_map.ravel(), minlength=256)
    unknown = np.flatnonzero((counts > 0) & (values == _UNUSED))
    if not unknown.size:
        return
    found = ', '.join(f'{label} ({counts[label]} px)' for label in unknown[:12])
    if unknown[0] == IGNORE_INDEX:
        raise DatasetError(
            f'{where}: got {counts[IGNORE_INDEX]} pixels without a label (255), but '
            f'{taxonomy.name} has no value for them; add one to its ignored_raw_ids or '
            'ignored_colors'
        )
    raise DatasetError(
        f'{where}: got labels {found}; expected 0 to {taxonomy.num_classes - 1} of '
        f'{taxonomy.name}, or 255'
    )


def _encode_png(array: np.ndarray) -> bytes:
    encoded, data = cv2.imencode('.png', array)
    assert encoded, 'a PNG file holds any array of one or three channels'
    return data.tobytes()


def _encode_indexed(label_map: np.ndarray, values: np.ndarray, taxonomy: Taxonomy) -> bytes:
    palette = np.zeros((256, 3), np.uint8)
    for entry in taxonomy.classes:
        palette[list(entry.raw_ids)] = entry.color_rgb
    if taxonomy.ignored_colors and taxonomy.ignored_raw_ids:
        palette[list(taxonomy.ignored_raw_ids)] = taxonomy.ignored_colors[0]
    picture = Image.fromarray(lookup(label_map, values.astype(np.uint8)), 'P')
    picture.putpalette(palette.tobytes())
    stream = io.BytesIO()
    picture.save(stream, 'PNG')
    return stream.getvalue()
