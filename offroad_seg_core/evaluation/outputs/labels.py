"""Label maps as PNG files, class ids and 255: ``labels/<camera>/<name>.png``.

Of several drives ``labels/<drive>/<camera>/<name>.png``.
"""

from __future__ import annotations

from pathlib import Path

import cv2

from offroad_seg_core.evaluation.outputs.sink import LABEL_FILES, Labelled, frame_path
from offroad_seg_core.files import sync

# Regions of one id: runs compress nearly as well as a search for patterns, in a third of the time.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


class LabelFiles:
    """Writes a PNG a frame, at the size of the labels."""

    def identity(self) -> str:
        """Return what it writes."""
        return 'png'

    def begin(self, folder: Path, part: Path) -> None:
        """Start a part, see Sink."""
        del part
        self._folder = folder / LABEL_FILES
        self._written: list[Path] = []

    def prepare(self, labelled: Labelled) -> Path:
        """Write the file, see Sink."""
        frame = labelled.frame
        path = frame_path(self._folder, frame.camera, frame.name, '.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        _, data = cv2.imencode('.png', labelled.prediction.label_map, _PNG)
        path.write_bytes(data.tobytes())
        return path

    def add(self, labelled: Labelled, prepared: Path) -> None:
        """Remember the file, see Sink."""
        self._written.append(prepared)

    def commit(self) -> None:
        """Let the files be on the disk before the part counts as done."""
        for path in self._written:
            sync(path)

    def close(self) -> None:
        """Do nothing, see Sink."""

    def finish(self, folder: Path, parts: list[Path]) -> None:
        """Do nothing: files lie in their place."""
