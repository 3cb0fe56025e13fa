"""The node's settings from its parameter file, for programs that are no node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offroad_seg_ros.launch_plan import DEMO_BUNDLE, read_params_file, share_folder
from offroad_seg_ros.params import CameraParams, NodeParams, specs


def load_params(
    params_file: str, cameras: Sequence[str], overrides: Mapping[str, Any]
) -> NodeParams:
    """Return the parameters that the node would have.

    Args:
        params_file: A copy of segment.param.yaml; empty: the shipped one.
        cameras: Their names; those that the file does not know are upright.
        overrides: Name -> value; None and '' change nothing.

    Raises:
        LaunchError: The file cannot be read.
        ParameterError: A value that a parameter cannot have.
    """
    _, settings = read_params_file(params_file)
    given = {**settings, **{name: value for name, value in overrides.items() if value}}
    if not given.get('bundle'):
        given['bundle'] = str(share_folder() / DEMO_BUNDLE)
    known = specs(NodeParams)
    values = {name: known[name].convert(name, given[name]) for name in known if name in given}
    views = {camera: _view(camera, settings.get(camera)) for camera in cameras}
    return NodeParams(**{**values, 'cameras': tuple(cameras)}, views=views)


def _view(camera: str, section: Any) -> CameraParams:
    given = section if isinstance(section, dict) else {}
    known = specs(CameraParams)
    return CameraParams(
        **{
            name: known[name].convert(f'{camera}.{name}', given[name])
            for name in known
            if name in given
        }
    )
