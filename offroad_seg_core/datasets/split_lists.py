"""Splits by published lists of files or by sequences. Frames are named ``<sequence>/<stem>``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import logging
from pathlib import Path, PurePosixPath

from offroad_seg_core.datasets.frames import Split
from offroad_seg_core.datasets.listing import some
from offroad_seg_core.datasets.masks import DatasetError

log = logging.getLogger(__name__)


def choose(
    files: Mapping[str, str],
    split: Split,
    root: Path,
    sequences: Sequence[str] | None,
    lists: Mapping[Split, Path],
    read: Callable[[Path], Iterable[str]],
) -> dict[str, str]:
    """Return the files of a split: of named sequences, or of published lists.

    Args:
        files: Name -> path of what is there.
        split: Which one.
        root: Where the files are.
        sequences: To validate on, all others are for training; None takes the lists.
        lists: The files of the published lists.
        read: Returns the frames' names of one of them.

    Raises:
        DatasetError: A list is missing or wrong, or a sequence has no frames.
    """
    if sequences is not None:
        return _choose_sequences(files, sequences, split, str(root))
    for path in lists.values():
        if not path.is_file():
            raise DatasetError(
                f'{path}: no such file; put the published split lists there, set lists to their '
                'folder, or name sequences in validation'
            )
    names = {key: read(path) for key, path in lists.items()}
    return _choose_listed(files, names, split, str(lists[split].parent))


def _choose_listed(
    files: Mapping[str, str], lists: Mapping[Split, Iterable[str]], split: Split, origin: str
) -> dict[str, str]:
    """Return the files that the list of a split names.

    Sequences of which both lists have frames are logged: neighbouring frames are alike.

    Args:
        files: Name -> path of what is there.
        lists: Names of the frames of each split.
        split: Which one.
        origin: Where the lists are from, for errors.

    Raises:
        DatasetError: A listed frame is not there, or is in both lists.
    """
    train, validation = set(lists['train']), set(lists['validation'])
    both = sorted(train & validation)
    if both:
        raise DatasetError(f'{origin}: {len(both)} frames are in both lists: {some(both)}')
    listed = train if split == 'train' else validation
    missing = sorted(listed - files.keys())
    if missing:
        raise DatasetError(
            f'{origin}: {len(missing)} listed frames are not there: {some(missing)}; '
            'unpack all archives of the dataset'
        )
    shared = set(map(sequence_of, train)) & set(map(sequence_of, validation))
    if shared:
        log.warning(
            '%s: train and validation share the sequences %s, and neighbouring frames are alike: '
            'the figures say little about new places; hold out whole sequences for that',
            origin,
            ', '.join(sorted(shared)),
        )
    return {name: path for name, path in files.items() if name in listed}


def _choose_sequences(
    files: Mapping[str, str], validation: Sequence[str], split: Split, origin: str
) -> dict[str, str]:
    """Return the files of the named sequences (validation), or all others (train).

    Args:
        files: Name -> path of what is there.
        validation: Sequences to validate on.
        split: Which one.
        origin: Where the files are, for errors.

    Raises:
        DatasetError: A named sequence has no frames; misspelt, it would be trained on.
    """
    known = set(map(sequence_of, files))
    strangers = sorted(set(validation) - known)
    if strangers:
        raise DatasetError(
            f'{origin}: no frames of {", ".join(strangers)} to validate on; there are '
            f'{", ".join(sorted(known))}'
        )
    return {
        name: path
        for name, path in files.items()
        if (sequence_of(name) in validation) == (split == 'validation')
    }


def sequence_of(name: str) -> str:
    """Return the sequence of ``<sequence>/<stem>``."""
    return name.partition('/')[0]


def frame_of(listed: str, origin: str) -> str:
    """Return ``<sequence>/<stem>`` of a listed path ``.../<sequence>/<folder>/<stem>.<suffix>``.

    Raises:
        DatasetError: The path has fewer parts; ``origin`` is named.
    """
    path = PurePosixPath(listed)
    if len(path.parts) < 3:
        raise DatasetError(f'{origin}: got {listed!r}, expected <sequence>/<folder>/<file>')
    return f'{path.parts[-3]}/{path.stem}'
