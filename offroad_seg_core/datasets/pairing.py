"""Pair images with their labels by name, never by the order of files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import translate
import logging
from pathlib import Path
import re

from offroad_seg_core.datasets.listing import LOSSLESS_SUFFIXES, Pattern, some
from offroad_seg_core.datasets.masks import DatasetError

log = logging.getLogger(__name__)


def find_named(
    root: Path,
    pattern: str,
    suffixes: Sequence[str] | None = None,
    name_of: Callable[[tuple[str, ...]], str] = '/'.join,
) -> dict[str, str]:
    """Find the files of a pattern by name.

    Args:
        root: Where the pattern begins.
        pattern: See ``Pattern``.
        suffixes: Possible ones; None for those of every picture.
        name_of: Turns what the wildcards stand for into the name of the frame. By default folders
            and stem: ``b/0001`` for ``a/b/0001.jpg`` in ``a/**/*.jpg``.

    Returns:
        Name -> path relative to ``root``, in the order of paths.

    Raises:
        DatasetError: A folder is missing, or two files have one name, such as a.jpg and a.png.
    """
    meant = Pattern(pattern) if suffixes is None else Pattern(pattern, tuple(suffixes))
    return by_name(root, ((name_of(meaning), path) for path, meaning in meant.find(root)))


def by_name(root: Path, files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return name -> path of (name, path).

    Raises:
        DatasetError: Two files below ``root`` have one name.
    """
    named: dict[str, str] = {}
    twice = []
    for name, path in files:
        other = named.setdefault(name, path)
        if other != path:
            twice.append(f'{other} and {path}')
    if twice:
        raise DatasetError(
            f'{root}: {len(twice)} times two files share the name of one frame: {some(twice)}; '
            'keep one of them, or name only one by the pattern'
        )
    return named


def find_labels(
    root: Path, pattern: str, name_of: Callable[[tuple[str, ...]], str] = '/'.join
) -> dict[str, str]:
    """Find label files by name, see ``find_named``; compression must not have changed them."""
    return find_named(root, pattern, LOSSLESS_SUFFIXES, name_of)


def pair(
    images: Mapping[str, str],
    labels: Mapping[str, str],
    origin: str,
    skip_unlabelled: bool = False,
) -> list[tuple[str, str, str]]:
    """Pair files by name.

    Args:
        images: Name -> path.
        labels: Name -> path.
        origin: Where they are from, for errors.
        skip_unlabelled: Leave out images that have no label, and log how many; an error
            otherwise.

    Returns:
        (name, image, label) in the order of names.

    Raises:
        DatasetError: A file has no partner; how many, and the first 5 of each side.
    """
    no_label = sorted(images.keys() - labels.keys())
    no_image = sorted(labels.keys() - images.keys())
    if no_label and skip_unlabelled:
        log.info('%s: %d images without label left out: %s', origin, len(no_label), some(no_label))
    if no_image or (no_label and not skip_unlabelled):
        problems = [
            f'{len(paths)} {what}: {some(paths)}'
            for what, paths in (
                ('images have no label', [images[name] for name in no_label]),
                ('labels have no image', [labels[name] for name in no_image]),
            )
            if paths
        ]
        fix = _explain(no_label, no_image) or 'remove them or add their partners'
        raise DatasetError(f'{origin}: {"; ".join(problems)}; {fix}')
    return [(name, images[name], labels[name]) for name in sorted(images) if name in labels]


def matcher(globs: Iterable[str]) -> Callable[[str], bool]:
    """Return a test whether a text fits one of the globs; ``*`` also stands for slashes."""
    parts = [translate(glob) for glob in globs]
    if not parts:
        return lambda text: False
    regex = re.compile('|'.join(parts))
    return lambda text: regex.match(text) is not None


def idle_globs(names: Iterable[str], globs: Sequence[str]) -> list[str]:
    """Return the globs that fit none of the names; most likely they are misspelt."""
    names = list(names)
    return [glob for glob in globs if not any(map(matcher([glob]), names))]


def warn_of_idle(names: Collection[str], globs: Sequence[str], origin: str) -> None:
    """Log the globs of ``exclude`` that fit none of a dataset's frames."""
    idle = idle_globs(names, globs)
    if idle:
        log.warning('%s: exclude: %s fits no frame; frames are named like %s',
                    origin, ', '.join(idle), some(names))  # fmt: skip


def leave_out(files: Mapping[str, str], globs: Sequence[str], why: str) -> dict[str, str]:
    """Return the files whose names fit none of the globs; log how many did.

    Args:
        files: Name -> path.
        globs: See ``matcher``.
        why: The reason, for the log.
    """
    fits = matcher(globs)
    kept = {name: path for name, path in files.items() if not fits(name)}
    if len(kept) < len(files):
        names = (name for name in files if name not in kept)
        log.info('%d files left out (%s): %s', len(files) - len(kept), why, some(names))
    return kept


def _explain(no_label: list[str], no_image: list[str]) -> str:
    """Say what most likely makes the names differ, or nothing."""
    if not no_label or not no_image:
        return ''
    image, names = no_label[0], set(no_image)
    longer = [name for name in no_image if name.startswith(image)]
    if len(longer) == 1:
        return f'label names end with {longer[0][len(image) :]!r}: set it as label_suffix'
    if {_stem(name) for name in no_label} == {_stem(name) for name in names}:
        return 'the stems agree, the folders do not: set pair_by: stem'
    if {name.lower() for name in no_label} & {name.lower() for name in names}:
        return 'names differ in upper and lower case: rename them'
    return ''


def _stem(name: str) -> str:
    return name.rpartition('/')[2]
