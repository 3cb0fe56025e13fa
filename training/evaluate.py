"""Measure a model on the frames of a dataset, and write labels, a table and a report.

    python training/evaluate.py --data config/data/falcon.yaml --checkpoint runs/NAME/best.ckpt
    python training/evaluate.py --data config/data/falcon.yaml --bundle my_bundle [root=...]

A checkpoint is measured exactly as training validates it; a bundle as the robot runs it. After
Ctrl-C or a crash the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import sys

from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.evaluation import command, output_options
from offroad_seg_core.evaluation.evaluate import Evaluation
from offroad_seg_core.evaluation.predictions import CheckpointPredictor, validation_indices
from offroad_seg_core.evaluation.predictors import (
    Predictor,
    SegmenterPredictor,
    open_for_throughput,
)
from offroad_seg_core.evaluation.result import check_place
from offroad_seg_core.evaluation.sources.dataset import DatasetFrames
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.metrics.meter import MeterConfig
from offroad_seg_core.training.checkpoint import load_checkpoint


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    add = parser.add_argument
    add('--data', type=Path, required=True, help='a file of config/data')
    model = parser.add_mutually_exclusive_group(required=True).add_argument
    model('--checkpoint', type=Path, help='of training/train.py')
    model('--bundle', type=Path, help='of training/export.py')
    add('--split', choices=('train', 'validation'), default='validation')
    add('--engine', default='auto', help='of bundles')
    add('--precision', default='auto', help='of bundles')
    add('--max-frames', type=int, default=0, help='evenly spaced, as validations are; 0: all')
    add('--reference', metavar='BUNDLE', help='compare with this model, not truth')
    command.add_pass_options(parser)
    output_options.add_output_options(parser)
    add('overrides', nargs='*', help='key=value of the data set, such as root=/data/falcon')
    return parser.parse_intermixed_args(arguments)


def open_predictor(options: argparse.Namespace) -> Predictor:
    passes = command.chosen_passes(options)
    if options.checkpoint:
        return CheckpointPredictor(load_checkpoint(options.checkpoint), passes)
    engine, precision = command.recorded_engine(options.output, options.engine, options.precision)
    chosen = SegmenterOptions(tta=passes.tta, sliding_window=passes.sliding_window)
    # Of two networks a frame each takes all cores.
    opening = Segmenter.open if options.reference else open_for_throughput
    return SegmenterPredictor(opening(options.bundle, engine, precision, options=chosen))


def open_reference(options: argparse.Namespace) -> Predictor | None:
    if not options.reference:
        return None
    asked = options.output, options.engine, options.precision
    return SegmenterPredictor(command.open_reference(options.reference, *asked))


def run(options: argparse.Namespace) -> int:
    read = [options.data, options.checkpoint, options.bundle, options.reference]
    output_options.settle_places(options, read)
    predictor = open_predictor(options)
    dataset = load_dataset(options.data, options.overrides)
    frames = dataset.frames(options.split, predictor.taxonomy)
    files = [path for entry in frames.files for path in (entry.image, entry.label) if path]
    output_options.settle_places(options, {path.parent for path in files})
    kept = frames.subset(validation_indices(len(frames), options.max_frames))
    reference = open_reference(options)
    source = DatasetFrames(kept, title := f'{options.data.stem}, {options.split}')
    outputs = output_options.chosen_outputs(options, predictor.taxonomy, predictor.cost_table)
    more = {'meter': MeterConfig(), 'title': title, 'num_hard': options.export_hard}
    evaluation = Evaluation(source, predictor, options.output, reference, outputs, **more)
    if not options.may_replace:
        check_place(evaluation)
    return command.tell(command.run_with_progress(evaluation, options))


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    keep_freed_memory()
    options = parse_arguments(arguments)
    options.may_replace = options.output is not None  # what has that name
    options.output = options.output or Path(f'{options.data.stem}_evaluation')
    return command.guarded('evaluate', lambda: options.output, lambda: run(options))


if __name__ == '__main__':
    sys.exit(main())
