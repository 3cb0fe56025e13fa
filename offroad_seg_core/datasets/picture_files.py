"""Read picture files whole and upright, or not at all.

Some decoders return a picture that is partly grey when the end of its file is missing, and some
turn a picture by its EXIF orientation while its label file stays as it was. In a training set
either is a frame of wrong labels that nobody sees.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
import simplejpeg
import stringzilla

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_JPEG_SIGNATURE = b'\xff\xd8\xff'
_TIFF_SIGNATURES = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_ORIENTATION_TAG = 0x0112


class DatasetError(ValueError):
    """A dataset folder or one of its files is not what its layout says."""


class PngHeader(NamedTuple):
    """What the header of a PNG file says about its pixels.

    Attributes:
        bit_depth: Bits of a channel: 1, 2, 4, 8 or 16.
        color_type: 0 grey, 2 RGB, 3 indexed, 4 grey and alpha, 6 RGB and alpha.
    """

    bit_depth: int
    color_type: int

    @classmethod
    def of(cls, data: bytes) -> PngHeader | None:
        """Return the header of a PNG file's content; None if it is none."""
        if not data.startswith(_PNG_SIGNATURE) or len(data) < 26:
            return None
        return cls(data[24], data[25])


def is_jpeg(data: bytes) -> bool:
    """Return whether a file's content is a JPEG picture."""
    return data.startswith(_JPEG_SIGNATURE)


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as RGB, ``(H, W, 3)`` uint8, with its pixels as they lie in the file.

    A JPEG, PNG, TIFF or WebP file with an orientation other than 1 is refused: whether its label
    file was drawn on the turned picture cannot be known, and for half a turn not even the sizes
    tell.

    Raises:
        DatasetError: The file is missing or empty, is not a picture, ends too early, or is to be
            turned.
    """
    return decode_image(path, read_file(path))


def decode_image(path: str | Path, data: bytes) -> np.ndarray:
    """Decode what read_file returned as RGB, ``(H, W, 3)`` uint8; ``path`` is for errors.

    Raises:
        DatasetError: It is not a picture, or its end is missing.
    """
    if is_jpeg(data):
        # The same pixels as OpenCV's, 1.1 times (4:2:0) to 1.5 times (4:4:4) as fast.
        try:
            return simplejpeg.decode_jpeg(data, 'RGB')
        except ValueError as error:
            raise DatasetError(
                f'{path}: got a broken JPEG file ({len(data)} bytes): {error}; copy or download '
                'it again'
            ) from error
    image = decode(path, data, cv2.IMREAD_COLOR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def read_file(path: str | Path) -> bytes:
    """Return the content of a file; pictures after the checks that cost next to nothing.

    Raises:
        DatasetError: The file is missing or empty, a PNG file without its end, or to be turned.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = 'no such file' if isinstance(error, FileNotFoundError) else str(error)
        raise DatasetError(f'{path}: {reason}') from error
    if not data:
        raise DatasetError(f'{path}: got an empty file (0 bytes); copy or download it again')
    # Searched from the end, so that whole files are done at once.
    if data.startswith(_PNG_SIGNATURE) and data.rfind(b'IEND') < 0:
        raise DatasetError(
            f'{path}: got a PNG file without its end ({len(data)} bytes); copy or download it '
            'again'
        )
    orientation = _orientation(data)
    if orientation != 1:
        raise DatasetError(
            f'{path}: got EXIF orientation {orientation}, expected 1 or none; turn the pixels '
            '(mogrify -auto-orient) if its label file lies as viewers show the picture, else '
            'remove the tag (exiftool -Orientation=)'
        )
    return data


def decode(path: str | Path, data: bytes, flags: int) -> np.ndarray:
    """Decode a picture with OpenCV; ``flags`` as for ``cv2.imread``, channels in BGR order."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise DatasetError(f'{path}: not a picture that OpenCV reads ({len(data)} bytes)')
    return image


def _orientation(data: bytes) -> int:
    """Return the orientation of a JPEG, PNG, TIFF or WebP file, 1 (upright) to 8."""
    # Pillow reads headers in 0.1 ms, and most files have no EXIF block and do not need it.
    # StringZilla searches 20 times as fast as bytes.find.
    if is_jpeg(data):
        place = stringzilla.find(data, b'Exif\0\0')
    elif data.startswith(_PNG_SIGNATURE):
        place = stringzilla.find(data, b'eXIf')
    elif data.startswith(_TIFF_SIGNATURES):
        place = 0  # the tag is one of the picture's own, not of a block
    elif data.startswith(b'RIFF') and data[8:12] == b'WEBP':
        place = stringzilla.find(data, b'EXIF')
    else:
        place = -1
    if place < 0:
        return 1
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, SyntaxError):  # what Pillow raises on broken files; the decoder says more
        return 1
