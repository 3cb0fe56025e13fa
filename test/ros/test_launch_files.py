"""The launch files start what the plan says; with the real launch where it is installed.

Elsewhere recording stand-ins take its place, of just those classes and calls that the files use.
"""

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import ANY

import pytest
import yaml

from offroad_seg_ros.launch_arguments import REPLAY_ARGUMENTS, SEGMENT_ARGUMENTS
from offroad_seg_ros.launch_plan import plan_replay, plan_segment

ROOT = Path(__file__).parents[2]
HAS_LAUNCH = find_spec('launch_ros') is not None
FILES = {
    'segment': (SEGMENT_ARGUMENTS, plan_segment),
    'replay': (REPLAY_ARGUMENTS, plan_replay),
}
VALUES = {
    'windshield': '/w/image_raw',
    'left': 'none',
    'cameras': 'rear=/rear/image_raw',
    'transport': 'compressed',
    'build_only': 'true',
    'engine': 'onnxruntime',
    'precision': 'fp32',
    'engine_cache': '/tmp/engines',
    'tta': 'off',
    'use_sim_time': 'true',
    'rviz': 'true',
    'params_file': str(ROOT / 'config' / 'segment.param.yaml'),
    'player': 'rosbag2',
    'rate': '2.5',
    'loop': 'true',
    'start_paused': 'true',
    'latencies': '/tmp/elsewhere',
}


class _Recorded:
    """Remembers how it was made."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs


class _Configuration(_Recorded):
    def perform(self, context):
        return context.launch_configurations[self.args[0]]


def _stand_ins():
    modules = {
        name: ModuleType(name)
        for name in (
            'launch',
            'launch.actions',
            'launch.substitutions',
            'launch_ros',
            'launch_ros.actions',
        )
    }
    kinds = {
        'launch': ('LaunchContext', 'LaunchDescription'),
        'launch.actions': ('DeclareLaunchArgument', 'OpaqueFunction'),
        'launch_ros.actions': ('Node',),
    }
    for module, names in kinds.items():
        for name in names:
            setattr(modules[module], name, type(name, (_Recorded,), {}))
    modules['launch.substitutions'].LaunchConfiguration = _Configuration
    return modules


@pytest.fixture
def launch_modules(monkeypatch):
    if not HAS_LAUNCH:
        for name, module in _stand_ins().items():
            monkeypatch.setitem(sys.modules, name, module)


def _load(name):
    spec = spec_from_file_location(f'{name}_launch', ROOT / 'launch' / f'{name}.launch.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _started(module, given):
    """Return what a launch starts, as (package, executable, arguments, environment)."""
    description = module.generate_launch_description()
    if not HAS_LAUNCH:
        (entities,) = description.args
        declared = {e.args[0]: e.kwargs for e in entities if 'default_value' in e.kwargs}
        defaults = {name: kwargs['default_value'] for name, kwargs in declared.items()}
        context = SimpleNamespace(launch_configurations={**defaults, **given}, environment={})
        nodes = [node.kwargs for node in entities[-1].kwargs['function'](context)]
        return declared, [
            (n['package'], n['executable'], n['arguments'], n['additional_env']) for n in nodes
        ]
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
    from launch.substitutions import TextSubstitution
    from launch.utilities import perform_substitutions

    context = LaunchContext()
    context.launch_configurations.update(given)
    declared, nodes = {}, []
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
            choices = entity.choices
            declared[entity.name] = {'description': entity.description, 'choices': choices}
        else:
            nodes = entity.execute(context)

    def text(parts):
        return perform_substitutions(context, list(parts))

    return declared, [
        (
            node.node_package,
            node.node_executable,
            # Others are launch's own, known when it runs.
            [text(p) for p in node.cmd[1:] if isinstance(p[0], TextSubstitution)],
            {text(name): text(value) for name, value in node.additional_env or ()},
        )
        for node in nodes
    ]


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    bundle = tmp_path / 'bundle'
    bundle.mkdir()
    (bundle / 'manifest.yaml').touch()
    topics = [
        {'topic_metadata': {'name': f'/{name}/image', 'type': 'sensor_msgs/msg/Image'}}
        for name in ('windshield', 'left')
    ]
    content = {'topics_with_message_count': [{**topic, 'message_count': 1} for topic in topics]}
    (tmp_path / 'metadata.yaml').write_text(
        yaml.safe_dump({'rosbag2_bagfile_information': content})
    )
    return {
        'segment': {'bundle': str(bundle)},
        'replay': {'bundle': str(bundle), 'bag': str(tmp_path)},
    }


CASES = [
    (file, argument.name)
    for file, (arguments, _) in FILES.items()
    for argument in arguments
    if argument.name not in ('bundle', 'bag')
]


@pytest.mark.usefixtures('launch_modules')
@pytest.mark.parametrize(('file', 'argument'), [*((file, '') for file in FILES), *CASES])
def test_each_argument_reaches_the_processes(file, argument, base, monkeypatch):
    for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        monkeypatch.delenv(name, raising=False)
    arguments, plan_of = FILES[file]
    given = {**base[file], **({argument: VALUES[argument]} if argument else {})}
    declared, started = _started(_load(file), given)
    assert set(declared) == {entry.name for entry in arguments}
    assert all(entry['description'] for entry in declared.values())

    plan = plan_of(given, {})
    expected = [('offroad_seg_ros', 'segmentation_node', plan.node_arguments())]
    if file == 'replay':
        expected.append(('offroad_seg_ros', 'bag_player', list(plan.player_arguments)))
    if plan.recorder_arguments:
        recorder = ('offroad_seg_ros', 'latency_recorder', list(plan.recorder_arguments))
        expected.append(recorder)
    if argument == 'rviz':
        expected.append(('rviz2', 'rviz2', ['-d', ANY, *plan.rviz_arguments[2:]]))
    got = [(package, name, words) for package, name, words, _ in started]
    assert [entry[:2] for entry in got] == [entry[:2] for entry in expected]
    for (_, _, words), (_, _, wanted) in zip(got, expected, strict=True):
        assert words[: len(wanted)] == wanted  # the real launch adds its own behind
    for *_, environment in started:
        assert plan.environment.items() <= environment.items()


def test_every_executable_is_installed():
    setup = (ROOT / 'setup.py').read_text()
    for name in ('segmentation_node', 'bag_player', 'bag_recorder', 'latency_recorder'):
        assert f"'{name} = offroad_seg_ros.{name}:main'" in setup
