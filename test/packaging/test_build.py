"""The package builds with colcon and with pip, and what is installed starts."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    """A copy of the tracked files, so that no build touches the work tree."""
    listed = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard', '-z'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip('not a git checkout')
    target = tmp_path_factory.mktemp('sources') / 'offroad_seg'
    for name in filter(None, listed.stdout.split('\0')):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return target


def run(*command, cwd, **extra):
    environment = {**os.environ, **extra}
    environment.pop('PYTHONPATH', None)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module', params=[(), ('--symlink-install',)], ids=['copy', 'symlink'])
def installed(request, sources, tmp_path_factory):
    """The install prefix of a colcon build."""
    pytest.importorskip('colcon_core', reason='colcon is not installed')
    base = tmp_path_factory.mktemp('colcon')
    run(
        sys.executable, '-m', 'colcon', '--log-base', str(base / 'log'), 'build',
        '--build-base', str(base / 'build'), '--install-base', str(base / 'install'),
        *request.param, cwd=sources,
    )  # fmt: skip
    return base / 'install' / 'offroad_seg_ros'


def test_colcon_sees_an_ament_python_package(sources):
    pytest.importorskip('colcon_core', reason='colcon is not installed')
    listed = run(sys.executable, '-m', 'colcon', '--log-base', '/dev/null', 'list', cwd=sources)
    assert listed.split() == ['offroad_seg_ros', '.', '(ros.ament_python)']


def test_everything_is_installed(installed):
    share = installed / 'share' / 'offroad_seg_ros'
    for name in (
        'package.xml',
        'launch/segment.launch.py',
        'launch/replay.launch.py',
        'config/segment.param.yaml',
        'config/fastdds_shm.xml',
        'config/rviz/segmentation.rviz',
        'models/demo_desert/manifest.yaml',
    ):
        assert (share / name).is_file(), name
    index = installed / 'share/ament_index/resource_index/packages/offroad_seg_ros'
    assert index.is_file()


def test_the_installed_node_imports_its_engine(installed):
    # `ros2 run` starts the script with the Python that colcon ran with; the engine comes from
    # that Python's environment.
    script = installed / 'lib' / 'offroad_seg_ros' / 'segmentation_node'
    assert os.access(script, os.X_OK)
    python = script.read_text().splitlines()[0].removeprefix('#!')
    code = (
        'from offroad_seg_core.inference.segmenter import Segmenter\n'
        'from offroad_seg_core.taxonomy import load_taxonomy\n'
        'import offroad_seg_ros.segmentation_node, pathlib\n'
        "bundle = pathlib.Path('share/offroad_seg_ros/models/demo_desert')\n"
        "print(Segmenter.open(bundle, 'onnxruntime').engine.info)\n"
        "print(load_taxonomy('goose64').num_classes)\n"
    )
    shell = f'. {installed.parent}/local_setup.sh && {python} -c "$CODE"'
    printed = run('sh', '-c', shell, cwd=installed, CODE=code)
    assert 'onnxruntime' in printed
    assert printed.split()[-1] == '64'


def test_pip_install_editable(sources, tmp_path):
    target = tmp_path / 'venv'
    run(sys.executable, '-m', 'venv', '--without-pip', str(target), cwd=tmp_path)
    site = next((target / 'lib').glob('python*')) / 'site-packages'
    (site / 'outer.pth').write_text('\n'.join(p for p in sys.path if 'site-packages' in p))
    python = target / 'bin' / 'python'
    run(
        python, '-m', 'pip', 'install', '-q', '--no-deps', '--no-build-isolation',
        '-e', str(sources), cwd=tmp_path,
    )  # fmt: skip
    assert (target / 'bin' / 'segmentation_node').is_file()
    code = 'import offroad_seg_core, offroad_seg_ros; print(offroad_seg_core.__file__)'
    assert str(sources) in run(python, '-c', code, cwd=tmp_path)
