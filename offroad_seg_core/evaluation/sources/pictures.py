"""Frames of a folder of pictures, as one camera's drive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
import re
from typing import Any

import cv2
import numpy as np

from offroad_seg_core.bags.camera_images import CameraImage, FrameError
from offroad_seg_core.evaluation.sources.frame import (
    FRAMES_A_PART,
    Frame,
    SourceError,
    UniqueNames,
    file_identity,
)

PICTURE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
PICTURE_HZ = 5.0
"""Pictures whose names hold no time are as far apart as this says."""
CAMERA = 'pictures'
_STAMP = re.compile(r'(?<!\d)(\d{9,10})[._-](\d{9})(?!\d)|(?<!\d)(\d{18,19})(?!\d)')
_JPEG_HEAD, _JPEG_END = b'\xff\xd8', b'\xff\xd9'


def stamp_in_name(stem: str) -> int | None:
    """Return the time in a file's name, ns: `1700000000.123456789` or `1700000000123456789`."""
    match = _STAMP.search(stem)
    if match is None:
        return None
    return int(match[3]) if match[3] else int(match[1]) * 1_000_000_000 + int(match[2])


def list_pictures(folder: Path) -> list[Path]:
    """Return a folder's pictures, sorted by name.

    Raises:
        SourceError: There is none.
    """
    if not folder.is_dir():
        raise SourceError(f'{folder}: no such folder; fix: give a folder of pictures')
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        expected = ', '.join(PICTURE_SUFFIXES)
        held = ', '.join(sorted(path.name for path in folder.iterdir())[:8]) or 'nothing'
        raise SourceError(f'{folder}: got no pictures, expected {expected}; it holds {held}')
    return files


class PictureFrames:
    """The pictures of a folder in the order of their names.

    Their times are those in their names, where every name has one.

    Args:
        folder: Holds the pictures; folders inside are left out.

    Raises:
        SourceError: There are no pictures, or two differ in nothing but their suffix.
    """

    notes: tuple[str, ...] = ()
    can_seek = True

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._files = list_pictures(self._folder)
        stems = [file.stem for file in self._files]
        twice = [stem for stem, count in Counter(stems).items() if count > 1]
        if twice:
            fix = 'remove or rename one of each'
            raise SourceError(f'{folder}: got two pictures named {", ".join(twice[:5])}; {fix}')
        self.num_frames = len(self._files)
        self.num_parts = -(-self.num_frames // FRAMES_A_PART)
        stamps = [stamp_in_name(stem) for stem in stems]
        self.has_times = None not in stamps
        step_ns = round(1e9 / PICTURE_HZ)
        self._stamps = [
            index * step_ns if stamp is None or not self.has_times else stamp
            for index, stamp in enumerate(stamps)
        ]

    def frames(self, first_part: int, names: UniqueNames) -> Iterator[tuple[int, Frame]]:
        """Yield (part, frame), see ``Source``."""
        del names  # files have names of their own
        for index in range(first_part * FRAMES_A_PART, self.num_frames):
            file, stamp_ns = self._files[index], self._stamps[index]
            load = partial(read_picture, file)
            frame = Frame(CAMERA, file.stem, stamp_ns, stamp_ns, load, environment=CAMERA)
            yield index // FRAMES_A_PART, frame

    def identity(self) -> dict[str, Any]:
        """Return what the frames depend on."""
        return {'kind': 'pictures', 'files': file_identity(self._folder)}

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the folder."""
        return {
            'kind': 'pictures',
            'path': str(self._folder),
            'start_ns': self._stamps[0] if self.has_times else None,
            'duration_s': (self._stamps[-1] - self._stamps[0]) / 1e9 if self.has_times else None,
            'cameras': {CAMERA: {'topic': '', 'num_messages': self.num_frames}},
        }


def read_picture(file: Path) -> CameraImage:
    """Read a picture upright: as its EXIF orientation says.

    Raises:
        FrameError: It is missing, cut off or no picture.
    """
    fix = 'copy it again or remove it'
    try:
        data = file.read_bytes()
    except OSError as error:
        raise FrameError.of(str(file), error.strerror, 'a readable picture', fix) from error
    got = f'{len(data)} bytes'
    # OpenCV fills the missing part of a JPEG with grey and says nothing.
    if data.startswith(_JPEG_HEAD) and _JPEG_END not in data[-4096:]:
        raise FrameError.of(str(file), f'{got} (cut off)', 'a whole JPEG', fix)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        raise FrameError.of(str(file), got, 'a readable picture', fix)
    return CameraImage(pixels, 'bgr')
