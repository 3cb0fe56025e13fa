"""What the pixels of a rendered dataset depend on, kept beside them in ``options.json``."""

from __future__ import annotations

from functools import cache
import hashlib
import json
from pathlib import Path
from typing import Any

from offroad_seg_core.files import atomic_path

OPTIONS_NAME = 'options.json'


class StaleDatasetError(ValueError):
    """A folder holds frames that the present options or renderer would not give."""


@cache
def renderer_sha256() -> str:
    """Return the hex SHA-256 over the names and contents of this package's source files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob('*.py')):
        content = path.read_bytes()
        digest.update(f'{path.name} {len(content)}\n'.encode())
        digest.update(content)
    return digest.hexdigest()


def claim_folder(output: Path, identity: dict[str, Any]) -> None:
    """Record what a folder's frames are made from; refuse a folder of other frames.

    Args:
        output: The dataset's folder; made if it is missing.
        identity: Everything that determines a frame's pixels but its own seed, camera and number,
            as JSON knows it.

    Raises:
        StaleDatasetError: The folder was rendered from something else, or nobody knows from what.
    """
    path = output / OPTIONS_NAME
    if path.exists():
        _check(path, identity)
    elif any(any((output / name).glob('*')) for name in ('images', 'labels')):
        raise StaleDatasetError(
            f'{output}: got frames without {OPTIONS_NAME}, so nobody knows how they were '
            f'rendered; expected {_text(identity)}; {_fix(output)}'
        )
    else:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(identity, indent=1), encoding='utf-8')


def _check(path: Path, identity: dict[str, Any]) -> None:
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise StaleDatasetError(f'{path}: not JSON ({error}); {_fix(path.parent)}') from error
    if found == identity:
        return
    if not isinstance(found, dict):
        raise StaleDatasetError(f'{path}: expected a mapping; {_fix(path.parent)}')
    changed = [key for key in {**found, **identity} if found.get(key) != identity.get(key)]
    got, expected = ({key: side.get(key) for key in changed} for side in (found, identity))
    raise StaleDatasetError(
        f'{path}: the frames there are others: got {_text(got)}, expected {_text(expected)}; '
        f'{_fix(path.parent)}'
    )


def _text(content: dict[str, Any]) -> str:
    return ', '.join(f'{key} {json.dumps(value)}' for key, value in content.items())


def _fix(output: Path) -> str:
    return f'fix: choose another folder, or delete {output} to render its frames anew'
