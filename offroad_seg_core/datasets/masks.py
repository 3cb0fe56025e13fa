"""Read label files without losing a bit, and turn what they store into label maps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
import hashlib
import io
import json
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from offroad_seg_core.datasets.mask_values import MaskFormat, describe_unknown, stored_values
from offroad_seg_core.datasets.picture_files import (
    DatasetError,
    PngHeader,
    decode,
    is_jpeg,
    read_file,
    read_image,
)
from offroad_seg_core.label_mapping import LabelMapping
from offroad_seg_core.lookup import lookup
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy

__all__ = ['DatasetError', 'MaskFormat', 'MaskReader', 'count_values', 'read_image']

_GREY, _INDEXED, _GREY_ALPHA = 0, 3, 4  # colour types of PNG files
# What unknown values become until they are reported. A taxonomy of 255 classes has a class 254
# too; then the pixels of that class are looked at twice.
_SUSPECT = 254


@dataclass(frozen=True)
class MaskReader:
    """Reads the label files of one dataset as label maps.

    Attributes:
        source: The dataset's own classes.
        format: What the files store, see MaskFormat.
        mapping: From ``source`` to the classes of the label maps; None keeps those of ``source``.
        unknown: What to do with stored values that ``source`` does not know: raise, or ignore
            those pixels (255).
    """

    source: Taxonomy
    format: MaskFormat
    mapping: LabelMapping | None = None
    unknown: Literal['error', 'ignore'] = 'error'

    def __post_init__(self) -> None:
        """Check that the mapping starts where the files are."""
        if self.mapping is not None and self.mapping.source_names != self.source.names:
            raise DatasetError(
                f'{self.mapping.origin}: its source classes are not those of '
                f'{self.source.name}; pass the mapping of this dataset'
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the look-up table (16 MB for colours) out of pickles."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the classes in label maps, in the order of their ids."""
        return self.source.names if self.mapping is None else self.mapping.target_names

    def read(self, path: str | Path) -> np.ndarray:
        """Read a label file as a label map of the target, ``(H, W)`` uint8.

        Raises:
            DatasetError: See read_stored and encode.
        """
        return self.encode(self.read_stored(path), str(path))

    def read_stored(self, path: str | Path) -> np.ndarray:
        """Read a label file as it is stored.

        Ids in a colour picture whose channels are equal (many tools write grey that way) are
        read as ids. The alpha channel of a colour mask is left out.

        Returns:
            ``(H, W)`` uint8 or uint16 ids, or ``(H, W)`` uint32 0xRRGGBB for colours.

        Raises:
            DatasetError: The file is missing, broken, or of another kind than ``format``.
        """
        data = read_file(path)
        if is_jpeg(data):
            raise DatasetError(
                f'{path}: got a JPEG file, which changes values when it is saved; expected a PNG '
                'file; make the labels again from their source'
            )
        if self.format == 'palette':
            return _read_indices(path, data)
        if self.format == 'colors':
            return _read_colors(path, data)
        return _read_ids(path, data)

    def encode(self, stored: np.ndarray, where: str = 'mask') -> np.ndarray:
        """Turn stored values, see read_stored, into a label map, ``(H, W)`` uint8.

        Raises:
            DatasetError: Naming ``where``, the unknown values, their pixel counts, what
                ``source`` knows and what may have happened.
        """
        expected = ('uint32',) if self.format == 'colors' else ('uint8', 'uint16')
        if stored.ndim != 2 or stored.dtype.name not in expected:
            raise DatasetError(
                f'{where}: got shape {stored.shape} {stored.dtype}; expected (H, W) '
                f'{" or ".join(expected)}; read the file with read_stored'
            )
        label_map = self._look_up(stored)
        if self.unknown == 'error':
            suspects = label_map == _SUSPECT
            if suspects.any():
                self._check_known(stored[suspects], where)
        return label_map

    def labels_of(self, values: np.ndarray) -> np.ndarray:
        """Return the target ids of stored values.

        Args:
            values: ``(K,)`` integers.

        Returns:
            ``(K,)`` int16: class ids, 255 ignored, -1 unknown.
        """
        known, labels = self._known
        place = np.searchsorted(known, values).clip(max=known.size - 1)
        return np.where(known[place] == values, labels[place], -1).astype(np.int16)

    def identity(self) -> str:
        """Return a hex digest that differs when the same file may become another label map."""
        goals = None
        if self.mapping is not None:
            goals = [self.mapping.target_names, sorted(self.mapping.pairs.items())]
        content = [self.source.sha256(), self.format, self.unknown, goals]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _look_up(self, stored: np.ndarray) -> np.ndarray:
        if stored.dtype == np.uint8:
            return lookup(stored, self._table[:256])
        if stored.dtype == np.uint16 and stored.size:
            return cv2.LUT(stored, self._table)  # four times as fast as NumPy
        return self._table.take(stored)

    def _check_known(self, stored: np.ndarray, where: str) -> None:
        values, counts = count_values(stored)
        unknown = self.labels_of(values) < 0
        if unknown.any():
            found = dict(zip(values[unknown].tolist(), counts[unknown].tolist(), strict=True))
            text = describe_unknown(self.source, self.format, found, stored.dtype)
            raise DatasetError(f'{where}: {text}')

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """Every stored value with a meaning, ascending, and its target id, int64 and int16."""
        meaning = stored_values(self.source, self.format)
        values = sorted(meaning)
        labels = np.array([meaning[value] for value in values], np.uint8)
        if self.mapping is not None:
            labels = self.mapping.apply(labels)
        return np.array(values, np.int64), labels.astype(np.int16)

    @cached_property
    def _table(self) -> np.ndarray:
        """Target id of every value that could be stored, uint8; for unknown ones see _SUSPECT."""
        size = 1 << (24 if self.format == 'colors' else 16)
        table = np.full(size, _SUSPECT if self.unknown == 'error' else IGNORE_INDEX, np.uint8)
        values, labels = self._known
        table[values] = labels
        return table


