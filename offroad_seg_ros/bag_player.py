"""Play a bag over ROS at its own rate, with ``/clock``, without rosbag2 tools.

    ros2 run offroad_seg_ros bag_player drive --rate 0.5 --loop

Space pauses and goes on; so does the service ``~/pause`` (std_srvs/SetBool). With
``--player rosbag2`` it waits for the subscribers only and becomes ``ros2 bag play``, with the keys
and services of that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
import os
import select
import shutil
import signal
import sys
import termios
import threading
import tty

from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from offroad_seg_core.bags.camera_topics import find_cameras
from offroad_seg_core.bags.reading import BagError, open_bag
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_ros.launch_arguments import PLAYERS
from offroad_seg_ros.playback import BagPlayer, PlayerOptions
from offroad_seg_ros.spinning import spinning, tool_node


def _remap(text: str) -> tuple[str, str]:
    source, separator, target = text.partition(':=')
    if not (source and separator and target):
        raise argparse.ArgumentTypeError(f'got {text!r}, expected /recorded:=/published')
    return source, target


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='bag_player', description=__doc__.splitlines()[0])
    parser.add_argument('bag', help='rosbag2 folder, .mcap or .db3 file')
    parser.add_argument('--rate', type=float, default=1.0, help='bag seconds per second')
    parser.add_argument('--loop', action='store_true', help='start again at the end')
    parser.add_argument('--start-paused', action='store_true', help='wait for the space bar')
    parser.add_argument('--topics', nargs='+', default=(), metavar='TOPIC', help='only these')
    parser.add_argument(
        '--remap', nargs='+', type=_remap, default=(), metavar='/A:=/B', help='rename topics'
    )
    parser.add_argument('--duration', type=float, default=float('inf'), metavar='S')
    parser.add_argument('--clock', type=float, default=100.0, metavar='HZ', help='0: no /clock')
    parser.add_argument(
        '--wait-for-subscribers',
        type=float,
        default=0.0,
        metavar='S',
        help='start when the cameras have subscribers, after S seconds at the latest',
    )
    parser.add_argument(
        '--wait-for', nargs='+', metavar='TOPIC', help='wait for these; else: the camera topics'
    )
    parser.add_argument(
        '--player', choices=PLAYERS, default=PLAYERS[0], help='who plays; rosbag2: `ros2 bag play`'
    )
    return parser


def _without_ros_arguments(words: list[str]) -> tuple[list[str], list[str]]:
    """Return what is for this command and what is for ROS, which would take /a:=/b for its own."""
    at = words.index('--ros-args') if '--ros-args' in words else len(words)
    return words[:at] + remove_ros_args(words[at:]), words[at:]


def _rosbag2_command(given: argparse.Namespace) -> list[str]:
    """Return the command line that does the same with rosbag2 (Humble and newer)."""
    command = ['ros2', 'bag', 'play', given.bag, '--rate', f'{given.rate:g}']
    if given.clock:
        command += ['--clock', f'{given.clock:g}']
    if given.duration != float('inf'):
        command += ['--playback-duration', f'{given.duration:g}']
    flags = {'--loop': given.loop, '--start-paused': given.start_paused}
    command += [flag for flag, is_on in flags.items() if is_on]
    if given.topics:
        command += ['--topics', *given.topics]
    if given.remap:
        command += ['--remap', *(':='.join(pair) for pair in given.remap)]
    return command


def _without_clock(asked: Sequence[str], recorded: Collection[str]) -> list[str]:
    """Return the topics to ask for so that a recorded /clock is not played; empty: all."""
    if '/clock' not in (asked or recorded):
        return list(asked)
    return [topic for topic in asked or sorted(recorded) if topic != '/clock']


def _check_player(given: argparse.Namespace) -> None:
    if given.player == 'rosbag2' and not shutil.which('ros2'):
        fix = 'source ROS and install ros-<distro>-ros2bag, or leave --player (player:=) out'
        raise BagError(f'player: got rosbag2, expected the command ros2 on the PATH; fix: {fix}')


def _has_terminal() -> bool:
    """Return whether keys are for this process: a background job would be stopped for asking."""
    if not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # not the terminal that controls this process: nothing stops it
        return True


@contextmanager
def _on_space(act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` from a thread for each hit of the space bar, where there is a terminal."""
    if not _has_terminal():
        yield
        return
    settings, ended = termios.tcgetattr(sys.stdin), threading.Event()

    def read() -> None:
        while not ended.is_set():
            if select.select([sys.stdin], [], [], 0.1)[0] and sys.stdin.read(1) == ' ':
                act()

    tty.setcbreak(sys.stdin)
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)


