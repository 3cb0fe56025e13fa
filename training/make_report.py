"""Show what training runs achieved, or compare evaluations frame by frame.

    python training/make_report.py runs/NAME [runs/OTHER ...] --output /tmp/report
    python training/make_report.py drive_before drive_after --output /tmp/report

Of runs it writes index.html, which contains its figures, the figures as PNG files, and
report.json. With the run's checkpoint and its frames it segments them again; without, it shows
what training recorded. Of results of evaluate.py or evaluate_bag it writes a page to click
through; several are held against the first one.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import sys

from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.evaluation.drive_report.build import write_drive_report
from offroad_seg_core.evaluation.predictions import PredictionOptions
from offroad_seg_core.evaluation.report.report import write_report
from offroad_seg_core.evaluation.summary import SUMMARY
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.places import local_path


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        'runs',
        nargs='+',
        type=Path,
        help='folders of runs (or result.json files), or of evaluations',
    )
    add('--output', type=local_path, required=True, help='folder of the report')
    add('--data', type=Path, help="a file of config/data; default: each run's own frames")
    add('--max-frames', type=int, default=0, help="default: as in the run's validations")
    add('--no-predictions', action='store_true', help='show what training recorded, at once')
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    if options.max_frames < 0:
        raise ValueError(f'--max-frames: got {options.max_frames}; expected 1 or more, 0 for all')
    are_evaluations = [(folder / SUMMARY).is_file() for folder in options.runs]
    if all(are_evaluations):
        print(write_drive_report(options.runs, options.output))
        return 0
    if any(are_evaluations):
        raise ValueError('got runs and evaluations; expected one kind; make a report of each')
    predictions = None
    if not options.no_predictions:
        dataset = load_dataset(options.data) if options.data else None
        predictions = PredictionOptions(dataset, options.max_frames)
    print(write_report(options.runs, options.output, predictions))
    return 0


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    keep_freed_memory()
    try:
        return run(parse_arguments(arguments))
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('stopped; nothing is kept of an unfinished report', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
