"""A folder of label files, put beside the frames that they belong to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
import re
from typing import Any

from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.evaluation.outputs.sink import safe_name
from offroad_seg_core.evaluation.recorded_labels import Frames, with_map
from offroad_seg_core.evaluation.sources.frame import (
    LABELS_LEFT_OUT,
    Frame,
    Source,
    SourceError,
)
from offroad_seg_core.evaluation.sources.pictures import stamp_in_name

# As UniqueNames calls a later frame of a stamp that repeats: the stamp does not tell which it is.
_REPEATED = re.compile(r'\d{18,19}_\d{18,19}(_\d+)?')


class LabelFolder:
    """Label files, matched by the frame's name or by a stamp in theirs.

    They lie in ``<drive>/<camera>/``, ``<drive>/`` where it has one camera, ``<camera>/`` or the
    folder itself, and are looked for in this order. Folders and files may be called as the drives,
    cameras and frames are, or as an evaluation calls what it writes of them.

    Args:
        folder: Holds PNG files.
        reader: Reads a file as class ids.
        frames: Of one drive. Pictures that are these are no labels.
        drive: Its name; empty: none.
        is_alone: Whether no other drive is evaluated with it. Else files that name no drive count
            only with a stamp in their names: many drives have a frame called 000000.

    Raises:
        SourceError: There are none, or two have the name of one frame.

    Attributes:
        notes: What was left out, as sentences; grows while maps are attached.
    """

    def __init__(
        self,
        folder: str | Path,
        reader: MaskReader,
        frames: Source,
        drive: str = '',
        is_alone: bool = True,
    ) -> None:
        self._folder, self._reader = Path(folder), reader
        self._by_name: dict[tuple[str, str], Path] = {}
        self._by_stamp: dict[tuple[str, int], list[Path]] = {}
        self.notes: list[str] = []
        described = frames.description()
        own, anyones = _places(list(described['cameras']), safe_name(drive) if drive else '')
        self._places = {camera: [*own[camera], *anyones[camera]] for camera in own}
        evaluated = Path(described['path']).resolve()
        doubtful: list[Path] = []
        misplaced: list[Path] = []
        for home in sorted({file.parent for file in self._folder.rglob('*.png')}):
            if home.resolve() == evaluated:
                continue
            place = '/'.join(map(safe_name, home.relative_to(self._folder).parts))
            is_own = any(place in places for places in own.values())
            is_anyones = any(place in places for places in anyones.values())
            for file in sorted(home.glob('*.png')):
                if is_own or (is_anyones and (is_alone or stamp_in_name(file.stem) is not None)):
                    self._add(place, file)
                else:
                    (doubtful if is_anyones else misplaced).append(file)
        if not (self._by_name or doubtful or misplaced):
            expected = 'label maps' + (f', or a bag called {drive}' if drive else '')
            raise SourceError(f'{folder}: got no .png files, expected {expected}; check the path')
        self._tell(doubtful, misplaced)

    def _add(self, place: str, file: Path) -> None:
        known = self._by_name.setdefault((place, safe_name(file.stem)), file)
        if known is not file:
            got = f'got {known} and {file} for one frame'
            raise SourceError(f'{got}, expected one file; fix: remove one')
        stamp_ns = stamp_in_name(file.stem)
        if stamp_ns is not None and not _REPEATED.fullmatch(file.stem):
            self._by_stamp.setdefault((place, stamp_ns), []).append(file)

    def _tell(self, doubtful: list[Path], misplaced: list[Path]) -> None:
        """Note the files that are of no frame for sure."""
        places = [place for known in self._places.values() for place in known if place]
        left_out = doubtful or ([] if self._by_name else misplaced)
        if not left_out:  # what is misplaced beside others is of other drives and cameras
            return
        got = f'{len(left_out)} files such as {left_out[0].relative_to(self._folder)}'
        if doubtful:
            why = 'have names that tell no stamp, in folders that tell not which of several drives'
            fix = 'move them to <drive>/<camera>/'
        else:
            expected = ', '.join(f'{place}/' for place in dict.fromkeys(places))
            why = f'lie in none of {expected} and the folder itself'
            fix = f'move those of this drive to {places[0]}/'
        self._note(f'{got} {why}; fix: {fix}')

    def attach(self, key: str, frames: Frames) -> Frames:
        """Yield frames with their labels, see LabelSource."""
        for part, frame in frames:
            file = self._find(frame)
            yield part, with_map(frame, key, partial(self._reader.read, file)) if file else frame

    def _find(self, frame: Frame) -> Path | None:
        """Return a frame's file; None, with a note, where only its stamp is that of some."""
        for place in self._places[frame.camera]:
            named = self._by_name.get((place, safe_name(frame.name)))
            found = [named] if named else self._by_stamp.get((place, frame.stamp_ns), [])
            if not named and found and _REPEATED.fullmatch(frame.name):
                got = 'those of a stamp that repeats are of its first frame'
                self._note(f'{got}; fix: call those of the others <stamp>_<time of recording>.png')
                return None
            if len(found) > 1:
                first, second, *_ = next(files for files in self._by_stamp.values() if files[1:])
                got = f'got two files for one frame, such as {first.name} and {second.name}'
                fix = 'remove one, or move each to the folder of its camera, <drive>/<camera>/'
                self._note(f'{got}, expected one; fix: {fix}')
                return None
            if found:
                return found[0]
        return None

    def _note(self, text: str) -> None:
        """Say something once, in the same words whichever frame comes first."""
        note = f'{self._folder}{LABELS_LEFT_OUT}{text}'
        self.notes += [note] if note not in self.notes else []

    def identity(self) -> dict[str, Any]:
        """Return what the labels depend on."""
        files = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in self._by_name.values()]
        return {'files': files, 'reader': self._reader.identity()}


def _places(cameras: list[str], drive: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return camera -> folders of the drive's labels, and of those that name no drive."""
    folders = {camera: safe_name(camera) for camera in cameras}
    alone = [drive] if len(cameras) == 1 else []
    own = {c: [f'{drive}/{folder}', *alone] if drive else [] for c, folder in folders.items()}
    return own, {camera: [folder, ''] for camera, folder in folders.items()}
