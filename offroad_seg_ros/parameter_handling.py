"""Parameters between ROS and params.py: declaring, reading, accepting or refusing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from offroad_seg_ros.params import CameraParams, NodeParams, ParameterError, Spec, specs

_ROS_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    tuple: Parameter.Type.STRING_ARRAY,
}


class ParameterHandling:
    """Owns the parameters of a node.

    A value given at start that cannot be used does not end the node: reading the parameters
    (the configure transition) fails with the reason until the parameter is set to a good value.
    """

    def __init__(
        self,
        node: Node,
        is_configured: Callable[[], bool],
        check: Callable[[NodeParams], None],
        apply: Callable[[NodeParams], None],
    ) -> None:
        """Declare everything.

        Args:
            node: whose parameters these are.
            is_configured: whether structural parameters are fixed now.
            check: raises ValueError if the node cannot take these run-time parameters.
            apply: takes accepted run-time parameters.
        """
        self._node = node
        self._is_configured = is_configured
        self._check = check
        self._apply = apply
        self._problems: dict[str, str] = {}
        self._is_declaring = False
        for name, spec in specs(NodeParams).items():
            self._declare(name, spec)
        self._declare_views(self._value('cameras'))
        node.add_on_set_parameters_callback(self._on_set)
        self._has_post_set = hasattr(node, 'add_post_set_parameters_callback')
        if self._has_post_set:
            node.add_post_set_parameters_callback(self._on_changed)

    def read(self) -> NodeParams:
        """Return all parameters; ParameterError names those that have no usable value."""
        if self._problems:
            raise ParameterError('\n'.join(self._problems.values()))
        return self._build({})

    def _build(self, changes: dict[str, Any]) -> NodeParams:
        values = {name: self._value(name, changes) for name in specs(NodeParams)}
        views = {
            camera: CameraParams(
                **{
                    name: self._value(f'{camera}.{name}', changes, spec.default)
                    for name, spec in specs(CameraParams).items()
                }
            )
            for camera in values['cameras']
        }
        return NodeParams(**values, views=views)

    def _value(self, name: str, changes: dict[str, Any] | None = None, default: Any = None) -> Any:
        if changes and name in changes:
            value = changes[name]
        elif self._node.has_parameter(name):
            value = self._node.get_parameter(name).value
        else:
            return default
        # [''] is how a command line writes an empty list of texts.
        is_list = isinstance(value, list | tuple)
        return tuple(entry for entry in value if entry) if is_list else value

    def _declare(self, name: str, spec: Spec) -> None:
        self._is_declaring = True
        try:
            self._declare_checked(name, spec)
        finally:
            self._is_declaring = False

    def _declare_checked(self, name: str, spec: Spec) -> None:
        value = spec.default
        given = self._given_at_start(name)
        if given is not None:
            try:
                value = spec.convert(name, given)
                _check_alone(name, spec, value)
            except ParameterError as error:
                self._problems[name] = str(error)
                value = spec.default
        # Declared by type, then set: rclpy guesses the type of an empty list wrongly.
        ros_type = _ROS_TYPES[spec.type]
        ros_value = list(value) if isinstance(value, tuple) else value
        self._node.declare_parameter(name, ros_type, _descriptor(spec), ignore_override=True)
        self._node.set_parameters([Parameter(name, ros_type, ros_value)])

    def _given_at_start(self, name: str) -> Any:
        # The typed declaration raises on a wrong type without telling the value, so look first.
        any_type = ParameterDescriptor(dynamic_typing=True)
        value = self._node.declare_parameter(name, None, any_type).value
        self._node.undeclare_parameter(name)
        return value

    def _declare_views(self, cameras: tuple[str, ...]) -> None:
        for camera in cameras:
            for field_name, spec in specs(CameraParams).items():
                name = f'{camera}.{field_name}'
                if not self._node.has_parameter(name):
                    self._declare(name, spec)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        if self._is_declaring:
            return SetParametersResult(successful=True)
        changes = {parameter.name: parameter.value for parameter in parameters}
        try:
            self._refuse_structural(changes)
            for name in changes:
                spec = _spec_of(name)
                if spec is not None:
                    _check_alone(name, spec, self._value(name, changes))
            candidate = self._build(changes)
            self._check(candidate)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if not self._has_post_set:  # Humble
            self._accept(candidate, changes)
        return SetParametersResult(successful=True)

    def _on_changed(self, parameters: list[Parameter]) -> None:
        if self._is_declaring:
            return
        changes = {parameter.name: parameter.value for parameter in parameters}
        self._accept(self._build(changes), changes)

    def _accept(self, params: NodeParams, changes: dict[str, Any]) -> None:
        for name in changes:
            self._problems.pop(name, None)
        if self._is_configured():
            self._apply(params)
        elif 'cameras' in changes:
            self._declare_views(params.cameras)

    def _refuse_structural(self, changes: dict[str, Any]) -> None:
        if not self._is_configured():
            return
        for name, value in changes.items():
            spec = _spec_of(name)
            if spec and spec.structural and value != self._node.get_parameter(name).value:
                raise ParameterError(
                    f'parameter {name}: got {value!r} while the node is configured, expected a '
                    'change while it is unconfigured; fix: deactivate and clean up the node, set '
                    'it, then configure and activate'
                )


def _spec_of(name: str) -> Spec | None:
    if '.' in name:
        return specs(CameraParams).get(name.rpartition('.')[2])
    return specs(NodeParams).get(name)


def _check_alone(name: str, spec: Spec, value: Any) -> None:
    """Check one parameter's value, the others being default."""
    spec.check(name, value)
    if name in specs(NodeParams):
        NodeParams(**{name: value})


def _descriptor(spec: Spec) -> ParameterDescriptor:
    notes = []
    if spec.choices:
        notes.append('one of ' + ', '.join(map(str, spec.choices)))
    if spec.structural:
        notes.append('writable while the node is unconfigured')
    descriptor = ParameterDescriptor(
        type=_ROS_TYPES[spec.type].value,
        description=spec.description,
        additional_constraints='; '.join(notes),
    )
    if spec.low is not None and spec.type is float:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=spec.low, to_value=spec.high)
        ]
    elif spec.low is not None:
        descriptor.integer_range = [IntegerRange(from_value=spec.low, to_value=spec.high, step=1)]
    return descriptor
