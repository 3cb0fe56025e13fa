"""What the launch arguments mean, against hand-written answers. Needs no launch."""

from pathlib import Path
import subprocess
import sys

import pytest
import yaml

from offroad_seg_ros.installation import share_folder
from offroad_seg_ros.launch_arguments import REPLAY_ARGUMENTS, SEGMENT_ARGUMENTS, LaunchError
from offroad_seg_ros.launch_plan import plan_segment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))  # RViz's layout goes there
    folder = tmp_path / 'bundle'
    folder.mkdir()
    (folder / 'manifest.yaml').touch()
    return str(folder)


def test_nothing_given_overrides_nothing_but_the_bundle(bundle):
    plan = plan_segment({'bundle': bundle}, {})
    assert plan.params_file == ROOT / 'config' / 'segment.param.yaml'
    assert plan.parameters == {'bundle': bundle}
    assert plan.remappings == ()
    assert plan.rviz_arguments == plan.player_arguments == ()


def test_an_image_topic_names_its_compressed_and_camera_info_topics(bundle):
    plan = plan_segment({'bundle': bundle, 'windshield': '/sensor/camera/w/image_raw'}, {})
    assert plan.remappings == (
        ('windshield/image', '/sensor/camera/w/image_raw'),
        ('windshield/image/compressed', '/sensor/camera/w/image_raw/compressed'),
        ('windshield/camera_info', '/sensor/camera/w/camera_info'),
    )
    assert plan.input_topics == {'windshield': '/sensor/camera/w/image_raw'}
    assert 'cameras' not in plan.parameters  # left stays as the parameter file has it


@pytest.mark.parametrize('text', ['none', '', "''", '""'])
def test_none_drops_the_camera(bundle, text):
    plan = plan_segment({'bundle': bundle, 'left': text}, {})
    assert plan.parameters['cameras'] == ['windshield']


def test_further_cameras_have_names_of_their_own(bundle):
    plan = plan_segment({'bundle': bundle, 'left': '', 'cameras': 'rear=/rear/image'}, {})
    assert plan.parameters['cameras'] == ['windshield', 'rear']
    assert ('rear/camera_info', '/rear/camera_info') in plan.remappings


@pytest.mark.parametrize('topic', ['/w/image_raw', '/w/image_raw/compressed'])
def test_compressed_transport_takes_either_name(bundle, topic):
    plan = plan_segment({'bundle': bundle, 'windshield': topic, 'transport': 'compressed'}, {})
    assert plan.parameters['transport'] == 'compressed'
    assert plan.input_topics == {'windshield': '/w/image_raw/compressed'}
    assert ('windshield/image/compressed', '/w/image_raw/compressed') in plan.remappings
    assert ('windshield/camera_info', '/w/camera_info') in plan.remappings


@pytest.mark.parametrize('name', ['engine', 'precision', 'tta'])
def test_given_values_become_parameters(bundle, name):
    assert plan_segment({'bundle': bundle, name: 'off'}, {}).parameters[name] == 'off'
    assert name not in plan_segment({'bundle': bundle, name: ''}, {}).parameters


def test_the_engine_cache_is_a_folder(bundle):
    given = {'bundle': bundle, 'engine_cache': '~/engines'}
    assert plan_segment(given, {}).parameters['engine_cache'] == str(Path.home() / 'engines')
    assert 'engine_cache' not in plan_segment({'bundle': bundle}, {}).parameters


def test_booleans_are_written_in_either_way(bundle):
    choices = {argument.name: argument.choices for argument in SEGMENT_ARGUMENTS}
    for text in ('True', 'true', 'False', 'false'):
        assert text in choices['rviz']  # launch itself refuses what is no choice
        plan = plan_segment({'bundle': bundle, 'rviz': text, 'use_sim_time': text}, {})
        assert bool(plan.rviz_arguments) is text.startswith(('t', 'T'))
        assert plan.parameters.get('use_sim_time', False) is text.startswith(('t', 'T'))


def test_build_only_is_a_parameter_when_it_is_true(bundle):
    given = {'bundle': bundle, 'build_only': 'true'}
    assert plan_segment(given, {}).parameters['build_only'] is True
    assert 'build_only' not in plan_segment({'bundle': bundle}, {}).parameters


def test_values_keep_their_type_on_the_command_line(bundle):
    given = {'bundle': bundle, 'tta': 'off', 'left': '', 'use_sim_time': 'True'}
    words = plan_segment(given, {}).node_arguments()
    assert words[:3] == ['--ros-args', '--params-file', f'{ROOT}/config/segment.param.yaml']
    assert words[3:] == [
        word
        for text in (
            'tta:="off"',  # a bare off would be a boolean
            'cameras:=["windshield"]',
            f'bundle:="{bundle}"',
            'use_sim_time:=true',
        )
        for word in ('-p', text, '-p', f'segmentation_node:{text}')
    ]


