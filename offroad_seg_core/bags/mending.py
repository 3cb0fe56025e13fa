"""Open what is whole of a bag that lost its metadata.yaml, or the end of a file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
import re
from tempfile import TemporaryDirectory
import time
from typing import Any

from mcap.exceptions import McapError
import yaml

from offroad_seg_core.bags.library import McapReader, ReaderError, Sqlite3Reader, zstd
from offroad_seg_core.bags.mcap_mending import MendedMcap
from offroad_seg_core.bags.reading import READ_ERRORS, Bag, BagError, is_unfinished
from offroad_seg_core.bags.sqlite_mending import MendedSqlite
from offroad_seg_core.files import scratch_folder

_SUFFIXES = ('.mcap', '.db3')
_COMPRESSED = '.zstd'
_BLOCK_BYTES = 1 << 20
_FRESH_S = 10.0


def open_damaged(path: Path, error: Exception, stack: ExitStack) -> Bag:
    """Open the files of a bag one by one.

    Args:
        path: A folder or a file.
        error: Why it does not open as a whole.
        stack: Closes the files.

    Raises:
        BagError: Nothing in it can be read.
    """
    notes: list[str] = []
    files, why = _list_files(path, notes)
    opened = [(file, _open_file(file, notes, stack)) for file in files]
    storages = [storage for _, storage in opened if storage is not None]
    if not any(storage.metadata.message_count or storage.connections for storage in storages):
        told = '; '.join(notes) or why or str(error)
        expected = 'a rosbag2 folder, .mcap or .db3 file with whole messages'
        raise BagError(f'{path}: got {told}; expected {expected}; copy or record it again')
    return Bag(path, storages, [f'{path}: {why}', *notes] if why else notes)


def _list_files(path: Path, notes: list[str]) -> tuple[list[Path], str]:
    """Return the files of a bag in their order, and what is wrong with their list."""
    if path.is_file():
        return [path], ''
    metadata = path / 'metadata.yaml'
    try:
        content = yaml.safe_load(metadata.read_text(encoding='utf-8'))
        names = content['rosbag2_bagfile_information']['relative_file_paths']
        files = [path / Path(name).name for name in names]
    except FileNotFoundError:
        return _look(path), 'has no metadata.yaml'
    except (*READ_ERRORS, yaml.YAMLError):
        return _look(path), 'its metadata.yaml is damaged'
    notes += [f'{file} is missing' for file in files if not file.is_file()]
    return [file for file in files if file.is_file()], ''


def _look(folder: Path) -> list[Path]:
    def place(file: Path) -> list[str | int]:
        return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', file.name)]

    suffixes = (*_SUFFIXES, *(suffix + _COMPRESSED for suffix in _SUFFIXES))
    return sorted((f for f in folder.iterdir() if f.name.endswith(suffixes)), key=place)


def _open_file(file: Path, notes: list[str], stack: ExitStack) -> Any:
    """Return an open storage, None if nothing in the file can be read; adds to the notes."""
    plain, is_cut = _decompress(file, stack) if file.suffix == _COMPRESSED else (file, False)
    openers: dict[str, tuple[type, Callable[[Path], Any]]] = {
        '.mcap': (McapReader, _mend_mcap),
        '.db3': (Sqlite3Reader, MendedSqlite),
    }
    if plain.suffix not in openers:
        notes.append(f'{file} is no .mcap or .db3 file')
        return None
    usual, mend = openers[plain.suffix]
    try:
        if is_unfinished(plain):
            raise ReaderError('its recorder did not close it')
        storage = usual(_without_uri_signs(plain, stack))
        storage.open()
    except READ_ERRORS as error:
        try:
            storage = mend(plain)
        except (*READ_ERRORS, McapError) as second:
            notes.append(f'{file} cannot be read: {second or error}')
            return None
        is_cut = True
    stack.callback(storage.close)
    if is_cut:
        notes.append(_cut_note(file, storage))
    return storage


def _without_uri_signs(file: Path, stack: ExitStack) -> Path:
    """Return a path of the file in which nothing means something in a URI."""
    # rosbags asks SQLite for a URI and does not quote the path in it.
    if not set('#?%') & set(str(file)):
        return file
    link = Path(stack.enter_context(TemporaryDirectory())) / f'bag{file.suffix}'
    link.symlink_to(file.absolute())
    return link


def _mend_mcap(file: Path) -> McapReader:
    storage = McapReader(MendedMcap(file))  # type: ignore[arg-type]
    storage.open()
    return storage


def _decompress(file: Path, stack: ExitStack) -> tuple[Path, bool]:
    """Return the file's content as a file, as far as it goes, and whether its end is missing."""
    plain = stack.enter_context(scratch_folder()) / file.stem
    try:
        with zstd.open(file, 'rb') as source, plain.open('wb') as target:
            while block := source.read(_BLOCK_BYTES):
                target.write(block)
    except (EOFError, zstd.ZstdError):
        return plain, True
    return plain, False


def _cut_note(file: Path, storage: Any) -> str:
    metadata = storage.metadata
    seconds = max(0, metadata.end_time - metadata.start_time) / 1e9
    age_s = time.time() - file.stat().st_mtime
    why = 'is still being written' if age_s < _FRESH_S else 'its recording was cut off'
    return (
        f'{file} has no end: {why}; {metadata.message_count} whole messages over {seconds:.1f} s '
        'were read'
    )
