"""Who may import whom, and that the robot needs neither ROS nor torch to segment."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]
ROS = {'rclpy', 'cv_bridge', 'sensor_msgs', 'std_msgs', 'diagnostic_msgs', 'launch', 'launch_ros'}
FORBIDDEN = {
    'offroad_seg_core': ROS | {'offroad_seg_ros'},
    'offroad_seg_core/inference': {
        f'offroad_seg_core.{name}'
        for name in ('training', 'losses', 'datasets', 'distillation', 'evaluation')
    },
    'offroad_seg_core/models': {
        f'offroad_seg_core.{name}' for name in ('training', 'losses', 'datasets', 'inference')
    },
    'training': ROS | {'offroad_seg_ros'},
}


def imported(file):
    """Yield every module that a file imports, at any depth."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize('folder', FORBIDDEN)
def test_nothing_is_imported_against_the_layers(folder):
    wrong = [
        f'{file.relative_to(ROOT)} imports {module}'
        for file in (ROOT / folder).rglob('*.py')
        for module in imported(file)
        for banned in FORBIDDEN[folder]
        if module == banned or module.startswith(f'{banned}.')
    ]
    assert not wrong


def test_inference_loads_no_heavy_library():
    code = (
        'import sys\n'
        'import offroad_seg_core.inference.segmenter, offroad_seg_core.visualization\n'
        'import offroad_seg_core.world\n'
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'albumentations', 'av', 'rclpy'}\n"
        'print(sorted(heavy & set(sys.modules)))\n'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == '[]', result.stderr


def test_the_core_package_itself_imports_nothing():
    assert list(imported(ROOT / 'offroad_seg_core' / '__init__.py')) == []