def test_the_parameter_file_decides_what_is_not_given(bundle, tmp_path):
    file = tmp_path / 'mine.yaml'
    content = {'cameras': ['front'], 'bundle': 'mine', 'transport': 'compressed'}
    file.write_text(yaml.safe_dump({'segmentation_node': {'ros__parameters': content}}))
    plan = plan_segment({'params_file': str(file)}, {})
    assert plan.params_file == file
    assert plan.parameters == {}
    plan = plan_segment({'params_file': str(file), 'left': '/l/image'}, {})
    assert plan.parameters == {'cameras': ['front', 'left']}
    assert plan.input_topics == {'left': '/l/image/compressed'}


@pytest.mark.parametrize(
    'keys',
    [
        ('/segmentation_node',),
        ('/robot1/segmentation_node',),
        ('/**/segmentation_node',),
        ('/**',),
        ('robot1', 'segmentation_node'),
        ('fleet', '/robot1/segmentation_node'),
    ],
    ids='.'.join,
)
def test_the_nodes_section_is_found_in_any_namespace(bundle, tmp_path, keys):
    content = {'ros__parameters': {'cameras': ['front']}}
    for key in reversed(keys):
        content = {key: content}
    content['camera_driver'] = {'ros__parameters': {'cameras': ['other']}}
    file = tmp_path / 'mine.yaml'
    file.write_text(yaml.safe_dump(content))
    plan = plan_segment({'params_file': str(file), 'bundle': bundle, 'rviz': 'true'}, {})
    assert 'cameras' not in plan.parameters
    plan = plan_segment({'params_file': str(file), 'bundle': bundle, 'left': '/l/image'}, {})
    assert plan.parameters['cameras'] == ['front', 'left']


@pytest.mark.parametrize('text', ['{}', '', 'other_node: {ros__parameters: {a: 1}}', 'a: 1'])
def test_a_file_without_a_section_is_passed_on(bundle, tmp_path, text):
    file = tmp_path / 'mine.yaml'
    file.write_text(text)
    plan = plan_segment({'params_file': str(file), 'bundle': bundle}, {})
    assert plan.params_file == file
    assert plan.parameters == {'bundle': bundle}


def test_rviz_sees_the_camera_under_the_nodes_name(bundle):
    plan = plan_segment({'bundle': bundle, 'rviz': 'true', 'left': '/l/image'}, {})
    assert plan.rviz_arguments[0] == '-d'
    assert plan.rviz_arguments[2:] == (
        *('--ros-args', '-p', 'use_sim_time:=false'),
        *('-r', 'left/image:=/l/image'),
        *('-r', 'left/image/compressed:=/l/image/compressed'),
        *('-r', 'left/camera_info:=/l/camera_info'),
    )


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'windshield': '', 'left': ''}, 'got no camera.*windshield:=TOPIC'),
        ({'windshield': 'a b'}, "windshield: got 'a b', expected a topic"),
        ({'windshield': '/w/compressed'}, 'with transport raw; fix: transport:=compressed'),
        ({'rviz': 'maybe'}, "rviz: got 'maybe', expected 'true', 'false', 'True', 'False'"),
        ({'cameras': 'rear'}, "cameras: got 'rear', expected NAME=TOPIC"),
        ({'cameras': 'left=/a'}, 'which have their own argument'),
        ({'cameras': 'a=/a,a=/b'}, 'each name once'),
        ({'params_file': '/nowhere.yaml'}, 'params_file: /nowhere.yaml: got .*No such file'),
        ({'bundle': '/nowhere'}, '/nowhere holds no manifest.yaml'),
        ({'enginee': 'auto'}, 'got argument enginee, expected one of bundle, windshield'),
    ],
)
def test_segment_errors_name_got_and_fix(bundle, given, message):
    with pytest.raises(LaunchError, match=message):
        plan_segment({'bundle': bundle, **given}, {})


def test_files_are_found_in_the_source_tree():
    assert share_folder() == ROOT


def test_arguments_are_documented_and_named_once():
    for arguments in (SEGMENT_ARGUMENTS, REPLAY_ARGUMENTS):
        names = [argument.name for argument in arguments]
        assert len(set(names)) == len(names)
        assert all(argument.description.endswith('.') for argument in arguments)
    interface = {'bundle', 'windshield', 'left', 'engine', 'precision', 'tta', 'rviz'}
    assert interface | {'params_file'} <= {argument.name for argument in SEGMENT_ARGUMENTS}
    assert {'bag', 'rate', 'rviz'} <= {argument.name for argument in REPLAY_ARGUMENTS}


def test_the_plan_imports_neither_launch_nor_ros():
    code = (
        'import sys, offroad_seg_ros.launch_plan; '
        'print([m for m in sys.modules if m.split(".")[0] in ("launch", "launch_ros", "rclpy")])'
    )
    printed = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
    )
    assert printed.stdout.strip() == '[]', printed.stderr
