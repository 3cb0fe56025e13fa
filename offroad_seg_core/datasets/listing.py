"""Find the files that a pattern means, and say what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
import logging
import os
from pathlib import Path
import re

from offroad_seg_core.datasets.masks import DatasetError

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
LOSSLESS_SUFFIXES = ('.png', '.bmp', '.tif', '.tiff')
# Pictures that cannot be read here, and what an interrupted download leaves: never passed over.
_BROKEN_SUFFIXES = frozenset(
    ('.avif', '.dng', '.gif', '.heic', '.heif', '.jp2', '.jxl')
    + ('.crdownload', '.download', '.part', '.partial', '.tmp')
)
_WILDCARD = re.compile(r'(\*\*/|\*|\?|\{[^{}]*\})')


@dataclass(frozen=True)
class Pattern:
    """Files below a root, such as ``images/*/*_left.png``.

    ``*`` stands for any text without a slash, ``**/`` for any folders or none, ``?`` for one
    character, ``{a,b}`` for one of the texts. The suffix is compared without regard to case;
    without a suffix, every picture is meant. Hidden files are never meant.

    Attributes:
        text: As written.
        suffixes: Those that are possible, in lower case.
    """

    text: str
    suffixes: tuple[str, ...] = PICTURE_SUFFIXES

    @cached_property
    def _parts(self) -> tuple[str, tuple[str, ...]]:
        """The pattern without suffix, and the suffixes it means."""
        body, dot, suffix = self.text.rpartition('.')
        if not dot or '/' in suffix or suffix == '*':
            return (body if suffix == '*' and dot else self.text), self.suffixes
        choices = suffix[1:-1].split(',') if suffix.startswith('{') else [suffix]
        meant = tuple(f'.{choice.strip().lower()}' for choice in choices)
        strange = [choice for choice in meant if choice not in self.suffixes]
        if strange:
            raise DatasetError(
                f'pattern {self.text!r}: got the suffix {strange[0]}, expected one of '
                f'{" ".join(self.suffixes)}'
                + ('; lossy compression changes labels' if strange[0] in PICTURE_SUFFIXES else '')
            )
        return body, meant

    @cached_property
    def folder(self) -> str:
        """The folders before the first wildcard, which need no search."""
        fixed = _WILDCARD.split(self._parts[0], maxsplit=1)[0]
        return fixed.rpartition('/')[0]

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(''.join(_translate(piece) for piece in _WILDCARD.split(self._parts[0])))

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return what the wildcards stand for in a relative path, None if it does not fit.

        Folders count one by one; a path with an unreadable suffix does not fit.
        """
        body, dot, suffix = path.rpartition('.')
        if f'{dot}{suffix}'.lower() not in self._parts[1]:
            return None
        found = self._regex.fullmatch(body)
        if found is None:
            return None
        return tuple(text for text in found.groups() if text is not None)

    def find(self, root: Path) -> list[tuple[str, tuple[str, ...]]]:
        """List the files that fit, as (path relative to ``root``, what the wildcards stand for).

        Raises:
            DatasetError: The folder is missing, a link leads nowhere or in a circle, or a
                picture could be meant that cannot be read.
        """
        folder = root / self.folder
        if not folder.is_dir():
            raise DatasetError(f'{folder}: no such folder; {self.text} was looked for in {root}')
        found, others = [], []
        for path in walk(root, self.folder):
            meaning = self.match(path)
            if meaning is None:
                others.append(path)
            else:
                found.append((path, meaning))
        self._report(root, others)
        return sorted(found)

    def _report(self, root: Path, others: list[str]) -> None:
        suffixes = Counter(os.path.splitext(path)[1].lower() for path in others)
        broken = sorted(suffixes.keys() & _BROKEN_SUFFIXES)
        if broken and len(self._parts[1]) > 1:  # the pattern itself names no suffix
            names = [path for path in others if path.lower().endswith(tuple(broken))]
            raise DatasetError(
                f'{root}: {len(names)} files could be frames but cannot be read: {some(names)}; '
                f'convert them to one of {" ".join(self._parts[1])}, or move them away'
            )
        if others:
            kinds = ', '.join(f'{n} {s or "without suffix"}' for s, n in suffixes.most_common(5))
            log.info(
                '%s: %s leaves out %d files (%s): %s',
                root, self.text, len(others), kinds, some(others),
            )  # fmt: skip


def walk(root: Path, folder: str = '') -> Iterator[str]:
    """Yield the paths of all files below ``root / folder``, relative to ``root``.

    Links are followed. Hidden files and folders are left out; their number is logged.

    Raises:
        DatasetError: A link leads nowhere or in a circle.
    """
    hidden = []
    pending = [folder]
    while pending:
        current = pending.pop()
        prefix = f'{current}/' if current else ''
        with os.scandir(root / current) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.name.startswith('.'):
                    hidden.append(path)
                elif entry.is_dir():  # no look at the disk: the listing says so
                    if entry.is_symlink():
                        _check_circle(entry.path)
                    pending.append(path)
                elif entry.is_symlink() and not entry.is_file():
                    raise DatasetError(f'{entry.path}: a link that leads nowhere; mend it')
                else:
                    yield path
    if hidden:
        log.info('%s: %d hidden files left out: %s', root, len(hidden), some(sorted(hidden)))


def some(names: Iterable[str]) -> str:
    """Name the first 5."""
    listed = list(names)
    return ', '.join(listed[:5]) + (', ...' if len(listed) > 5 else '')


def _check_circle(link: str) -> None:
    target, parent = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    if f'{parent}/'.startswith(f'{target}/'):
        raise DatasetError(f'{link}: a link to a folder that holds it; remove it')


def _translate(piece: str) -> str:
    if piece == '**/':
        return '(?:(.+)/)?'
    if piece == '*':
        return '([^/]*)'
    if piece == '?':
        return '([^/])'
    if piece.startswith('{'):
        return '(?:' + '|'.join(map(re.escape, piece[1:-1].split(','))) + ')'
    return re.escape(piece)
