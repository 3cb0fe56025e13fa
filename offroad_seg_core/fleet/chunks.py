"""What a fleet's evaluation is cut into, so that the pieces make the same result as the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
from io import BytesIO
import json
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from offroad_seg_core.evaluation.evaluate import Evaluation
from offroad_seg_core.evaluation.parts import PartResult, load_part
from offroad_seg_core.evaluation.sources.combining import PartsOf, SeveralSources
from offroad_seg_core.evaluation.sources.frame import LABELS_LEFT_OUT, Source
from offroad_seg_core.metrics.meter import MeterConfig


@dataclass(frozen=True)
class Chunk:
    """Parts of one drive that a worker does in one go.

    Attributes:
        drive: Its name.
        first: Number of the first part.
        end: Number after that of the last one.
        key: Differs whenever the result may differ.
    """

    drive: str
    first: int
    end: int
    key: str


class Drive:
    """One drive: what it is cut into, and whether the pieces fit together.

    Each part is a chunk where a part can be read alone: not of a video, which is decoded from its
    beginning, nor of a bag that is not whole or whose files were compressed.

    Args:
        name: Of the drive.
        source: Its frames.
        settings: What results depend on beside the frames, as text.

    Attributes:
        name: As given.
        source: As given.
        chunks: In the order of their frames.
    """

    def __init__(self, name: str, source: Source, settings: str) -> None:
        self.name, self.source = name, source
        self._identity = f'{settings} {json.dumps(source.identity())}'
        step = 1 if source.can_seek else source.num_parts
        self.chunks = [self._chunk(at, at + step) for at in range(0, source.num_parts, step)]
        self._known: dict[Chunk, tuple[set[tuple[str, int]], bool]] = {}

    @property
    def num_done(self) -> int:
        """Chunks whose results were added."""
        return len(self._known)

    def add(self, chunk: Chunk, parts: Sequence[PartResult]) -> bool:
        """Take note of a chunk's result; return whether the drive was cut anew because of it.

        Two things in one chunk change how later ones are read: a damaged place may end a file,
        and a stamp that was there before makes another name. A drive with either becomes one
        chunk.
        """
        rows = [row for part in parts for row in part.rows]
        stamps = {(row['camera'], row['stamp_ns']) for row in rows if row['stamp_ns'] > 0}
        told = {note for part in parts for note in part.notes} - set(self.source.notes)
        self._known[chunk] = stamps, any(LABELS_LEFT_OUT not in note for note in told)
        if len(self._known) < len(self.chunks):
            return False
        sets = [found for found, _ in self._known.values()]
        repeats = len(set().union(*sets)) < sum(map(len, sets))
        damaged = any(is_damaged for _, is_damaged in self._known.values())
        if len(self.chunks) == 1 or not (repeats or damaged):
            return False
        self._known = {}
        self.chunks = [self._chunk(0, self.source.num_parts)]
        return True

    def _chunk(self, first: int, end: int) -> Chunk:
        digest = hashlib.sha256(f'{self._identity} {first} {end}'.encode())
        return Chunk(self.name, first, end, digest.hexdigest())


def plan(evaluation: Evaluation) -> list[Drive]:
    """Return the drives of an evaluation's source."""
    source = evaluation.source
    settings = evaluation.identity()
    del settings['source']
    text = json.dumps(settings, sort_keys=True)
    if not isinstance(source, SeveralSources):
        return [Drive('', source, text)]
    # Each keeps its name before the names of its cameras.
    return [
        Drive(name, SeveralSources({name: entry}), text) for name, entry in source.sources.items()
    ]


def part_of(source: Source, chunk: Chunk) -> Source:
    """Return the frames of a chunk of a drive."""
    return PartsOf(source, chunk.first, chunk.end)


def pack(folder: Path) -> bytes:
    """Return a folder as an archive; what lies in it is compressed already."""
    stream = BytesIO()
    with ZipFile(stream, 'w') as archive:
        for path in sorted(folder.rglob('*')):
            archive.write(path, path.relative_to(folder))
    return stream.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """Write what ``pack`` returned below a folder."""
    with ZipFile(BytesIO(content)) as archive:
        archive.extractall(folder)


def read_parts(content: bytes, chunk: Chunk, config: MeterConfig) -> list[PartResult]:
    """Return the parts in the archive that came of a chunk.

    Raises:
        BadZipFile: It is damaged.
    """
    with ZipFile(BytesIO(content)) as archive:
        # One that was cut off may seem whole: what lies in it are archives, too.
        names = {f'parts/{part:06d}.npz' for part in range(chunk.end - chunk.first)}
        damaged = archive.testzip() or next(iter(names - set(archive.namelist())), None)
        if damaged:
            raise BadZipFile(f'{damaged} is damaged or missing')
        return [load_part(BytesIO(archive.read(name)), config) for name in sorted(names)]
