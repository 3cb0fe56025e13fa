"""The main job in one command: a drive in, labels and overlays out, over real ROS 2.

    python -m offroad_seg_ros.demo --output demo_output [--bag PATH | --images FOLDER]

Plays a bag (by default one that it renders) through segmentation_node as a process of its own,
records what the node says, and shows and measures it. Everything runs in a ROS domain of its own
on this host only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import re
import signal
import sys
import time
from typing import Any

from tqdm import tqdm

from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.bags.unpacking import keeping_unpacked
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.places import local_path
from offroad_seg_ros.demo_evaluation import evaluate_replay
from offroad_seg_ros.demo_folder import result_folder, write_summary
from offroad_seg_ros.demo_inputs import (
    DemoInput,
    DriveOptions,
    describe,
    list_pictures,
    write_drive,
    write_pictures,
)
from offroad_seg_ros.demo_pictures import write_contact_sheet, write_video
from offroad_seg_ros.demo_process import DemoError, NodeProcess, isolated_environment
from offroad_seg_ros.demo_replay import Replay, open_replay
from offroad_seg_ros.demo_report import summarize, table
from offroad_seg_ros.installation import added_environment
from offroad_seg_ros.launch_plan import LaunchPlan, camera_arguments, plan_segment
from offroad_seg_ros.playback import PlayerOptions

EVALUATION = 'evaluation'
_NUM_STEPS = 5
_QUIET_PERIOD_S = 5.0
_LOG_LINE = re.compile(r'\[(\w+)\] \[[\d.]+\] \[[^]]*\]: (.*)')


def _say(text: str) -> None:
    tqdm.write(text)
    sys.stdout.flush()


class _Steps:
    """Numbered steps on the terminal, with the time each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        _say(f'[{len(self.seconds) + 1}/{_NUM_STEPS}] {text}')
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


@contextmanager
def _progress(text: str, total: int | None, unit: str) -> Iterator[Callable[[], object]]:
    """Show a bar with rate and remaining time; yields what to call after each unit."""
    interval = 0.1 if sys.stderr.isatty() else _QUIET_PERIOD_S
    with tqdm(
        total=total, desc=f'      {text}', unit=f' {unit}', ncols=88, mininterval=interval
    ) as bar:
        yield bar.update


def _make_input(given: argparse.Namespace, folder: Path) -> DemoInput:
    if given.bag:
        return describe(given.bag)
    bag = folder / 'drive'
    if given.images:
        with _progress('reading pictures', len(list_pictures(given.images)), 'picture') as tick:
            remarks = write_pictures(bag, given.images, tick)
        for remark in remarks:
            _say(f'      {remark}')
    else:
        options = DriveOptions(given.frames, size=given.size)
        with _progress('rendering', options.num_frames * len(options.cameras), 'frame') as tick:
            write_drive(bag, options, tick)
    return describe(bag)


def _count_frames(demo_input: DemoInput) -> int:
    topics = {camera.input_topic for camera in demo_input.cameras}
    with open_bag(demo_input.bag) as reader:
        return sum(c.msgcount for c in reader.connections if c.topic in topics)


def _say_line(line: str) -> None:
    """Show what the node says, without time and name."""
    match = _LOG_LINE.fullmatch(line)
    level, text = match.groups() if match else ('', line)
    _say(f'      node: {"" if level == "INFO" else level + " "}{text}')


def _segment(
    given: argparse.Namespace, demo_input: DemoInput, plan: LaunchPlan, folder: Path, steps: _Steps
) -> Replay:
    """Run the node on the input, and record its outputs."""
    process = NodeProcess(plan, folder / 'node.log', _say_line)
    with process:
        with open_replay(demo_input, folder / 'outputs') as replay:
            with steps.step('start_s', 'Start segmentation_node'):
                replay.wait_for_node(process)
            frames = None if given.duration else _count_frames(demo_input)
            options = PlayerOptions(duration_s=given.duration or float('inf'))
            with steps.step('replay_s', 'Replay at its own rate, /clock included, and record'):
                with _progress('playing', frames, 'frame') as tick:
                    replay.play(process, options, tick)
                replay.wait_for_last_frames()
        with steps.step('stop_s', 'Stop segmentation_node'):
            process.stop()
            _say('      ended cleanly, with code 0')
    if not any(times.num_received for times in replay.cameras.values()):
        raise DemoError(f'no frame came back; the end of the log:\n{process.tail()}')
    return replay