def _serve_pause(node: Node, set_paused: Callable[[bool], None]) -> None:
    try:
        service_type = import_module('std_srvs.srv').SetBool
    except ImportError as error:
        node.get_logger().info(f'~/pause is off ({error}); fix: install ros-<distro>-std-srvs')
        return

    def answer(request: object, response: object) -> object:
        set_paused(request.data)
        response.success, response.message = True, 'paused' if request.data else 'playing'
        return response

    node.create_service(service_type, '~/pause', answer)


def _play(node: Node, given: argparse.Namespace, stopped: threading.Event) -> None:
    """Play, or wait for rosbag2's turn."""
    options = PlayerOptions(
        rate=given.rate,
        loop=given.loop,
        start_paused=given.start_paused,
        topics=tuple(given.topics),
        remaps=dict(given.remap),
        duration_s=given.duration,
        clock_hz=given.clock,
    )
    with ExitStack() as stack:
        bag = stack.enter_context(open_bag(given.bag))
        player = BagPlayer(node, bag, options)
        if given.clock:  # two sources of time would make it jump to and fro
            given.topics = _without_clock(given.topics, {c.topic for c in bag.connections})
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: (stopped.set(), player.stop()))
        if stopped.is_set():  # while the bag was opened
            return

        def set_paused(paused: bool) -> None:
            player.timer.paused = paused
            node.get_logger().info('paused' if paused else 'playing')

        if given.player == 'own':
            _serve_pause(node, set_paused)
            stack.enter_context(_on_space(lambda: set_paused(not player.timer.paused)))
        stack.enter_context(spinning(node))
        seconds = (player.end_ns - player.start_ns) / 1e9
        node.get_logger().info(
            f'{given.bag}: {seconds:.1f} s at rate {given.rate:g}, {", ".join(player.topics)}'
        )
        if given.wait_for_subscribers:
            cameras = [camera.input_topic for camera in find_cameras(player.topics)]
            awaited = given.wait_for or cameras
            for topic in player.wait_for_subscribers(awaited, given.wait_for_subscribers):
                lack = 'has no subscriber' if topic in player.topics else 'is not played'
                node.get_logger().warning(f'{topic} {lack}; playing all the same')
        if given.player == 'own':
            player.play()
            node.get_logger().info(f'{player.num_published} messages played')


def main(args: list[str] | None = None) -> int:
    """Play a bag; return 0 at its end or when interrupted, 1 for a bag that cannot be played.

    With rosbag2 it does not return: the process becomes ``ros2 bag play``.
    """
    keep_freed_memory()
    words, ros_arguments = _without_ros_arguments((args or sys.argv)[1:])
    given = _parser().parse_args(words)
    with tool_node('bag_player', ros_arguments) as (node, stopped):
        try:
            _check_player(given)
            _play(node, given, stopped)
        except (BagError, OSError) as error:
            node.get_logger().error(str(error))
            return 1
    if given.player == 'rosbag2' and not stopped.is_set():
        command = _rosbag2_command(given)
        print(' '.join(command), flush=True)
        os.execvp(command[0], command)
    return 0


if __name__ == '__main__':
    sys.exit(main())
