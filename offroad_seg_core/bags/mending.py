"""Open the files of a bag one by one: those that are whole, and what is whole of the others.

So are bags read that were compressed, that lost their metadata.yaml, or the end of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
import re
from tempfile import TemporaryDirectory
import time
from typing import Any, NamedTuple

from mcap.exceptions import McapError
import yaml

from offroad_seg_core.bags.library import McapReader, ReaderError, Sqlite3Reader
from offroad_seg_core.bags.mcap_mending import MendedMcap
from offroad_seg_core.bags.reading import READ_ERRORS, Bag, BagError, is_unfinished
from offroad_seg_core.bags.sqlite_mending import MendedSqlite
from offroad_seg_core.bags.unpacking import COMPRESSED, PackedStorage

_SUFFIXES = ('.mcap', '.db3')
_FRESH_S = 10.0
_MOST_REMEMBERED = 256


class _Listing(NamedTuple):
    """What a bag consists of.

    Attributes:
        files: In their order; of each the forms in which it is there.
        notes: What is missing.
        why: What is wrong with the list itself.
        custom_data: Texts that the recorder stored.
    """

    files: Sequence[Sequence[Path]]
    notes: Sequence[str] = ()
    why: str = ''
    custom_data: Mapping[str, str] | None = None


class _Opened(NamedTuple):
    """A file that was opened.

    Attributes:
        file: Its path.
        storage: None if nothing in it can be read.
        note: What of it cannot be read.
    """

    file: Path
    storage: Any
    note: str = ''

    @property
    def num_messages(self) -> int:
        """Whole messages."""
        return self.storage.metadata.message_count if self.storage else -1


def open_files(path: Path, error: Exception, stack: ExitStack) -> Bag:
    """Open the files of a bag one by one.

    Args:
        path: A folder or a file.
        error: Why it does not open as a whole.
        stack: Closes the files.

    Raises:
        BagError: Nothing in it can be read.
        OSError: There is no room to unpack it.
    """
    listing = _list_files(path)
    notes, storages = list(listing.notes), []
    for forms in listing.files:
        opened, own_notes = _open_best(forms, stack)
        notes += own_notes
        if opened.storage is not None:
            storages.append(opened.storage)
    if not any(storage.metadata.message_count or storage.connections for storage in storages):
        told = '; '.join(notes) or listing.why or str(error)
        expected = 'a rosbag2 folder, .mcap or .db3 file with whole messages'
        raise BagError(f'{path}: got {told}; expected {expected}; copy or record it again')
    if listing.why:
        notes.insert(0, f'{path}: {listing.why}')
    return Bag(path, storages, notes, listing.custom_data)


def _list_files(path: Path) -> _Listing:
    if path.is_file():
        return _Listing([[path]])
    metadata, why = path / 'metadata.yaml', ''
    custom_data: dict[str, str] = {}
    try:
        content = yaml.safe_load(metadata.read_text(encoding='utf-8'))
        told = content['rosbag2_bagfile_information']
        files = [path / Path(name).name for name in told['relative_file_paths']]
        custom_data = dict(told.get('custom_data') or {})
    except FileNotFoundError:
        files, why = _look(path), 'has no metadata.yaml'
    except (*READ_ERRORS, yaml.YAMLError):
        files, why = _look(path), 'its metadata.yaml is damaged'
    found = {file: _forms(file) for file in files}
    missing = [f'{file} is missing' for file, forms in found.items() if not forms]
    return _Listing(list(dict.fromkeys(filter(None, found.values()))), missing, why, custom_data)


def _look(folder: Path) -> list[Path]:
    """Return the files of a bag without their list."""

    def place(file: Path) -> tuple[list[str | int], str]:
        parts = re.split(r'(\d+)', _recorded(file).name)
        return [int(part) if part.isdigit() else part for part in parts], file.name

    return sorted((f for f in folder.iterdir() if _recorded(f).suffix in _SUFFIXES), key=place)


def _recorded(file: Path) -> Path:
    """Return what a file was called when it was recorded."""
    return file.parent / file.name.removesuffix(COMPRESSED)


def _forms(file: Path) -> tuple[Path, ...]:
    """Return a file as it was recorded and as it was compressed: which of the two are there.

    People compress and decompress files without telling metadata.yaml.
    """
    plain = _recorded(file)
    both = plain, plain.parent / (plain.name + COMPRESSED)
    return tuple(form for form in both if form.is_file())


def _open_best(forms: Sequence[Path], stack: ExitStack) -> tuple[_Opened, list[str]]:
    """Open a file in the first of its forms that is whole, else in that with most messages.

    A recorder that is killed while it compresses a file leaves both, as `zstd -d` does.
    """
    opened: list[_Opened] = []
    for file in forms:
        opened.append(_open_file(file, stack))
        if not opened[-1].note:
            break
    best = max(opened, key=lambda entry: (not entry.note, entry.num_messages))
    notes = [best.note] if best.note else []
    instead = f'{best.file.name} is read in its place'
    notes += [f'{file} was left out: {instead}' for file in forms if file != best.file]
    return best, notes


def _open_file(file: Path, stack: ExitStack) -> _Opened:
    try:
        if file.suffix == COMPRESSED:
            about = file.stat()
            storage: Any = _packed(file.absolute(), about.st_size, about.st_mtime_ns)
            is_cut = storage.is_cut
        else:
            storage, is_cut = _open_plain(file, stack, file)
    except BagError as error:
        return _Opened(file, None, str(error))
    return _Opened(file, storage, _cut_note(file, storage) if is_cut else '')


@lru_cache(_MOST_REMEMBERED)
def _packed(file: Path, num_bytes: int, mtime_ns: int) -> PackedStorage:
    """Return a compressed file; it is not unpacked again to know what is in it."""
    del num_bytes, mtime_ns  # one that changed is another one
    return PackedStorage(file, partial(_open_plain, named=file))


def _open_plain(file: Path, stack: ExitStack, named: Path) -> tuple[Any, bool]:
    """Return an open storage, and whether the end of the file is missing.

    Args:
        file: Not compressed.
        stack: Closes it.
        named: What people know it by.

    Raises:
        BagError: Nothing in it can be read.
    """
    openers: dict[str, tuple[type, Callable[[Path], Any]]] = {
        '.mcap': (McapReader, _mend_mcap),
        '.db3': (Sqlite3Reader, MendedSqlite),
    }
    if file.suffix not in openers:
        raise BagError(f'{named} is no .mcap or .db3 file')
    usual, mend = openers[file.suffix]
    is_cut = False
    try:
        if is_unfinished(file):
            raise ReaderError('its recorder did not close it')
        storage = usual(_without_uri_signs(file, stack))
        storage.open()
    except READ_ERRORS:
        is_cut = True
        try:
            storage = mend(file)
        except (*READ_ERRORS, McapError) as error:
            raise BagError(f'{named} cannot be read: {error}') from error
    stack.callback(storage.close)
    return storage, is_cut


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


def _cut_note(file: Path, storage: Any) -> str:
    metadata = storage.metadata
    seconds = max(0, metadata.end_time - metadata.start_time) / 1e9
    age_s = time.time() - file.stat().st_mtime
    why = 'is still being written' if age_s < _FRESH_S else 'its recording was cut off'
    return (
        f'{file} has no end: {why}; {metadata.message_count} whole messages over {seconds:.1f} s '
        'were read'
    )
