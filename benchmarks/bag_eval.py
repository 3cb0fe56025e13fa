"""Evaluation of bags: how much of what the cores allow, the share of metrics, flat memory, report.

    python benchmarks/bag_eval.py [--quick] [--json PATH]

The CPU time of a frame's steps (read, decode, engine, write, metrics) is measured alone, step by
step, before and after the same frames are evaluated as `evaluate_bag` does it; cores divided by
the sum of all but metrics is what is possible, so that metrics count as loss. Raw and JPEG
pictures, and raw ones in a bag of zstd chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice, product
import os
from pathlib import Path
import shutil
import statistics
import tempfile
import time
from typing import Any

import cv2
import psutil
from report import ROOT, arguments, finish, machine

from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.counting import FrameCounter
from offroad_seg_core.evaluation.drive_report.build import write_drive_report
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import TruthOptions, find_truth, open_frames
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.outputs.report_frames import ReportFrames
from offroad_seg_core.evaluation.outputs.sink import Labelled
from offroad_seg_core.evaluation.predictors import SegmenterPredictor, open_for_throughput
from offroad_seg_core.evaluation.sources.combining import LabelledFrames
from offroad_seg_core.evaluation.sources.frame import TARGET, UniqueNames
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.metrics.meter import MeterConfig
from offroad_seg_core.world import DEMO_SEED, Drive

SIZE = (544, 960)
PERIOD_NS = 100_000_000
METER = MeterConfig(boundary=None)


def write_bag(path: Path, num_frames: int, jpeg: bool, zstd: bool = False) -> Path:
    """Write frames of a procedural drive, over and over, with exact labels."""
    drive = Drive(DEMO_SEED, 4, 10.0, SIZE, ('windshield',))
    pictures = [drive.frame(index, 'windshield').frame for index in range(4)]
    with MessageBag(path, compressed=zstd) as bag:
        for index in range(num_frames):
            picture, time_ns = pictures[index % 4], index * PERIOD_NS + 1
            image = cv2.cvtColor(picture.image_rgb, cv2.COLOR_RGB2BGR)
            header = Header(time_ns, 'windshield')
            if jpeg:
                data = cv2.imencode('.jpg', image)[1].reshape(-1)
                bag.write_compressed('/windshield/image/compressed', time_ns, header, data, 'jpeg')
            else:
                bag.write_image('/windshield/image', time_ns, header, image, 'bgr8')
            truth = picture.label_map
            bag.write_image('/windshield/ground_truth/label_map', time_ns, header, truth, 'mono8')
    return path


def source_of(path: Path, predictor: SegmenterPredictor) -> LabelledFrames:
    """Return the bag's frames with their truth."""
    frames = open_frames(path)
    truth = find_truth(frames, predictor.taxonomy, TruthOptions())
    assert truth is not None
    return LabelledFrames(frames, {TARGET: truth})


