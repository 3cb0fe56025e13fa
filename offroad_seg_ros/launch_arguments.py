"""The arguments of the launch files: names, defaults and meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

AUTO = 'auto'
"""Default of a camera's argument: on if the parameter file (or the bag) has it."""
NOTHING = ('none', '', "''", '""')
"""What drops a camera, or the record of latencies.

`ros2 launch` takes no empty value: `left:=''` never gets here.
"""
PLAYERS = ('own', 'rosbag2')
"""Who plays a bag: this package's player, or `ros2 bag play`."""
_BOOL = ('true', 'false', 'True', 'False')  # as shells and launch files in Python write them


class LaunchError(ValueError):
    """An argument has a value that it cannot have."""


class Argument(NamedTuple):
    """One launch argument."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


SEGMENT_ARGUMENTS = (
    Argument('bundle', '', 'Folder of the model bundle; empty: the shipped demo model.'),
    Argument('windshield', AUTO, 'Image topic; auto: windshield/image; none: no such camera.'),
    Argument('left', AUTO, 'Image topic; auto: left/image; none: no such camera.'),
    Argument('cameras', '', 'Further cameras as NAME=TOPIC, comma-separated.'),
    Argument(
        'transport',
        '',
        'Kind of images; empty: as the parameter file says.',
        ('', 'raw', 'compressed'),
    ),
    Argument('engine', '', 'auto (the fastest), tensorrt, …; empty: the parameter file.'),
    Argument('precision', '', 'auto, fp32, fp16, bf16, int8; empty: the parameter file.'),
    Argument('engine_cache', '', 'Folder of built engines; empty: the parameter file.'),
    Argument('build_only', 'false', 'Build the engine and end.', _BOOL),
    Argument('tta', '', 'off, flip, flip_scales, auto; empty: the parameter file.'),
    Argument('use_sim_time', 'false', 'Take the time from /clock.', _BOOL),
    Argument('rviz', 'false', 'Show images, overlays and classes in RViz.', _BOOL),
    Argument('params_file', '', 'Parameter file; empty: the shipped segment.param.yaml.'),
)
REPLAY_ARGUMENTS = (
    Argument('bag', '', 'rosbag2 folder; a file needs windshield:=TOPIC (must be given).'),
    Argument('player', 'own', 'Who plays; rosbag2: `ros2 bag play`.', PLAYERS),
    Argument('rate', '1.0', 'Bag seconds per second.'),
    Argument('loop', 'false', 'Start again at the end of the bag.', _BOOL),
    Argument('start_paused', 'false', 'Wait for the service /bag_player/pause.', _BOOL),
    Argument('latencies', 'replay_latencies', 'Folder for how long labels took; none: no such.'),
    *(
        argument
        for argument in SEGMENT_ARGUMENTS
        if argument.name not in ('use_sim_time', 'build_only')
    ),
)


def with_defaults(arguments: Mapping[str, str], known: Sequence[Argument]) -> dict[str, str]:
    """Return the text of every known argument.

    Launch files hand over known names only: launch cannot tell a misspelt argument from a
    configuration of the launch file that includes this one.

    Raises:
        LaunchError: an argument is not known, or not one of its choices.
    """
    names = [argument.name for argument in known]
    unknown = sorted(set(arguments) - set(names))
    if unknown:
        raise LaunchError(f'got argument {unknown[0]}, expected one of {", ".join(names)}')
    given = {argument.name: arguments.get(argument.name, argument.default) for argument in known}
    for argument in known:
        if argument.choices and given[argument.name] not in argument.choices:
            choices = ', '.join(repr(choice) for choice in argument.choices)
            raise LaunchError(f'{argument.name}: got {given[argument.name]!r}, expected {choices}')
        if argument.choices == _BOOL:
            given[argument.name] = given[argument.name].lower()
    return given
