"""Some frames of a source that was evaluated, without reading all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import cv2
import numpy as np

from offroad_seg_core.evaluation.parts import PartResult
from offroad_seg_core.evaluation.sources.combining import PartsOf, SeveralSources
from offroad_seg_core.evaluation.sources.frame import (
    TARGET,
    Frame,
    Source,
    SourceError,
    UniqueNames,
)

if TYPE_CHECKING:  # it imports this package
    from offroad_seg_core.evaluation.evaluate import Evaluation

Key = tuple[str, str]
"""Camera and name of a frame."""
Found = tuple[Key, np.ndarray, np.ndarray]
"""A frame's key, BGR image and label map."""


class ReadAgain:
    """Reads and labels frames; iterate over it once.

    Only drives that hold some are read, of these only the parts with them, where a part can be
    read alone.

    Args:
        evaluation: Source and model.
        parts: All that were evaluated, in the order of the source's.
        wanted: The frames.

    Attributes:
        missing: Those that were not read yet, or cannot be.
        reason: Why they cannot be.
    """

    def __init__(
        self, evaluation: Evaluation, parts: Sequence[PartResult], wanted: set[Key]
    ) -> None:
        self._evaluation, self._parts = evaluation, parts
        self.missing, self._errors = wanted, dict[str, None]()

    @property
    def reason(self) -> str:
        """See above."""
        return '; '.join(self._errors) or 'they are not in the source any more'

    def __iter__(self) -> Iterator[Found]:
        """Yield frames in the order of the source."""
        holding = [at for at, part in enumerate(self._parts) if self._wanted_of(part)]
        names, known = UniqueNames(), 0
        for first, source in _pieces(self._evaluation.source, holding):
            # A name depends on the stamps before.
            for part in self._parts[known:first]:
                for row in part.rows:
                    names.name(row['camera'], row['stamp_ns'], row['time_ns'])
            known = first
            wanted = self._wanted_of(*self._parts[first : first + source.num_parts])
            try:
                yield from self._read(source, names, wanted)
            except (ValueError, OSError) as error:
                self._errors[str(error)] = None

    def _wanted_of(self, *parts: PartResult) -> set[Key]:
        return self.missing & {(row['camera'], row['name']) for part in parts for row in part.rows}

    def _read(self, source: Source, names: UniqueNames, wanted: set[Key]) -> Iterator[Found]:
        with closing(source.frames(0, names)) as frames:  # type: ignore[type-var]
            for _, frame in frames:
                key = frame.camera, frame.name
                if key in wanted:
                    found = key, *_labelled(self._evaluation, frame)
                    wanted.discard(key)
                    self.missing.discard(key)
                    yield found
                if not wanted:
                    return


def _pieces(source: Source, holding: Sequence[int]) -> Iterator[tuple[int, Source]]:
    """Yield what is read for some of a source's parts: number of the first, its frames on."""
    drives = [source]
    if isinstance(source, SeveralSources):  # each keeps its name before the names of its cameras
        drives = [SeveralSources({name: entry}) for name, entry in source.sources.items()]
    before = 0
    for drive in drives:
        own = [part - before for part in holding if before <= part < before + drive.num_parts]
        if own and not drive.can_seek:
            yield before, PartsOf(drive, 0, own[-1] + 1)
        else:
            for part in own:
                yield before + part, PartsOf(drive, part, part + 1)
        before += drive.num_parts


def _labelled(evaluation: Evaluation, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return BGR image and label map of a frame that was labelled before."""
    image = frame.load()
    maps = {}
    for key, load in frame.maps.items():
        if key != TARGET:
            with suppress(ValueError, cv2.error):  # it was no good before, and is done without
                maps[key] = load()
    prediction = evaluation.predictor.predict(frame, image, maps)
    if prediction is None:  # of a recording that changed
        raise SourceError(f'{frame.camera} {frame.name}: its labels are not there any more')
    return image.bgr(), prediction.label_map