def cpu_seconds(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the CPU time of all threads of a call of each, the median of several rounds."""
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for turn, (name, call) in product(range(repeats + 1), steps.items()):
        started = time.process_time()
        call()
        if turn:
            spent[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in spent.items()}


def read_seconds(path: Path) -> float:
    """Return the CPU time of reading the messages of a frame once."""
    with open_bag(path) as bag:
        messages = bag.messages(bag.connections)
        next(messages)
        num_read, started = 0, time.process_time()
        for _ in islice(messages, 200):
            num_read += 1
    return (time.process_time() - started) / num_read * len(bag.connections)


def step_seconds(
    path: Path, predictor: SegmenterPredictor, folder: Path, repeats: int
) -> dict[str, float]:
    """Return the CPU time of each step of one frame."""
    _, frame = next(source_of(path, predictor).frames(0, UniqueNames()))
    image, target = frame.load(), frame.maps[TARGET]()
    prediction = predictor.predict(frame, image, {})
    count = FrameCounter(predictor.taxonomy, predictor.cost_table, METER)
    row, _ = count(frame, image, prediction, target)
    labelled = Labelled(frame, image, prediction, target, row)
    sinks = (LabelFiles(), ReportFrames())
    for sink in sinks:
        sink.begin(folder, folder)
    steps: dict[str, Callable[[], Any]] = {
        'decode': lambda: (frame.load(), frame.maps[TARGET]()),
        'engine': lambda: predictor.predict(frame, image, {}),
        'write': lambda: [sink.prepare(labelled) for sink in sinks],
        'metrics': lambda: count(frame, image, prediction, target),
    }
    return {'read': read_seconds(path), **cpu_seconds(steps, repeats)}


def possible_per_s(spent: Mapping[str, float], cores: int) -> float:
    """Return the frames per second that cores would do if only what must be done took time.

    Args:
        spent: Step -> CPU seconds of a frame.
        cores: Number of them.
    """
    return cores / sum(spent[name] for name in spent if name != 'metrics')


class Memory:
    """Watches this process' memory while frames are completed."""

    def __init__(self, num_frames: int) -> None:
        self._total, self._done = num_frames, 0
        self._process = psutil.Process()
        self.early, self.late = 0, 0

    def __call__(self, count: int) -> None:
        """Note the peak of the first and of the last half, warm-up left out."""
        self._done += count
        resident = self._process.memory_info().rss
        if self._done > self._total // 2:
            self.late = max(self.late, resident)
        elif self._done > self._total // 10:
            self.early = max(self.early, resident)

    @property
    def growth(self) -> float:
        """The peak of the last half over that of the first, minus one."""
        return self.late / self.early - 1


def forget_peak() -> None:
    """Let the peak of this process' memory begin anew (Linux)."""
    Path('/proc/self/clear_refs').write_text('5')


def peak_mib() -> float:
    """Return the peak of memory since forget_peak: table and report included, MiB."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1024


def measure(
    name: str, path: Path, predictor: SegmenterPredictor, num_frames: int, repeats: int
) -> dict[str, Any]:
    """Return a row of the table."""
    folder = path.with_name(f'{path.name}_steps')
    before = step_seconds(path, predictor, folder, repeats)
    memory, output = Memory(num_frames), path.with_name(f'{path.name}_out')
    marks: list[float] = []

    def tick(count: int) -> None:
        memory(count)
        marks.append(time.perf_counter())

    sinks = (LabelFiles(), ReportFrames())
    forget_peak()
    evaluation = Evaluation(
        source_of(path, predictor), predictor, output, sinks=sinks, meter=METER
    )
    result = evaluate(evaluation, tick)
    skipped = len(marks) // 10
    speed = (len(marks) - 1 - skipped) / (marks[-1] - marks[skipped])
    started = time.perf_counter()
    write_drive_report([result], result / 'report')
    report_s = time.perf_counter() - started
    peak = peak_mib()
    # A shared machine is faster one minute and slower the next.
    after = step_seconds(path, predictor, folder, repeats)
    spent = {step: (seconds + after[step]) / 2 for step, seconds in before.items()}
    possible = possible_per_s(spent, machine()['cores'])
    return {
        'pictures': name,
        'frames': num_frames,
        **{f'{step} cpu ms': 1e3 * seconds for step, seconds in spent.items()},
        'possible per s': possible,
        'measured per s': speed,
        'vs possible': speed / possible,
        'metrics share': spent['metrics'] / sum(spent.values()),
        'rss growth': memory.growth,
        'report s': report_s,
        'peak MiB': peak,
    }


def main() -> None:
    """Measure raw and JPEG pictures, and a bag of zstd chunks."""
    options = arguments(__doc__)
    keep_freed_memory()
    num_frames, repeats = (150, 15) if options.quick else (10_000, 60)
    predictor = SegmenterPredictor(open_for_throughput(ROOT / 'models' / 'demo_desert'))
    home = Path(tempfile.mkdtemp())
    rows = []
    try:
        for name in ('raw', 'jpeg', 'zstd'):
            path = write_bag(home / name, num_frames, jpeg=name == 'jpeg', zstd=name == 'zstd')
            os.sync()  # a drive is evaluated long after it was recorded
            rows.append(measure(name, path, predictor, num_frames, repeats))
            shutil.rmtree(path)
    finally:
        shutil.rmtree(home)
        predictor.close()
    finish('bag_eval', options, rows, {
        'throughput_vs_possible': min(row['vs possible'] for row in rows),
        'metrics_share': max(row['metrics share'] for row in rows),
        'rss_growth': max(row['rss growth'] for row in rows),
        'report_s': max(row['report s'] for row in rows),
    })  # fmt: skip


if __name__ == '__main__':
    main()
