"""A folder of label files, put beside the frames that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.evaluation.outputs.sink import safe_name
from offroad_seg_core.evaluation.recorded_labels import Frames, with_map
from offroad_seg_core.evaluation.sources.frame import Frame, SourceError
from offroad_seg_core.evaluation.sources.pictures import stamp_in_name


class LabelFolder:
    """Label files, matched by the frame's name or by a stamp in theirs.

    They lie in ``<drive>/<camera>/``, ``<camera>/`` or the folder itself, and are looked for in
    this order. Folders and files may be called as the drives, cameras and frames are, or as an
    evaluation calls what it writes of them.

    Args:
        folder: Holds PNG files.
        reader: Reads a file as class ids.
        drive: Whose frames they are for; empty: it has no name.
        is_alone: Whether no other drive is evaluated with it. Else files that name no drive count
            only with a stamp in their names: many drives have a frame called 000000.

    Raises:
        SourceError: There are none, or two are of one frame.

    Attributes:
        notes: What was left out, as sentences.
    """

    def __init__(
        self, folder: str | Path, reader: MaskReader, drive: str = '', is_alone: bool = True
    ) -> None:
        self._reader, self._drive = reader, safe_name(drive)
        self._by_name: dict[tuple[str, str], Path] = {}
        self._by_stamp: dict[tuple[str, int], list[Path]] = {}
        self.notes: Sequence[str] = ()
        files = sorted(Path(folder).rglob('*.png'))
        if not files:
            expected = 'label maps' + (f', or a bag called {self._drive}' if drive else '')
            raise SourceError(f'{folder}: got no .png files, expected {expected}; check the path')
        doubtful = []
        for file in files:
            place = [safe_name(part) for part in file.parent.relative_to(folder).parts]
            is_own, is_anyones = len(place) == 2 and place[0] == self._drive, len(place) < 2
            has_stamp = stamp_in_name(file.stem) is not None
            if is_own or (is_anyones and (is_alone or has_stamp)):
                self._add('/'.join(place), file)
            elif is_anyones:
                doubtful.append(file)
        if doubtful:
            got = f'{len(doubtful)} files such as {doubtful[0]}'
            why = 'their names tell no stamp, and their folders not which of several drives'
            fix = f'move them to {folder}/<drive>/<camera>/'
            self.notes = [f'{got} were left out: {why}; fix: {fix}']

    def _add(self, place: str, file: Path) -> None:
        known = self._by_name.setdefault((place, safe_name(file.stem)), file)
        if known is not file:
            raise _two_of_one_frame(known, file)
        stamp_ns = stamp_in_name(file.stem)
        if stamp_ns is not None:
            self._by_stamp.setdefault((place, stamp_ns), []).append(file)

    def attach(self, key: str, frames: Frames) -> Frames:
        """Yield frames with their labels, see LabelSource; SourceError for two of one frame."""
        for part, frame in frames:
            file = self._find(frame)
            yield part, with_map(frame, key, partial(self._reader.read, file)) if file else frame

    def _find(self, frame: Frame) -> Path | None:
        camera = safe_name(frame.camera)
        for place in (f'{self._drive}/{camera}', camera, ''):
            named = self._by_name.get((place, safe_name(frame.name)))
            found = [named] if named else self._by_stamp.get((place, frame.stamp_ns), [])
            if len(found) > 1:
                raise _two_of_one_frame(*found[:2])
            if found:
                return found[0]
        return None

    def identity(self) -> dict[str, Any]:
        """Return what the labels depend on."""
        files = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in self._by_name.values()]
        return {'files': files, 'reader': self._reader.identity()}


def _two_of_one_frame(first: Path, second: Path) -> SourceError:
    fix = 'remove one, or move each to the folder of its camera, <drive>/<camera>/'
    return SourceError(f'got {first} and {second} for one frame, expected one file; fix: {fix}')
