"""One source of defaults, declared with type and range; changes are checked as a whole."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest
from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter
import yaml

from offroad_seg_ros.params import (
    CameraParams,
    NodeParams,
    ParameterError,
    parse_output_size,
    specs,
)

ROOT = Path(__file__).parents[2]
FILE = ROOT / 'config' / 'segment.param.yaml'


def test_the_file_holds_exactly_the_defaults():
    content = yaml.safe_load(FILE.read_text())['/**']['ros__parameters']
    defaults = {
        name: list(spec.default) if spec.type is tuple else spec.default
        for name, spec in specs(NodeParams).items()
    }
    view = {name: spec.default for name, spec in specs(CameraParams).items()}
    expected = defaults | dict.fromkeys(NodeParams().cameras, view)
    assert content == expected
    for name, value in defaults.items():
        assert type(content[name]) is type(value), name


def test_the_file_is_accepted_by_a_node(start_node, palette_bundle, ros):
    import rclpy

    from offroad_seg_ros.segmentation_node import SegmentationNode

    context = rclpy.Context()
    rclpy.init(args=['--ros-args', '--params-file', str(FILE)], context=context)
    node = SegmentationNode(context=context)
    try:
        params = node._parameter_handling.read()
        assert params == NodeParams(views={'windshield': CameraParams(), 'left': CameraParams()})
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_each_parameter_is_declared_with_type_description_and_range(start_node):
    node = start_node(autostart=False).node
    types = {
        bool: ParameterType.PARAMETER_BOOL,
        int: ParameterType.PARAMETER_INTEGER,
        float: ParameterType.PARAMETER_DOUBLE,
        str: ParameterType.PARAMETER_STRING,
        tuple: ParameterType.PARAMETER_STRING_ARRAY,
    }
    views = {f'windshield.{name}': spec for name, spec in specs(CameraParams).items()}
    for name, spec in (specs(NodeParams) | views).items():
        descriptor = node.describe_parameter(name)
        assert descriptor.type == types[spec.type], name
        assert len(descriptor.description) > 15, name
        assert not descriptor.read_only
        if spec.type is float:
            (bounds,) = descriptor.floating_point_range
            assert (bounds.from_value, bounds.to_value) == (spec.low, spec.high)
        for choice in spec.choices:
            assert str(choice) in descriptor.additional_constraints


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('bundle', '/elsewhere'),
        ('cameras', ['left']),
        ('engine', 'openvino'),
        ('precision', 'fp32'),
        ('num_threads', 2),
        ('output_size', 'engine'),
        ('transport', 'compressed'),
        ('input_reliability', 'reliable'),
        ('cost_overrides_file', '/costs.yaml'),
        ('windshield.rotation_deg', 90),
    ],
)
def test_structural_parameters_change_only_while_unconfigured(start_node, name, value):
    node = start_node()
    result = node.set(name, value)
    assert not result.successful
    assert f'parameter {name}: got' in result.reason
    assert 'fix: deactivate and clean up' in result.reason
    node.run(node.node.trigger_deactivate)
    assert not node.set(name, value).successful
    node.run(node.node.trigger_cleanup)
    assert node.set(name, value).successful


def test_setting_a_structural_parameter_to_what_it_is_passes(start_node):
    node = start_node()
    assert node.set('cameras', ['windshield']).successful
    assert node.set('engine', 'onnxruntime').successful


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('tta', 'twice', "got 'twice', expected one of off, flip"),
        ('age_source', 'now', 'expected one of receipt, stamp'),
        ('absent_classes', ['Cactus'], 'Cactus'),
        ('overlay_alpha', 1.1, 'out of range'),
        ('confidence_threshold', -0.1, 'out of range'),
        ('deadline_ms', 0.0, 'out of range'),
        ('input_timeout_s', 0.0, 'out of range'),
        ('max_age_ms', 'old', 'Wrong parameter type'),
    ],
)
def test_a_bad_change_is_refused_and_changes_nothing(start_node, name, value, reason):
    node = start_node()
    before = node.node._pipeline.params
    result = node.set(name, value)
    assert not result.successful
    assert reason in result.reason
    assert node.node._pipeline.params is before
    assert node.run(node.node._parameter_handling.read) == before


def test_changes_are_taken_together_or_not_at_all(start_node):
    node = start_node()
    changes = [Parameter('tta', value='flip'), Parameter('absent_classes', value=['Cactus'])]
    result = node.run(lambda: node.node.set_parameters_atomically(changes))
    assert not result.successful
    assert node.node._pipeline.segmenter.options.tta == 'off'


@pytest.mark.parametrize('has_post_set', [True, False], ids=['jazzy', 'humble'])
def test_changes_at_run_time_reach_the_next_frame(
    start_node, probe, halves, frame, pixels_of, taxonomy, monkeypatch, has_post_set
):
    if not has_post_set:
        # Humble's rclpy has no callbacks after a parameter was set.
        monkeypatch.delattr(Node, 'add_post_set_parameters_callback')
    node = start_node()
    probe.listen('mask')
    driver = probe.driver()
    message = frame(halves(2, 7))
    assert (pixels_of(probe.send(driver, message))[:, :96] == 2).all()
    assert node.set('absent_classes', ['Dry Grass']).successful
    mask = pixels_of(probe.send(driver, message))
    assert (mask[:, :96] != 2).all()
    assert (mask[:, 96:] == 7).all()
    assert node.set('absent_classes', ['']).successful
    assert (pixels_of(probe.send(driver, message))[:, :96] == 2).all()
    assert node.set('tta', 'flip').successful
    probe.send(driver, message)
    values = probe.wait_value('windshield', 'passes', lambda passes: passes == '2')
    assert values['level'] == 0
    assert node.set('tta', 'off').successful
    # Half way between two classes' colours nothing is sure.
    unsure = halves(2, 7)
    unsure[:, :96] = (taxonomy.palette_bgr[2].astype(int) + taxonomy.palette_bgr[8]) // 2
    assert (pixels_of(probe.send(driver, frame(unsure)))[64, :90] != 255).all()
    assert node.set('confidence_threshold', 0.9).successful
    mask = pixels_of(probe.send(driver, frame(unsure)))
    assert (mask[:, :90] == 255).all()
    assert (mask[:, 102:] == 7).all()


def test_views_of_a_new_camera_are_declared_with_it(start_node):
    node = start_node(autostart=False)
    assert not node.node.has_parameter('rear.rotation_deg')
    assert node.set('cameras', ['rear']).successful
    assert node.set('rear.rotation_deg', 180).successful
    result = node.set('rear.rotation_deg', 45)
    assert 'rear.rotation_deg: got 45, expected one of 0, 90, 180, 270' in result.reason
    assert node.run(node.node._parameter_handling.read).views['rear'].rotation_deg == 180


def test_whole_numbers_do_for_measures(start_node):
    node = start_node(deadline_ms=50, max_age_ms=0)
    assert node.is_active
    assert node.node._pipeline.params.deadline_ms == 50.0


@pytest.mark.parametrize(
    ('cameras', 'message'),
    [
        ((), 'at least one name'),
        (('a', 'b', 'a'), 'give a once'),
        (('1st',), "'1st', expected a valid part of a topic name"),
        (('a/b',), 'valid part'),
        (('a__b',), 'valid part'),
        (('tta',), 'no name of a parameter'),
    ],
)
def test_camera_names(cameras, message):
    with pytest.raises(ParameterError, match=message):
        NodeParams(cameras=cameras)


@given(st.integers(1, 16384), st.integers(1, 16384))
def test_output_sizes(height, width):
    assert parse_output_size(f'{height}x{width}') == (height, width)


@pytest.mark.parametrize('text', ['', 'x', '0x5', '5x', '-1x5', '5X5', '5x5 ', '1e3x4', 'Camera'])
def test_bad_output_sizes(text):
    with pytest.raises(ParameterError, match='HEIGHTxWIDTH'):
        parse_output_size(text)


def test_an_output_size_that_would_take_gigabytes():
    with pytest.raises(ParameterError, match="got '20000x9', expected sides of at most 16384 px"):
        parse_output_size('20000x9')


@pytest.mark.parametrize(
    ('name', 'value'),
    [('tta', 'flip'), ('absent_classes', ['Sky']), ('confidence_threshold', 0.5)],
)
def test_what_a_bundle_of_labels_cannot_do_is_refused(start_node, name, value):
    node = start_node()
    segmenter = node.node._pipeline.segmenter
    bundle = segmenter.bundle
    outputs = bundle.manifest.outputs.model_copy(update={'kind': 'labels'})
    manifest = bundle.manifest.model_copy(update={'outputs': outputs})
    segmenter.bundle = replace(bundle, manifest=manifest)
    before = node.node.get_parameter(name).value
    result = node.set(name, value)
    assert not result.successful
    assert 'a bundle that outputs logits' in result.reason
    assert node.node.get_parameter(name).value == before