def _report(
    demo_input: DemoInput,
    replay: Replay,
    bundle: Bundle,
    folder: Path,
    duration_s: float | None,
) -> dict[str, Any]:
    """Write the report and the pictures, and return the figures."""
    outputs, taxonomy = folder / 'outputs', bundle.taxonomy
    result, sent = folder / EVALUATION, sum(t.num_sent for t in replay.cameras.values())
    with _progress('measuring', sent, 'frame') as tick:
        scores = evaluate_replay(demo_input, replay, bundle, outputs, result, duration_s, tick)
    summary = summarize(replay, bundle, scores)
    frames = sum(times.num_received for times in replay.cameras.values())
    with _progress('writing video', frames, 'frame') as tick:
        write_video(folder / 'overlay.mp4', demo_input, outputs, taxonomy, tick)
    stamps = {name: list(times.received_ns) for name, times in replay.cameras.items()}
    engine = summary['engine']
    title = f'{bundle.manifest.name} on {engine["engine"]} {engine["precision"]}'
    if summary['total']['miou'] is not None:
        title += f', mIoU {summary["total"]["miou"]:.3f}'
    write_contact_sheet(folder / 'contact_sheet.png', demo_input, outputs, taxonomy, stamps, title)
    return summary


def run(given: argparse.Namespace) -> Path:
    """Run the demo and return the result folder.

    Raises:
        ValueError: input, bundle or output folder cannot be used.
        DemoError: the node failed.
    """
    started, steps = time.monotonic(), _Steps()
    inputs = given.bag, given.images, given.bundle
    with keeping_unpacked(), result_folder(given.output, inputs) as folder:
        with steps.step('input_s', _input_text(given)):
            demo_input = _make_input(given, folder)
        arguments = camera_arguments(demo_input.cameras)
        arguments |= {'bundle': given.bundle, 'engine': given.engine, 'use_sim_time': 'true'}
        plan = plan_segment(arguments)
        bundle = Bundle.load(plan.parameters['bundle'])
        replay = _segment(given, demo_input, plan, folder, steps)
        with steps.step('report_s', 'Look at it'):
            summary = _report(demo_input, replay, bundle, folder, given.duration)
        summary['bag'] = str(given.bag or 'drive')
        summary['seconds'] = {**steps.seconds, 'total_s': round(time.monotonic() - started, 1)}
        figures = table(summary)
        (folder / 'report.md').write_text(_markdown(summary, figures), encoding='utf-8')
        write_summary(folder, summary)
    _say(f'\n{figures}\n{_remark(summary)}\n\nin {time.monotonic() - started:.0f} s made:')
    for path in sorted(given.output.iterdir()):
        _say(f'  {path}{"/" if path.is_dir() else ""}')
    _say(f'\nreport to click through:\n  {given.output / EVALUATION / "report" / "index.html"}')
    return given.output


def _input_text(given: argparse.Namespace) -> str:
    if given.bag:
        return f'Look for cameras in {given.bag}'
    if given.images:
        return f'Make a bag of the pictures in {given.images}'
    return f'Render a two-camera drive with exact labels, {given.frames} frames each, into a bag'


def _remark(summary: dict[str, Any]) -> str:
    engine = summary['engine']
    told = (
        f'{summary["bundle"]} on {engine["engine"]} {engine["engine_version"]} '
        f'{engine["precision"]}, {engine["cpu"]}, {engine["cpu_cores"]} cores. Latency: from '
        'sending a frame to receiving its mask, steady clock.'
    )
    replaced = sum(row['node'].get('dropped_busy', 0) for row in summary['cameras'].values())
    if replaced:
        told += f' The newest frame wins: {replaced} frames were replaced before their turn came.'
    reason = summary['no_miou_because']
    return f'{told} No mIoU: {reason}.' if reason else told


def _markdown(summary: dict[str, Any], figures: str) -> str:
    lines = ['# Demo', '', figures, '', _remark(summary), '']
    if summary['class_iou']:
        scored = {name: iou for name, iou in summary['class_iou'].items() if iou is not None}
        lines += ['| class | IoU |', '|---|---:|']
        lines += [f'| {name} | {iou:.3f} |' for name, iou in scored.items()] + ['']
    lines += ['![contact sheet](contact_sheet.png)', '', '[overlay video](overlay.mp4)', '']
    lines += [f'[report to click through]({EVALUATION}/report/index.html)', '']
    return '\n'.join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='demo', description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--bag', type=Path, help='play this bag instead of a rendered drive')
    source.add_argument('--images', type=Path, help='play the pictures of this folder')
    parser.add_argument('--output', type=local_path, default='demo_output', help='result folder')
    parser.add_argument('--bundle', default='', help='model bundle; default: the shipped one')
    parser.add_argument('--engine', default='auto', help='auto, onnxruntime, openvino, …')
    parser.add_argument('--duration', type=float, metavar='S', help='play only the first seconds')
    parser.add_argument('--frames', type=int, default=60, help='of each camera, rendered at 10 Hz')
    parser.add_argument('--size', type=_size, default=(544, 960), help='HEIGHTxWIDTH, rendered')
    return parser


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition('x')
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f'got {text!r}, expected HEIGHTxWIDTH such as 544x960')
    return int(height), int(width)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return 0, 1 with a reason, or 130 when it was interrupted."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    # Before anything joins ROS: Fast DDS reads its profile and its domain then.
    os.environ |= isolated_environment(os.environ, os.getpid())
    keep_freed_memory()  # before the variables for its processes look like the user's choice
    os.environ |= added_environment()
    try:
        run(given)
    except (ValueError, DemoError, OSError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('demo: interrupted; nothing is left behind', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
