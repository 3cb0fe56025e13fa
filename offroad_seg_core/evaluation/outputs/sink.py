"""What an evaluation writes beside its table, one kind of output a class."""

from __future__ import annotations

from dataclasses import dataclass
import hashlib
from pathlib import Path
import re
from typing import Any, Protocol

import numpy as np

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.evaluation.counting import Row
from offroad_seg_core.evaluation.predictors import Prediction
from offroad_seg_core.evaluation.sources.frame import Frame

LABEL_FILES, LABEL_BAG = 'labels', 'labels_bag'
"""Folders of a result: what LabelFiles and LabelBag write."""


@dataclass(frozen=True)
class Labelled:
    """A frame with its labels.

    Attributes:
        frame: Where it is from.
        image: Its pixels.
        prediction: Its labels.
        target: Its truth, if there is some, ``(H, W)`` uint8.
        row: Its row of the table.
        place: Its number among the frames of its camera in its part.
    """

    frame: Frame
    image: CameraImage
    prediction: Prediction
    target: np.ndarray | None
    row: Row
    place: int = 0


class Sink(Protocol):
    """Writes frames. What it writes of a part is complete, or written again."""

    def identity(self) -> Any:
        """Return plain data that differ when the output differs."""

    def begin(self, folder: Path, part: Path) -> None:
        """Start a part.

        Args:
            folder: The result's folder, for files of single frames.
            part: An empty folder, for what must be put together at the end.
        """

    def prepare(self, labelled: Labelled) -> Any:
        """Do the work that needs no order; called from several threads."""

    def add(self, labelled: Labelled, prepared: Any) -> None:
        """Write one frame; called in the order of the frames."""

    def commit(self) -> None:
        """Complete the part."""

    def close(self) -> None:
        """Stop in the middle of a part, which is lost; harmless otherwise."""

    def finish(self, folder: Path, parts: list[Path]) -> None:
        """Put the parts together, in the result's folder; may be called again after a crash."""


def safe_name(text: str) -> str:
    """Return a text as a part of a path: letters, digits, ``._-``; others become ``_``.

    A text that is changed gets a hash of itself behind it, so that different texts stay different.
    """
    return distinct(re.sub(r'[^\w.-]+', '_', text, flags=re.ASCII).lstrip('.') or '_', text, '-')


def distinct(changed: str, text: str, separator: str) -> str:
    """Return the changed form of a text, with a hash of the text behind it if they differ."""
    if changed == text:
        return text
    return f'{changed}{separator}{hashlib.sha256(text.encode()).hexdigest()[:8]}'


def frame_path(folder: Path, camera: str, name: str, suffix: str) -> Path:
    """Return ``<folder>/<camera>/<name><suffix>`` for a frame.

    The camera of one of several drives is ``<drive>/<camera>``: a folder in a folder.
    """
    return folder.joinpath(*map(safe_name, camera.split('/'))) / f'{safe_name(name)}{suffix}'
