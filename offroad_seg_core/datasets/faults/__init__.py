"""Lists of frames whose labels are known to be wrong."""

from __future__ import annotations

from pathlib import Path

import yaml

_FOLDER = Path(__file__).parent


def known_faults(dataset: str) -> dict[str, str]:
    """Return the faults of a dataset: glob of frame names -> reason and source.

    Args:
        dataset: Name of a list beside this file.
    """
    entries = yaml.safe_load((_FOLDER / f'{dataset}.yaml').read_text(encoding='utf-8'))
    return {entry['frames']: f'{entry["reason"]}, {entry["source"]}' for entry in entries}
