"""Record how long labels take: from the arrival of a camera's frame to that of its labels.

    ros2 run offroad_seg_ros latency_recorder latencies --cameras windshield=/windshield/image_raw

Both arrive here, so one steady clock measures them, whatever time the bag says and however fast it
plays. Ends with Ctrl-C, or when nobody publishes frames any more, and writes frames.csv (a line
a frame, which evaluate_bag --latencies reads) and latencies.json (frames, labelled ones, and the
percentiles of each camera).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
import csv
from dataclasses import dataclass, field
from functools import partial
import json
from pathlib import Path
import sys
import time
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.utilities import remove_ros_args

from offroad_seg_core.bags.definitions import header_stamp_ns
from offroad_seg_core.evaluation.latencies import COLUMNS, FRAMES
from offroad_seg_core.files import atomic_path
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.places import local_path
from offroad_seg_ros.bag_qos import subscribing_qos
from offroad_seg_ros.message_types import message_class
from offroad_seg_ros.spinning import spinning, tool_node

SUMMARY = 'latencies.json'
PERCENTILES = (50, 95, 99)
_WATCH_PERIOD_S = 0.05
_LAST_LABELS_S = 2.0
"""Labels are waited for so long after the last publisher of frames has gone."""


@dataclass
class CameraLatencies:
    """The frames of one camera in the order of their arrival.

    Attributes:
        stamps_ns: Of the frames; a bag that is played in a loop repeats them.
        latencies_ms: Of each frame; None while it has no labels.
        num_strangers: Labels whose frame did not arrive here, or had its labels before.
    """

    stamps_ns: list[int] = field(default_factory=list)
    latencies_ms: list[float | None] = field(default_factory=list)
    num_strangers: int = 0
    _waiting: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add_frame(self, stamp_ns: int, arrived_ns: int) -> None:
        """Note a frame; times of arrival are of a steady clock."""
        self._waiting[stamp_ns] = len(self.stamps_ns), arrived_ns
        self.stamps_ns.append(stamp_ns)
        self.latencies_ms.append(None)

    def add_labels(self, stamp_ns: int, arrived_ns: int) -> None:
        """Note the labels of a frame."""
        place, frame_ns = self._waiting.pop(stamp_ns, (None, 0))
        if place is None:
            self.num_strangers += 1
        else:
            self.latencies_ms[place] = (arrived_ns - frame_ns) / 1e6

    def summary(self) -> dict[str, Any]:
        """Return numbers of frames, and percentiles in ms (None without any labels)."""
        known = [value for value in self.latencies_ms if value is not None]
        values = np.percentile(known, PERCENTILES) if known else [None] * len(PERCENTILES)
        return {
            'num_frames': len(self.stamps_ns),
            'num_labelled': len(known),
            'num_strangers': self.num_strangers,
            **{
                f'p{percent}_ms': None if value is None else round(float(value), 3)
                for percent, value in zip(PERCENTILES, values, strict=True)
            },
        }


class LatencyRecorder:
    """Subscribe to frames and labels, and note when each arrives. Somebody spins the node.

    Frames are subscribed to after the labels have a publisher and the frames a subscriber: a
    player that waits for subscribers would take this one for the node that labels.

    Args:
        node: What the subscriptions belong to.
        cameras: Name -> topic of its frames.
    """

    def __init__(self, node: Node, cameras: Mapping[str, str]) -> None:
        self.cameras = {name: CameraLatencies() for name in cameras}
        self._node = node
        self._frames = {name: node.resolve_topic_name(topic) for name, topic in cameras.items()}
        self._is_recorded: set[str] = set()
        self._seen_s: float | None = None
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_WATCH_PERIOD_S, self._watch, clock=steady)

    @property
    def is_over(self) -> bool:
        """Whether there were publishers of frames, and have been none for a while."""
        return self._seen_s is not None and time.monotonic() > self._seen_s + _LAST_LABELS_S

    def _watch(self) -> None:
        for name, frames in self._frames.items():
            if name in self._is_recorded:
                if self._node.count_publishers(frames):
                    self._seen_s = time.monotonic()
                continue
            labels = self._node.resolve_topic_name(f'{name}/segmentation/mask')
            publishers = {
                topic: self._node.get_publishers_info_by_topic(topic) for topic in (labels, frames)
            }
            if all(publishers.values()) and self._node.count_subscribers(frames):
                entry = self.cameras[name]
                # In this order: of what arrived while others worked, frames are served first.
                self._subscribe(frames, publishers[frames], entry.add_frame)
                self._subscribe(labels, publishers[labels], entry.add_labels)
                self._is_recorded.add(name)

    def _subscribe(
        self, topic: str, publishers: list[TopicEndpointInfo], note: Callable[[int, int], None]
    ) -> None:
        self._node.create_subscription(
            message_class(publishers[0].topic_type),
            topic,
            partial(_receive, note),
            subscribing_qos(publishers),
            raw=True,
        )


def _receive(note: Callable[[int, int], None], data: bytes) -> None:
    note(header_stamp_ns(data), time.monotonic_ns())


def write_latencies(folder: Path, cameras: Mapping[str, CameraLatencies]) -> dict[str, Any]:
    """Write frames.csv and latencies.json; return the summary of each camera."""
    summary = {name: entry.summary() for name, entry in cameras.items()}
    with (
        atomic_path(folder / FRAMES) as path,
        open(path, 'w', newline='', encoding='utf-8') as stream,
    ):
        writer = csv.writer(stream, lineterminator='\n')
        writer.writerow(COLUMNS)
        for name, entry in cameras.items():
            for stamp_ns, latency in zip(entry.stamps_ns, entry.latencies_ms, strict=True):
                writer.writerow([name, stamp_ns, '' if latency is None else f'{latency:.3f}'])
    with atomic_path(folder / SUMMARY) as path:
        path.write_text(json.dumps({'cameras': summary}, indent=1) + '\n', encoding='utf-8')
    return summary


def _camera(text: str) -> tuple[str, str]:
    name, separator, topic = text.partition('=')
    if not (name and separator and topic):
        raise argparse.ArgumentTypeError(f'got {text!r}, expected NAME=TOPIC')
    return name, topic


def main(args: list[str] | None = None) -> int:
    """Record until interrupted or until the frames end; return 0, or 1 for a bad folder."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(prog='latency_recorder', description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=local_path, help='where to write the files')
    parser.add_argument('--cameras', nargs='+', type=_camera, required=True, metavar='NAME=TOPIC')
    given = parser.parse_args(remove_ros_args(args or sys.argv)[1:])
    with tool_node('latency_recorder', args) as (node, stopped):
        try:
            given.folder.mkdir(parents=True, exist_ok=True)
            recorder = LatencyRecorder(node, dict(given.cameras))
            with spinning(node) as ended:
                while not (stopped.wait(0.1) or ended.is_set() or recorder.is_over):
                    pass
            for name, found in write_latencies(given.folder, recorder.cameras).items():
                figures = ', '.join(f'p{p} {found[f"p{p}_ms"]} ms' for p in PERCENTILES)
                counts = f'{found["num_labelled"]} of {found["num_frames"]} frames labelled'
                node.get_logger().info(f'{name}: {counts}, {figures}')
            node.get_logger().info(f'every frame: {given.folder / FRAMES}')
        except OSError as error:
            node.get_logger().error(f'{error}; fix: give a folder that can be written')
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