def count_values(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of each stored value.

    Args:
        stored: Unsigned integers of any shape.

    Returns:
        The values, ascending, and their pixel counts, both ``(K,)`` int64.
    """
    # Labels come in runs: counting their ends and lengths is faster than counting all pixels.
    flat = stored.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)[: flat.size]
    lengths = np.diff(ends, prepend=-1)
    if stored.itemsize <= 2:
        counts = np.bincount(flat[ends], weights=lengths)
        values = np.flatnonzero(counts)
        return values, counts[values].astype(np.int64)
    values, places = np.unique(flat[ends], return_inverse=True)
    counts = np.bincount(places, weights=lengths, minlength=values.size)
    return values.astype(np.int64), counts.astype(np.int64)


def _read_ids(path: str | Path, data: bytes) -> np.ndarray:
    header = PngHeader.of(data)
    if header is not None and header.color_type == _INDEXED:
        raise DatasetError(
            f'{path}: got an indexed PNG file, expected ids; set the mask format to '
            "'palette' if its indices are raw ids, to 'colors' if its colours are the classes'"
        )
    if header is not None and header.color_type == _GREY and header.bit_depth < 8:
        raise DatasetError(
            f'{path}: got {header.bit_depth} bits a pixel, expected 8 or 16; decoders stretch '
            'such values to 0..255, so they are ambiguous: save the labels with 8 bits'
        )
    # Without IMREAD_UNCHANGED OpenCV scales 16-bit files to 8 bits: 7100 would become 27.
    mask = decode(path, data, cv2.IMREAD_UNCHANGED)
    if mask.ndim == 3:
        blue, green, red = cv2.split(mask)[:3]
        if not (np.array_equal(blue, green) and np.array_equal(green, red)):
            raise DatasetError(
                f'{path}: got a colour picture ({mask.shape[2]} channels), expected ids; set the '
                "mask format to 'colors'"
            )
        mask = blue
    if mask.dtype not in (np.uint8, np.uint16):
        raise DatasetError(f'{path}: got {mask.dtype} values, expected uint8 or uint16 ids')
    return mask


def _read_colors(path: str | Path, data: bytes) -> np.ndarray:
    header = PngHeader.of(data)
    if header is not None and header.color_type in (_GREY, _GREY_ALPHA):
        raise DatasetError(
            f"{path}: got a grey picture, expected colours; set the mask format to 'raw_ids' or "
            "'class_ids' if its values are ids"
        )
    if header is not None and header.bit_depth == 16:
        raise DatasetError(
            f'{path}: got 16 bits a channel, expected 8; save the colours with 8 bits'
        )
    bgr = decode(path, data, cv2.IMREAD_COLOR)
    packed = cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA).view('<u4')[..., 0]
    packed &= 0xFFFFFF  # alpha away
    return packed


def _read_indices(path: str | Path, data: bytes) -> np.ndarray:
    header = PngHeader.of(data)
    if header is None or header.color_type != _INDEXED:
        raise DatasetError(
            f'{path}: not an indexed PNG file, as mask format palette expects; set it to '
            "'raw_ids' if the file stores ids, to 'colors' if it stores colours"
        )
    try:
        # Pillow, because OpenCV returns the palette's colours instead of the indices.
        with Image.open(io.BytesIO(data)) as picture:
            return np.array(picture)
    except (OSError, SyntaxError) as error:
        raise DatasetError(f'{path}: got a broken PNG file: {error}') from error
