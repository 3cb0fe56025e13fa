"""What every source of frames gives: frames one after another, in parts that can be resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from offroad_seg_core.bags.camera_images import CameraImage

FRAMES_A_PART = 256
TARGET, LABEL_MAP, CONFIDENCE = 'target', 'label_map', 'confidence'
"""Names of maps that come with a frame: its truth; labels and confidence that were recorded."""

LEFT_OUT = ': not evaluated: '
"""In a note: between the name of a drive that failed and the reason."""
LABELS_LEFT_OUT = ': labels were left out: '
"""In a note: between a bag that was read well and why labels in it are of no frame for sure."""


class SourceError(ValueError):
    """There is nothing to evaluate, or not in the form that was asked for."""


@dataclass(frozen=True)
class Frame:
    """One frame that was not decoded yet.

    Attributes:
        camera: Who took it.
        name: Unique for its camera; names its files.
        stamp_ns: When it was taken, from its header.
        time_ns: When it was recorded; never goes backwards in a source.
        load: Decodes it; raises ValueError where it holds no picture. Callable from any thread.
        frame_id: Coordinate frame of the camera, as its header says.
        environment: Scores are kept for each; the camera by default.
        maps: TARGET, LABEL_MAP or CONFIDENCE -> decodes the map, ``(H, W)`` uint8; like ``load``.
        drive: Of several drives, which; the camera has this name before its own, then.
    """

    camera: str
    name: str
    stamp_ns: int
    time_ns: int
    load: Callable[[], CameraImage]
    frame_id: str = ''
    environment: str = ''
    maps: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    drive: str = ''


class UniqueNames:
    """Names of frames by their stamps.

    A stamp that repeats gets the time of recording too, and where that repeats as well, a number.
    Frames of one time are in one part, so a source that is read from any part on goes on with the
    names that it has when it is read as a whole.
    """

    def __init__(self) -> None:
        self._given: Counter[tuple[str, str]] = Counter()
        self._prefix = ''

    def within(self, source: str) -> UniqueNames:
        """Return the names of one of several sources, whose cameras it names without it."""
        part = UniqueNames()
        part._given, part._prefix = self._given, f'{source}/'
        return part

    def name(self, camera: str, stamp_ns: int, time_ns: int) -> str:
        """Return the name of the next frame."""
        camera, name = self._prefix + camera, str(stamp_ns)
        if stamp_ns <= 0 or (camera, name) in self._given:
            name = f'{stamp_ns}_{time_ns}'
        self._given[camera, name] += 1
        number = self._given[camera, name]
        return name if number == 1 else f'{name}_{number}'


class Source(Protocol):
    """Frames in a fixed order.

    Attributes:
        num_frames: How many to expect; 0 if that is not known.
        num_parts: Parts, each of about FRAMES_A_PART frames.
        can_seek: Whether each part can be read without what is before it, at no greater cost.
    """

    num_frames: int
    num_parts: int
    can_seek: bool

    @property
    def notes(self) -> Sequence[str]:
        """What could not be read before the newest frame, as sentences."""

    def frames(self, first_part: int, names: UniqueNames) -> Iterator[tuple[int, Frame]]:
        """Yield (part, frame) in the order of parts, from the first frame of a part on.

        Args:
            first_part: Where to begin.
            names: Knows the frames of the parts before.
        """

    def identity(self) -> dict[str, Any]:
        """Return plain data that differ when the frames may differ."""

    def description(self) -> dict[str, Any]:
        """Return plain data for people: kind, path, cameras."""


def file_identity(path: Path) -> list[Any]:
    """Return name, size and time of a file, or of every file directly in a folder."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
