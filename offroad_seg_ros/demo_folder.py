"""The demo's result folder: complete or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import shutil
import uuid

SUMMARY = 'summary.json'


class FolderError(ValueError):
    """The result folder cannot be used."""


@contextmanager
def result_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``path`` that becomes ``path`` when the block ends well.

    An older result is replaced in that moment and not before. A folder that is no result of the
    demo is never touched. When the block raises, nothing is left but the older result.

    Raises:
        FolderError: ``path`` holds something else.
    """
    path = path.absolute()
    is_ours = not path.exists() or (path.is_dir() and (path / SUMMARY).is_file())
    if not is_ours and not (path.is_dir() and not any(path.iterdir())):
        fix = 'give another folder: --output DIR'
        raise FolderError(f'{path}: got something that is no older demo result; {fix}')
    temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex[:8]}')
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            older = temporary.with_name(temporary.name + '.old')
            path.rename(older)
            temporary.rename(path)
            shutil.rmtree(older)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
