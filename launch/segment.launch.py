"""Segment camera images: ros2 launch offroad_seg_ros segment.launch.py windshield:=TOPIC ..."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from offroad_seg_ros.launch_arguments import SEGMENT_ARGUMENTS
from offroad_seg_ros.launch_plan import NODE, plan_segment


def start(context: LaunchContext) -> list:
    given = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in SEGMENT_ARGUMENTS
    }
    plan = plan_segment(given, context.environment)
    actions = [
        Node(
            package='offroad_seg_ros',
            executable=NODE,
            name=NODE,
            output='screen',
            arguments=plan.node_arguments(),
            additional_env=dict(plan.environment),
        )
    ]
    if plan.rviz_arguments:
        actions.append(
            Node(
                package='rviz2',
                executable='rviz2',
                arguments=list(plan.rviz_arguments),
                additional_env=dict(plan.environment),
            )
        )
    return actions


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in SEGMENT_ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
