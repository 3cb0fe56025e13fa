"""Frames of a dataset with their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.picture_files import read_image
from offroad_seg_core.evaluation.sources.frame import (
    FRAMES_A_PART,
    TARGET,
    Frame,
    UniqueNames,
)
from offroad_seg_core.evaluation.sources.pictures import PICTURE_HZ

_STEP_NS = round(1e9 / PICTURE_HZ)


class DatasetFrames:
    """Frames of a split, in its order; each environment counts as a camera.

    They have no times. So stamps count them, which is too close together for anything to be taken
    for motion, and in videos they are as far apart as pictures without times.

    Args:
        frames: The split.
        name: Of the dataset, for people.
    """

    notes: tuple[str, ...] = ()
    can_seek = True

    def __init__(self, frames: FrameSet, name: str) -> None:
        self._frames, self._name = frames, name
        self.num_frames = len(frames)
        self.num_parts = -(-self.num_frames // FRAMES_A_PART)
        self._names = _unique([files.stem for files in frames.files])

    def frames(self, first_part: int, names: UniqueNames) -> Iterator[tuple[int, Frame]]:
        """Yield (part, frame), see ``Source``."""
        del names  # files have names of their own
        for index in range(first_part * FRAMES_A_PART, self.num_frames):
            files = self._frames.files[index]
            maps = {}
            if files.label is not None:
                maps[TARGET] = partial(self._frames.reader_of(index).read, files.label)
            yield (
                index // FRAMES_A_PART,
                Frame(
                    camera=files.environment,
                    name=self._names[index],
                    stamp_ns=index,
                    time_ns=index * _STEP_NS,
                    load=partial(_load, files.image),
                    environment=files.environment,
                    maps=maps,
                ),
            )

    def identity(self) -> dict[str, Any]:
        """Return what the frames depend on."""
        return {'kind': 'dataset', 'files': self._frames.identity()}

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the frames."""
        counts = Counter(files.environment for files in self._frames.files)
        return {
            'kind': 'dataset',
            'path': f'{self._name}: {self._frames.origin}',
            'start_ns': None,
            'duration_s': None,
            'cameras': {
                name: {'topic': '', 'num_messages': count} for name, count in counts.items()
            },
        }


def _load(path: Any) -> CameraImage:
    return CameraImage(read_image(path), 'rgb')


def _unique(stems: list[str]) -> list[str]:
    """Number the stems that occur more than once."""
    totals, seen = Counter(stems), Counter[str]()
    names = []
    for stem in stems:
        seen[stem] += 1
        names.append(stem if totals[stem] == 1 else f'{stem}_{seen[stem]}')
    return names
