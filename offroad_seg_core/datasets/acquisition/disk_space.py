"""Find out whether everything will fit before anything is written."""

from __future__ import annotations

from collections.abc import Iterable
import os
from pathlib import Path
import shutil

_GB = 1e9


class DiskSpaceError(ValueError):
    """There is not enough room."""


def check_space(steps: Iterable[tuple[Path, int]], reserve: int, advice: str) -> None:
    """Play through what will be written and deleted, and compare its peak with what is free.

    Args:
        steps: In their order: a folder (it need not exist yet) and how many bytes come there;
            negative where they are deleted.
        reserve: Bytes to leave free.
        advice: What the user can do about it.

    Raises:
        DiskSpaceError: A file system would be full.
    """
    used: dict[int, int] = {}
    peaks: dict[int, tuple[int, Path]] = {}
    for folder, num_bytes in steps:
        existing = nearest_existing(folder)
        device = os.stat(existing).st_dev
        used[device] = used.get(device, 0) + num_bytes
        if used[device] > peaks.get(device, (0, existing))[0]:
            peaks[device] = used[device], existing
    for peak, existing in peaks.values():
        free = shutil.disk_usage(existing).free
        if peak + reserve > free:
            raise DiskSpaceError(
                f'{existing}: {peak / _GB:.1f} GB are needed and {reserve / _GB:.1f} GB should '
                f'stay free, but only {free / _GB:.1f} GB are free; {advice}'
            )


def nearest_existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
