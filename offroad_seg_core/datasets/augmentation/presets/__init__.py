"""Pipelines by name: the YAML files of this folder."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from offroad_seg_core.config import ConfigError, read_yaml


def preset_names() -> list[str]:
    """List the presets by name."""
    return sorted(
        item.name.removesuffix('.yaml')
        for item in resources.files(__name__).iterdir()
        if item.name.endswith('.yaml')
    )


@cache
def load_preset(name: str) -> tuple[dict[str, Any], ...]:
    """Return the transforms of a preset; not to be changed.

    Raises:
        ConfigError: There is no preset of this name.
    """
    names = preset_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f'did you mean {close[0]!r}?' if close else f'expected one of {", ".join(names)}'
        raise ConfigError(f'no preset is named {name!r}; {hint}')
    with resources.as_file(resources.files(__name__) / f'{name}.yaml') as path:
        return tuple(read_yaml(Path(path))['transforms'])
