"""What a parameter file has for the node, and where it would win over a launch argument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from offroad_seg_ros.installation import share_folder
from offroad_seg_ros.launch_arguments import LaunchError

NODE = 'segmentation_node'
_EVERY_NODE = '/**'


def read_params_file(text: str) -> tuple[Path, dict[str, Any]]:
    """Return the path of the parameter file and the values it has for the node.

    A file without a section for the node is the user's affair: rcl knows more ways to name it.
    """
    shipped = share_folder() / 'config' / 'segment.param.yaml'
    path = Path(text).expanduser() if text else shipped
    settings = {name: value for _, values in _sections(path) for name, value in values.items()}
    if path != shipped:
        settings = {**read_params_file('')[1], **settings}
    return path, settings


def refuse_outranked(path: Path, names: Iterable[str]) -> None:
    """Refuse arguments that the parameter file would silently win over.

    rclpy applies sections in the order of their first appearance, and arguments on the command
    line belong to ``/**`` and ``/segmentation_node``: a section of a namespace behind ``/**``
    comes after them.

    Raises:
        LaunchError: such a section sets one of these parameters.
    """
    seen_every = False
    for section, values in _sections(path):
        outranked = sorted(set(names) & set(values)) if seen_every else []
        if section.count('/') > 1 and outranked:
            raise LaunchError(
                f'params_file: {path}: got {", ".join(outranked)} in the section {section} behind '
                f'{_EVERY_NODE}, which wins over the argument; expected the argument to win; '
                f'fix: take it out of the section, or put the section before {_EVERY_NODE}'
            )
        seen_every |= section == _EVERY_NODE


def _sections(path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LaunchError(
            f'params_file: {path}: got {error}, expected a parameter file'
        ) from error
    return list(_of_the_node(content))


def _of_the_node(content: Any, name: str = '') -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sections for the node in whatever namespace, with their full names."""
    for key, value in (content if isinstance(content, dict) else {}).items():
        if key != 'ros__parameters':
            yield from _of_the_node(value, f'{name}/{str(key).strip("/")}')
        elif name.rpartition('/')[2] in ('**', '*', NODE) and isinstance(value, dict):
            yield name, value
