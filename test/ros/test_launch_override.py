"""Launch arguments win over whatever a parameter file says, in a real node."""

import pytest
from rclpy.node import Node

from offroad_seg_ros.launch_arguments import LaunchError
from offroad_seg_ros.launch_plan import plan_segment

ANY, OWN = (
    f'{key}: {{{{ros__parameters: {{{{engine: {value}}}}}}}}}\n'
    for key, value in (('/**', 'auto'), ('{}', 'onnxruntime'))
)


@pytest.fixture
def plan(tmp_path):
    bundle = tmp_path / 'bundle'
    bundle.mkdir()
    (bundle / 'manifest.yaml').touch()

    def make(content, **given):
        file = tmp_path / 'mine.yaml'
        file.write_text(content)
        return plan_segment({'bundle': str(bundle), 'params_file': str(file), **given}, {})

    return make


def _engine(plan, namespace=''):
    node = Node(
        'segmentation_node',
        namespace=namespace,
        cli_args=plan.node_arguments(),
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        return node.get_parameter('engine').value
    finally:
        node.destroy_node()


@pytest.mark.parametrize('key', ['segmentation_node', '/segmentation_node', '/*'])
@pytest.mark.parametrize(
    'sections', [ANY + OWN, OWN + ANY, OWN, ANY], ids=['any own', 'own any', 'own', 'any']
)
def test_an_argument_wins_over_every_section(plan, sections, key):
    assert _engine(plan(sections.format(key), engine='openvino')) == 'openvino'


@pytest.mark.parametrize('key', ['/robot1/segmentation_node', '/**/segmentation_node'])
def test_in_a_namespace_an_argument_wins_or_is_refused(plan, key):
    for sections in (OWN, OWN + ANY):
        assert _engine(plan(sections.format(key), engine='openvino'), '/robot1') == 'openvino'
    with pytest.raises(LaunchError, match=r'got engine in the section .*segmentation_node.*fix: '):
        plan((ANY + OWN).format(key), engine='openvino')
    assert _engine(plan((ANY + OWN).format(key)), '/robot1') == 'onnxruntime'
