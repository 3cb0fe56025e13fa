"""Choose a network for a robot: measure candidates there, train those that are fast enough.

    python training/select_student.py --config config/train/demo_desert.yaml --budget-ms 40 \
        --engine openvino --output runs/students [optimizer.max_steps=600 ...]

Prints the accuracy-latency front and writes students.json and students.png. Every training has a
folder of its own in the output, and goes on there after an interruption.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import sys

from offroad_seg_core.config import load_config
from offroad_seg_core.evaluation.report.student_front import as_text, write_students
from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.places import local_path
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.failures import TrainingError
from offroad_seg_core.training.recorder import TrainingInterruptedError
from offroad_seg_core.training.student_selection import (
    CANDIDATES,
    Target,
    measure,
    train_student,
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--config', type=Path, required=True, help='how each candidate is trained')
    add('--budget-ms', type=float, required=True, help='of a frame, image to label map')
    add('--output', type=local_path, required=True, help='folder')
    add('--engine', default='auto', help='as on the robot')
    add('--precision', default='auto', help='as on the robot')
    add('--threads', type=int, default=0, help='CPU threads; 0: as the engine likes')
    add('--candidates', nargs='+', default=list(CANDIDATES), metavar='NAME', help='some of them')
    add('--measure-only', action='store_true', help='train nothing')
    add('overrides', nargs='*', help='section.key=value of the configuration')
    return parser.parse_intermixed_args(arguments)


def run(options: argparse.Namespace) -> None:
    config = load_config(TrainConfig, options.config, options.overrides)
    size = config.model.input_size
    target = Target(options.engine, options.precision, options.threads, size, options.budget_ms)
    students = measure(config, options.candidates, target)
    for index, student in enumerate(students):
        if student.latency_ms > options.budget_ms:
            logging.info('%s takes %.1f ms: not trained', student.name, student.latency_ms)
        elif not options.measure_only:
            students[index] = train_student(config, student, options.output)
    print(as_text(students))
    print(write_students(students, target, options.output))


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    try:
        run(parse_arguments(arguments))
    except (ValueError, EngineError, TrainingError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except TrainingInterruptedError as interruption:
        print(interruption, file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
