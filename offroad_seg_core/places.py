"""Where commands write: places on this machine, checked before any work is done."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
import os
from pathlib import Path


class OutputError(ValueError):
    """A result cannot go where it was asked to go."""


def local_path(text: str) -> Path:
    """Return the path that an option names: what argparse calls a type.

    Raises:
        argparse.ArgumentTypeError: It is a URL, of which a path would make a folder here.
    """
    if '://' in text:
        got = f'a URL, {text.partition("://")[0]}://'  # the rest may hold a password
        fix = 'write to a folder of this machine, and copy that'
        raise argparse.ArgumentTypeError(f'got {got}, expected a path; fix: {fix}')
    return Path(text)


def output_place(
    given: str | Path, inputs: Iterable[str | Path | None] = (), option: str = '--output'
) -> Path:
    """Return where a result goes, with links followed: so what they lead to is replaced.

    Args:
        given: A folder or file; it takes its place when it is complete, by a rename.
        inputs: What is read. Those that are not there, as names and URLs, count for nothing.
        option: Named in errors.

    Raises:
        OutputError: Nothing can take its place, or it holds an input or lies in one.
    """
    place, got = Path(os.path.realpath(given)), ''
    if os.path.ismount(place):
        got = 'a mount point'
    elif Path.cwd().is_relative_to(place):
        got = 'the current folder or one above it'
    if got:
        fix = f'name a folder below it, such as {place / "result"}'
        expected = 'a place that is replaced when the result is complete'
        raise OutputError(f'{option}: got {given}, {got}; expected {expected}; fix: {fix}')
    for entry in filter(None, inputs):
        known = os.path.realpath(str(entry).removeprefix('file://'))
        if not os.path.exists(known):
            continue
        holds, lies_in = Path(known).is_relative_to(place), place.is_relative_to(known)
        if holds or lies_in:
            got = f'{given}, which {"holds" if holds else "lies in"} {entry}, which is read'
            fix = 'name another place'
            raise OutputError(f'{option}: got {got}; expected one apart from it; fix: {fix}')
    return place


def check_writable(place: Path, option: str = '--output') -> None:
    """Refuse a place in a folder that this user cannot write, or that is none.

    Args:
        place: As output_place returns it.
        option: Named in the error.

    Raises:
        OutputError: Saying which folder that is.
    """
    above = next(folder for folder in place.parents if os.path.exists(folder))
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        expected, fix = 'one in a folder that can be written', 'name another place'
        raise OutputError(f'{option}: got {place}, in {above}; expected {expected}; fix: {fix}')
