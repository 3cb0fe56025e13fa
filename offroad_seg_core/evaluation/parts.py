"""An evaluation that is not finished: its parts on disk, so that it can go on after anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import shutil
from typing import Any

import numpy as np

from offroad_seg_core.evaluation.counting import Row
from offroad_seg_core.evaluation.summary import ResultError, read_summary
from offroad_seg_core.files import ProcessAtWorkError, atomic_path, only_process, replace_folder
from offroad_seg_core.metrics.meter import MeterConfig, Tally
from offroad_seg_core.places import OutputError, output_place
from offroad_seg_core.provenance import VERSION_OF

UNFINISHED = '.unfinished'
CHUNKS, UNPACKED = 'chunks', 'unpacked'
"""Folders of a fleet in an unfinished result; whatever completes that removes them."""
_RUN, _PARTS, _ADOPTED = 'run.json', 'parts', 'adopted'
_TEXT = 'text'


@dataclass
class PartResult:
    """What was counted of the frames of one part.

    Attributes:
        rows: One a frame.
        tallies: Environment -> counts of its frames with truth.
        notes: What could not be read by then.
    """

    rows: list[Row] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, row: Row, tally: Tally | None, new_tally: Any) -> None:
        """Add one frame; ``new_tally`` makes empty counts."""
        self.rows.append(row)
        if tally is not None:
            self.tallies.setdefault(row['environment'], new_tally()).add(tally)


class Unfinished:
    """The folder that a result grows in, beside its place: ``<output>.unfinished``.

    Of one process at a time, see ``in_work``.

    Args:
        output: Where the result will be.
        identity: What it depends on, plain data.
        restart: Forget what there is of an unfinished result.

    Raises:
        OutputError: The place holds something else, or is none that a result can take; the
            unfinished result depends on something else, or cannot be read.
        OSError: A file cannot be read or written.

    Attributes:
        folder: The folder itself; what is written there becomes part of the result.
        num_done: Parts that are complete.
    """

    def __init__(self, output: str | Path, identity: Mapping[str, Any], restart: bool) -> None:
        self._output = output_place(output)
        self.folder = _folder_of(self._output)
        check_free(self._output)
        if restart:
            shutil.rmtree(self.folder, ignore_errors=True)
        plain = json.loads(json.dumps(identity))
        known = read_identity(output)
        if known is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            (self.folder / _PARTS).mkdir(parents=True)
            with atomic_path(self.folder / _RUN) as path:
                path.write_text(json.dumps(plain), encoding='utf-8')
        elif known != plain:
            raise OutputError(
                f'{self.folder}: got an unfinished evaluation of other {_changes(known, plain)}; '
                'expected the same; fix: repeat its command as it was to complete it, give '
                'another --output, or start anew with --restart'
            )
        self.num_done = len(list((self.folder / _PARTS).glob('[0-9]*.npz')))
        if (self.folder / _ADOPTED).exists():
            self.forget_parts()  # their numbers are those of what was adopted

    def part_folder(self, part: int) -> Path:
        """Return the folder for what a part writes, empty if the part is not complete."""
        folder = self.folder / _PARTS / f'{part:06d}'
        if part >= self.num_done:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        return folder

    def part_folders(self) -> list[Path]:
        """Return the folders of all parts, in their order."""
        return [self.folder / _PARTS / f'{part:06d}' for part in range(self.num_done)]

    def save(self, part: int, result: PartResult) -> None:
        """Complete a part: from now on it is never done again."""
        text = json.dumps({'rows': result.rows, 'notes': result.notes})
        arrays: dict[str, Any] = {_TEXT: np.frombuffer(text.encode(), np.uint8)}
        for environment, tally in result.tallies.items():
            arrays[f'matrix {environment}'] = tally.matrix.counts
            arrays[f'calibration {environment}'] = tally.calibration.counts
            if tally.boundary is not None:
                arrays[f'boundary {environment}'] = tally.boundary.counts
        with atomic_path(self._file(part)) as path:
            np.savez_compressed(path, **arrays)
        self.num_done = part + 1

    def load(self, part: int, config: MeterConfig) -> PartResult:
        """Return what ``save`` wrote."""
        return load_part(self._file(part), config)

    def forget_parts(self) -> None:
        """Begin again with the first part; what else lies in the folder stays."""
        shutil.rmtree(self.folder / _PARTS)
        (self.folder / _PARTS).mkdir()
        (self.folder / _ADOPTED).unlink(missing_ok=True)
        self.num_done = 0

    def adopt(self, folder: Path) -> None:
        """Append the parts of an unfinished folder, and take what else it holds; empties it.

        They last until this process ends: another one does not know which parts they are.
        """
        (self.folder / _ADOPTED).touch()
        for file in sorted((folder / _PARTS).glob('[0-9]*.npz')):
            file.with_suffix('').rename(self.folder / _PARTS / f'{self.num_done:06d}')
            file.rename(self._file(self.num_done))
            self.num_done += 1
        shutil.rmtree(folder / _PARTS)
        (folder / _RUN).unlink()
        for file in [path for path in folder.rglob('*') if path.is_file()]:
            place = self.folder / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)

    def finish(self) -> Path:
        """Give the result its place, where an older one goes; return it.

        Raises:
            OutputError: Something else has come there meanwhile; the result stays unfinished.
            OSError: A folder cannot be renamed or removed.
        """
        check_free(self._output)
        replace_folder(self.folder, self._output)
        shutil.rmtree(self._output / _PARTS)
        for name in (CHUNKS, UNPACKED):
            shutil.rmtree(self._output / name, ignore_errors=True)
        (self._output / _RUN).unlink()
        (self._output / _ADOPTED).unlink(missing_ok=True)
        return self._output

    def _file(self, part: int) -> Path:
        return self.folder / _PARTS / f'{part:06d}.npz'


def load_part(file: Any, config: MeterConfig) -> PartResult:
    """Return what ``Unfinished.save`` wrote into a file: a path, or a stream that seeks."""
    result = PartResult()
    with np.load(file, allow_pickle=False) as arrays:
        text = json.loads(arrays[_TEXT].tobytes())
        result.rows, result.notes = text['rows'], text['notes']
        for name in arrays.files:
            kind, _, environment = name.partition(' ')
            if kind == 'matrix':
                result.tallies[environment] = _tally(arrays, environment, config)
    return result


def read_identity(output: str | Path) -> dict[str, Any] | None:
    """Return what the unfinished result for a place depends on; None if there is none.

    Raises:
        OutputError: It is damaged.
        OSError: It is there and cannot be read.
    """
    path = _folder_of(output) / _RUN
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except ValueError as error:
        fix = f'remove {path.parent}'
        raise OutputError(f'{path}: got {error}, expected what a run depends on; {fix}') from error


@contextmanager
def in_work(output: Path) -> Iterator[None]:
    """Keep other processes from the same result while the block lasts.

    Args:
        output: Where it will be, as output_place returns it.

    Raises:
        OutputError: Another process is at it, which is named; the place cannot be locked.
    """
    lock = output.with_name(f'.{output.name}.lock')
    with ExitStack() as stack:
        try:
            stack.enter_context(only_process(lock))
        except ProcessAtWorkError as error:
            fix = 'wait for its end, or --output OTHER'
            got = f'a result that {error} works at'
            raise OutputError(f'{output}: got {got}; expected none; fix: {fix}') from error
        except OSError as error:
            got = f'"{error.strerror}" of {lock}, which holds other commands off'
            expected = 'a file that this user can write'
            fix = 'remove it where no command is at work, or --output OTHER'
            raise OutputError(f'{output}: got {got}; expected {expected}; fix: {fix}') from error
        yield


def check_free(output: Path) -> None:
    """Refuse a place that holds anything but an older result, which the new one replaces.

    Raises:
        OutputError: Saying what is there.
    """
    if not os.path.lexists(output) or (output.is_dir() and not any(output.iterdir())):
        return
    try:
        read_summary(output)
    except ResultError as error:
        got = f'something that is no older evaluation ({error})'
        fix = '--output OTHER, or move it away'
        raise OutputError(f'{output}: got {got}; expected a new folder; fix: {fix}') from error


def _changes(known: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what differs between two identities; of versions, how."""
    changed = sorted(key for key in {*known, *now} if known.get(key) != now.get(key))
    return ', '.join(
        f'{key} ({known.get(key)}, here {now.get(key)})' if key.startswith(VERSION_OF) else key
        for key in changed
    )


def _folder_of(output: str | Path) -> Path:
    place = Path(os.path.realpath(output))
    return place.with_name(place.name + UNFINISHED)


def _tally(arrays: Any, environment: str, config: MeterConfig) -> Tally:
    counts = arrays[f'matrix {environment}']
    tally = Tally(len(counts), config)
    tally.matrix.counts = counts
    tally.calibration.counts = arrays[f'calibration {environment}']
    if tally.boundary is not None:
        tally.boundary.counts = arrays[f'boundary {environment}']
    return tally
