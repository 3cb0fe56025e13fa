"""All decisions of the launch files: from arguments to parameters, remappings and environment.

Imports neither launch nor launch_ros, so that the demo uses it and tests check it without them.
The parameter file is the one source of defaults: an argument that is not given changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
import json
from pathlib import Path
import re
from typing import Any

import yaml

from offroad_seg_core.bags.camera_topics import CameraTopic, find_cameras
from offroad_seg_ros.installation import added_environment, share_folder
from offroad_seg_ros.launch_arguments import (
    AUTO,
    NOTHING,
    PLAYERS,
    REPLAY_ARGUMENTS,
    SEGMENT_ARGUMENTS,
    LaunchError,
    with_defaults,
)
from offroad_seg_ros.launch_params_file import NODE, read_params_file, refuse_outranked
from offroad_seg_ros.launch_rviz import write_layout

DEMO_BUNDLE = Path('models') / 'demo_desert'
_OWN_ARGUMENT = ('windshield', 'left')
_PARAMETERS = ('engine', 'precision', 'tta')
_WAIT_S = 120.0  # loading a model can take that long
_TOPIC = re.compile(r'(~/|/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)


@dataclass(frozen=True)
class LaunchPlan:
    """What to start, and how."""

    params_file: Path
    parameters: Mapping[str, Any]
    """What overrides the parameter file."""
    remappings: tuple[tuple[str, str], ...]
    environment: Mapping[str, str]
    """Variables to add to the environment of every process."""
    input_topics: Mapping[str, str] = field(default_factory=dict)
    """Camera → topic that carries its pictures, of the cameras that were given a topic."""
    rviz_arguments: tuple[str, ...] = ()
    """Command line of rviz2; empty: no RViz."""
    player_arguments: tuple[str, ...] = ()
    """Command line of bag_player; empty: no bag is played."""
    recorder_arguments: tuple[str, ...] = ()
    """Command line of latency_recorder; empty: no latencies are recorded."""

    def node_arguments(self) -> list[str]:
        """Return the command line of the node.

        Overrides are `-p` arguments, for every node and for this one: a file's section for every
        node, one for this node behind it, or both, lose. Their values are JSON, which YAML
        includes: a bare `off` would arrive as a boolean.
        """
        arguments = ['--ros-args', '--params-file', str(self.params_file)]
        for name, value in self.parameters.items():
            text = f'{name}:={json.dumps(value, ensure_ascii=False)}'
            arguments += ['-p', text, '-p', f'{NODE}:{text}']
        return [*arguments, *_remapping_arguments(self.remappings)]


def plan_segment(
    arguments: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> LaunchPlan:
    """Plan segment.launch.py.

    Args:
        arguments: name → text, of SEGMENT_ARGUMENTS; missing ones have their defaults.
        environment: what the user has set; os.environ if not given.

    Raises:
        LaunchError: an argument, the parameter file or the bundle is wrong.
    """
    given = with_defaults(arguments, SEGMENT_ARGUMENTS)
    params_file, settings = read_params_file(given['params_file'])
    file_names = list(settings.get('cameras') or ())
    transport = given['transport'] or settings.get('transport', 'raw')
    cameras = _asked_cameras(given, file_names, transport)
    parameters = {name: given[name] for name in _PARAMETERS if given[name]}
    if given['engine_cache']:
        parameters['engine_cache'] = str(Path(given['engine_cache']).expanduser())
    if given['transport']:
        parameters['transport'] = transport
    if list(cameras) != file_names:
        parameters['cameras'] = list(cameras)
    if given['bundle'] or not settings.get('bundle'):
        parameters['bundle'] = str(_bundle(given['bundle']))
    if given['build_only'] == 'true':
        parameters['build_only'] = True
    if given['use_sim_time'] == 'true':
        parameters['use_sim_time'] = True
    refuse_outranked(params_file, parameters)
    remapped = [camera for camera in cameras.values() if camera is not None]
    remappings = tuple(pair for camera in remapped for pair in _remappings(camera))
    return LaunchPlan(
        params_file,
        parameters,
        remappings,
        added_environment(environment),
        {camera.name: camera.input_topic for camera in remapped},
        _rviz_arguments(given, cameras, transport, remappings),
    )


def plan_replay(
    arguments: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> LaunchPlan:
    """Plan replay.launch.py: segment.launch.py, the time of a bag, and its player.

    Where no camera is named, those of the bag are taken.

    Raises:
        LaunchError: as plan_segment; no bag, a rate that is not above 0, no image topics.
    """
    given = with_defaults(arguments, REPLAY_ARGUMENTS)
    player = _player_arguments(given)
    if given['windshield'] == given['left'] == AUTO and not given['cameras']:
        topics = _topics_of_bag(Path(given['bag']).expanduser())
        found = find_cameras(topics)
        if not found:
            held = ', '.join(f'{name} ({kind})' for name, kind in topics.items()) or 'nothing'
            raise LaunchError(f'bag: got no camera images, expected some; it holds {held}')
        given |= camera_arguments(found)
    asked = {entry.name: given[entry.name] for entry in SEGMENT_ARGUMENTS if entry.name in given}
    plan = plan_segment({**asked, 'use_sim_time': 'true'}, environment)
    if plan.input_topics:
        player += ('--wait-for', *plan.input_topics.values())
    recorder: tuple[str, ...] = ()
    if plan.input_topics and given['latencies'] not in NOTHING:
        folder = str(Path(given['latencies']).expanduser())
        cameras = (f'{name}={topic}' for name, topic in plan.input_topics.items())
        recorder = (folder, '--cameras', *cameras)
    return replace(plan, player_arguments=player, recorder_arguments=recorder)


def camera_arguments(cameras: Sequence[CameraTopic]) -> dict[str, str]:
    """Return the arguments that choose exactly these cameras, one or more of one transport."""
    topics = {camera.name: camera.input_topic for camera in cameras}
    further = [f'{name}={topic}' for name, topic in topics.items() if name not in _OWN_ARGUMENT]
    return {
        **{name: topics.get(name, 'none') for name in _OWN_ARGUMENT},
        'cameras': ','.join(further),
        'transport': cameras[0].transport,
    }


def _asked_cameras(
    given: Mapping[str, str], file_names: Sequence[str], transport: str
) -> dict[str, CameraTopic | None]:
    """Return the cameras that are on; None for one that keeps its own topics."""
    asked = {name: given[name] for name in _OWN_ARGUMENT if given[name] != AUTO}
    for entry in filter(None, given['cameras'].split(',')):
        name, separator, topic = (part.strip() for part in entry.partition('='))
        if not (name and separator and topic) or name in asked or name in _OWN_ARGUMENT:
            raise LaunchError(
                f'cameras: got {entry!r}, expected NAME=TOPIC with each name once and not one of '
                f'{", ".join(_OWN_ARGUMENT)}, which have their own argument'
            )
        asked[name] = topic
    cameras: dict[str, CameraTopic | None] = dict.fromkeys(file_names)
    for name, topic in asked.items():
        if topic not in NOTHING:
            cameras[name] = _camera(name, topic, transport)
        else:
            cameras.pop(name, None)
    if not cameras:
        raise LaunchError('got no camera, expected at least one; fix: windshield:=TOPIC')
    return cameras


def _camera(name: str, topic: str, transport: str) -> CameraTopic:
    if not _TOPIC.fullmatch(topic):
        raise LaunchError(f'{name}: got {topic!r}, expected a topic such as /{name}/image_raw')
    if transport == 'compressed':
        topic = topic if topic.endswith('/compressed') else f'{topic}/compressed'
    elif topic.endswith('/compressed'):
        fix = 'transport:=compressed, or the topic of the raw images'
        raise LaunchError(f'{name}: got {topic!r} with transport raw; fix: {fix}')
    return CameraTopic(name, topic, transport)


def _remappings(camera: CameraTopic) -> list[tuple[str, str]]:
    image = camera.input_topic.removesuffix('/compressed')
    return [
        (f'{camera.name}/image', image),
        (f'{camera.name}/image/compressed', f'{image}/compressed'),
        (f'{camera.name}/camera_info', camera.info_topic),
    ]


def _remapping_arguments(remappings: Sequence[tuple[str, str]]) -> list[str]:
    return [word for source, target in remappings for word in ('-r', f'{source}:={target}')]


def _rviz_arguments(
    given: Mapping[str, str],
    cameras: Iterable[str],
    transport: str,
    remappings: Sequence[tuple[str, str]],
) -> tuple[str, ...]:
    """Return RViz's command line; it sees the camera images under the node's names too."""
    if given['rviz'] != 'true':
        return ()
    config = write_layout(list(cameras), transport)
    sim_time = f'use_sim_time:={given["use_sim_time"]}'
    return ('-d', config, '--ros-args', '-p', sim_time, *_remapping_arguments(remappings))


def _bundle(text: str) -> Path:
    path = Path(text).expanduser() if text else share_folder() / DEMO_BUNDLE
    if not (path / 'manifest.yaml').is_file():
        fix = 'give the folder of a model bundle'
        raise LaunchError(f'bundle: {path} holds no manifest.yaml; fix: {fix}')
    return path


def _player_arguments(given: Mapping[str, str]) -> tuple[str, ...]:
    if not given['bag']:
        raise LaunchError("bag: got '', expected a rosbag2 folder; fix: bag:=PATH")
    try:
        rate = float(given['rate'])
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < float('inf'):
        raise LaunchError(f'rate: got {given["rate"]!r}, expected a number above 0')
    flags = [
        f'--{name.replace("_", "-")}' for name in ('loop', 'start_paused') if given[name] == 'true'
    ]
    bag = str(Path(given['bag']).expanduser())
    if given['player'] != PLAYERS[0]:
        flags += ['--player', given['player']]
    return (bag, '--rate', str(rate), '--wait-for-subscribers', str(_WAIT_S), *flags)


def _topics_of_bag(path: Path) -> dict[str, str]:
    """Return topic → type as metadata.yaml says; rosbags may be missing where launch runs."""
    try:
        content = yaml.safe_load((path / 'metadata.yaml').read_text(encoding='utf-8'))
        entries = content['rosbag2_bagfile_information']['topics_with_message_count']
        topics = [entry['topic_metadata'] for entry in entries if entry['message_count']]
        return {topic['name']: topic['type'] for topic in topics}
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        raise LaunchError(
            f'bag: {path}: got no readable metadata.yaml ({error}), expected a rosbag2 folder; '
            'fix: `ros2 bag reindex`, or name the cameras: windshield:=TOPIC'
        ) from error
