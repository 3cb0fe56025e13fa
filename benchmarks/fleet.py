"""Evaluation on a Ray cluster of this machine: throughput against one process, cost of merging.

    python benchmarks/fleet.py [--quick] [--json PATH]

The same bags are evaluated as `evaluate_bag` does it alone and with `--ray`. Starting the cluster
and opening engines is told apart: a long run has it once. Merging is done by one process, whatever
the cluster's size: its frames per second bound those of a fleet.
"""

from __future__ import annotations

from pathlib import Path
import shutil
import tempfile
import time
from typing import Any

from bag_eval import METER, source_of, write_bag
from report import ROOT, arguments, finish

from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.predictors import SegmenterPredictor, open_for_throughput
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.fleet.cluster import HERE, Crew, ray_cluster
from offroad_seg_core.fleet.run import Fleet
from offroad_seg_core.memory import keep_freed_memory


def speed_of(marks: list[tuple[float, int]]) -> float:
    """Return frames per second from (time, frames until then), the first tenth left out."""
    first = marks[len(marks) // 10]
    return (marks[-1][1] - first[1]) / (marks[-1][0] - first[0])


def alone(evaluation: Evaluation) -> dict[str, Any]:
    """Return the row of one process."""
    marks: list[tuple[float, int]] = []
    started = time.perf_counter()

    def tick(count: int) -> None:
        marks.append((time.perf_counter(), len(marks) + count))

    evaluate(evaluation, tick)
    ended = time.perf_counter()
    return {
        'way': 'one process',
        'frames': len(marks),
        'frames per s': speed_of(marks),
        'start s': marks[0][0] - started,
        'merge s': ended - marks[-1][0],
    }


def on_ray(evaluation: Evaluation) -> dict[str, Any]:
    """Return the row of a cluster on all cores of this machine."""
    marks: list[tuple[float, int]] = []
    started = time.perf_counter()

    def tick(num_done: int, total: int, num_frames: int) -> None:
        marks.append((time.perf_counter(), num_frames))

    with ray_cluster(HERE):
        fleet = Fleet(evaluation, tick)
        fleet.evaluate(Crew(evaluation).perform)
        ended = time.perf_counter()
    return {
        'way': 'ray on this machine',
        'frames': marks[-1][1],
        'frames per s': speed_of(marks),
        'start s': marks[0][0] - started,
        'merge s': ended - marks[-1][0],
    }


def main() -> None:
    """Measure both ways on the same bags."""
    options = arguments(__doc__)
    keep_freed_memory()
    num_bags, num_frames = (4, 64) if options.quick else (8, 512)
    predictor = SegmenterPredictor(open_for_throughput(ROOT / 'models' / 'demo_desert'))
    home = Path(tempfile.mkdtemp())
    try:
        first = write_bag(home / 'bag_0', num_frames, jpeg=True)
        bags = [first]
        for number in range(1, num_bags):
            bags.append(shutil.copytree(first, home / f'bag_{number}'))

        def evaluation_in(name: str) -> Evaluation:
            sources = {bag.name: source_of(bag, predictor) for bag in bags}
            sinks = (LabelFiles(),)
            source = SeveralSources(sources)
            return Evaluation(source, predictor, home / name, sinks=sinks, meter=METER)

        rows = [alone(evaluation_in('alone')), on_ray(evaluation_in('ray'))]
    finally:
        shutil.rmtree(home)
        predictor.close()
    finish('fleet', options, rows, {
        'ray_vs_one_process': rows[1]['frames per s'] / rows[0]['frames per s'],
        'merged_frames_per_s': rows[1]['frames'] / rows[1]['merge s'],
    })  # fmt: skip


if __name__ == '__main__':
    main()
