"""Frames in small for the report, one file each: ``report/frames/<camera>/<name>.js``.

A page that was opened as a file may load scripts from beside it, but no data. So a frame is a
script that hands its pixels over: the picture as JPEG, label maps as zlib of their ids. The page
colours ids by itself, and no browser's protection against fingerprints, which changes pixels that
scripts read back from a picture, can change a class.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
import zlib

import cv2
import numpy as np

from offroad_seg_core.evaluation.outputs.sink import Labelled, frame_path
from offroad_seg_core.files import sync

FOLDER = 'report/frames'
CALL = 'showFrame'
WIDTH_PX = 640
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 80]
_LEVEL = 1


class ReportFrames:
    """Writes the files, for every frame or every so many.

    Args:
        every: Of each part the first frame of a camera, and every so many after it.
    """

    def __init__(self, every: int = 1) -> None:
        self._every = every

    def identity(self) -> list[object]:
        """Return what it writes."""
        return ['frames', self._every]

    def begin(self, folder: Path, part: Path) -> None:
        """Start a part, see Sink."""
        del part
        self._folder = folder / FOLDER
        self._written: list[Path] = []

    def prepare(self, labelled: Labelled) -> Path | None:
        """Write the file, see Sink."""
        if labelled.place % self._every:
            return None
        frame = labelled.frame
        path = frame_path(self._folder, frame.camera, frame.name, '.js')
        path.parent.mkdir(parents=True, exist_ok=True)
        name = str(path.relative_to(self._folder).with_suffix(''))
        path.write_text(f'{CALL}({json.dumps(name)}, {_payload(labelled)});\n', encoding='utf-8')
        return path

    def add(self, labelled: Labelled, prepared: Path | None) -> None:
        """Remember the file, see Sink."""
        if prepared is not None:
            self._written.append(prepared)

    def commit(self) -> None:
        """Let the files be on the disk before the part counts as done."""
        for path in self._written:
            sync(path)

    def close(self) -> None:
        """Do nothing, see Sink."""

    def finish(self, folder: Path, parts: list[Path]) -> None:
        """Do nothing: files lie in their place."""


def _payload(labelled: Labelled) -> str:
    image = labelled.image.bgr()
    height, width = image.shape[:2]
    size_wh = (min(WIDTH_PX, width), max(1, round(height * min(WIDTH_PX, width) / width)))
    # Means of areas cost six times as much, and show no more where a pixel is less than two.
    coarse = cv2.INTER_AREA if width >= 2 * size_wh[0] else cv2.INTER_LINEAR
    small = cv2.resize(image, size_wh, interpolation=coarse)
    picture = cv2.imencode('.jpg', small, _JPEG)[1]
    content = {
        'width': size_wh[0],
        'height': size_wh[1],
        'picture': 'data:image/jpeg;base64,' + _text(picture.tobytes()),
        'labels': _ids(labelled.prediction.label_map, size_wh),
    }
    if labelled.target is not None:
        content['truth'] = _ids(labelled.target, size_wh)
    return json.dumps(content)


def _ids(label_map: np.ndarray, size_wh: tuple[int, int]) -> str:
    small = cv2.resize(label_map, size_wh, interpolation=cv2.INTER_NEAREST_EXACT)
    # Regions of one id: runs are found in a quarter of the time of patterns, and take no more.
    runs = zlib.compressobj(_LEVEL, strategy=zlib.Z_RLE)
    return _text(runs.compress(small.tobytes()) + runs.flush())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
