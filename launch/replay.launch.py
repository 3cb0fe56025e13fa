"""Play a bag through the node: ros2 launch offroad_seg_ros replay.launch.py bag:=PATH ..."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from offroad_seg_ros.launch_arguments import REPLAY_ARGUMENTS
from offroad_seg_ros.launch_plan import NODE, plan_replay


def start(context: LaunchContext) -> list:
    given = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in REPLAY_ARGUMENTS
    }
    plan = plan_replay(given, context.environment)
    environment = dict(plan.environment)
    actions = [
        Node(
            package='offroad_seg_ros',
            executable=NODE,
            name=NODE,
            output='screen',
            arguments=plan.node_arguments(),
            additional_env=environment,
        ),
        Node(
            package='offroad_seg_ros',
            executable='bag_player',
            output='screen',
            arguments=list(plan.player_arguments),
            additional_env=environment,
        ),
    ]
    if plan.recorder_arguments:
        actions.append(
            Node(
                package='offroad_seg_ros',
                executable='latency_recorder',
                output='screen',
                arguments=list(plan.recorder_arguments),
                additional_env=environment,
            )
        )
    if plan.rviz_arguments:
        actions.append(
            Node(
                package='rviz2',
                executable='rviz2',
                arguments=list(plan.rviz_arguments),
                additional_env=environment,
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
        for argument in REPLAY_ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
