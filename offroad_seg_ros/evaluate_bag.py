"""Replay a drive through the node's segmenter without ROS, measure, and write a report.

    ros2 run offroad_seg_ros evaluate_bag drive --output drive_evaluation
    ros2 run offroad_seg_ros evaluate_bag drive --truth labels_folder --video
    ros2 run offroad_seg_ros evaluate_bag drive --labels-from recorded_outputs
    ros2 run offroad_seg_ros evaluate_bag drives/* s3://bucket/drive.mcap --ray 10.0.0.1:6379

Takes bags (whole or cut off), folders of pictures and videos, and the node's parameter file.
Exact label maps below <camera>/ground_truth are found by themselves. After Ctrl-C or a crash the
same command goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
import logging
from pathlib import Path
import sys
from typing import TypeVar, get_args

from offroad_seg_core.datasets.mask_values import MaskFormat
from offroad_seg_core.evaluation.command import (
    guarded,
    open_reference,
    recorded_engine,
    run_with_progress,
    tell,
)
from offroad_seg_core.evaluation.drive_places import check_names, drive_name, drive_names
from offroad_seg_core.evaluation.evaluate import Evaluation
from offroad_seg_core.evaluation.inputs import (
    AUTO,
    NONE,
    LabelOptions,
    TruthOptions,
    open_frames,
    with_labels,
)
from offroad_seg_core.evaluation.latencies import FRAMES, read_latencies
from offroad_seg_core.evaluation.output_options import (
    add_output_options,
    chosen_outputs,
    settle_places,
)
from offroad_seg_core.evaluation.predictors import (
    Predictor,
    RecordedPredictor,
    SegmenterPredictor,
    streams_for_throughput,
)
from offroad_seg_core.evaluation.result import check_place
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.evaluation.sources.frame import Source
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_ros.launch_plan import read_params_file
from offroad_seg_ros.model_loading import camera_views, cost_overrides, open_segmenter
from offroad_seg_ros.params import NodeParams
from offroad_seg_ros.params_file import load_params

_Given = TypeVar('_Given')


def _camera_topic(text: str) -> tuple[str, str]:
    camera, separator, topic = text.partition('=')
    if not (camera and separator and topic):
        raise argparse.ArgumentTypeError(f'got {text!r}, expected CAMERA=/topic')
    return camera, topic


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='evaluate_bag',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('inputs', nargs='+', help='bags, folders of pictures, videos; bags and videos by URL')
    add('--topics', nargs='+', default=(), metavar='TOPIC', help='of pictures; default: all')
    add('--params-file', default='', help='copy of segment.param.yaml; default: the shipped one')
    add('--bundle', default='', help="default: the parameter file's, else the demo model")
    for name in ('engine', 'precision', 'tta'):
        add(f'--{name}', default='', help='default: as the parameter file says')
    add('--labels-from', type=Path, metavar='BAG', help="a live node's labels instead of a model")
    add('--latencies', type=Path, metavar='DIR', help='of the live node, by latency_recorder')
    place = 'auto, none, a bag, or a folder of label files or of a bag for each drive'
    add('--truth', default=AUTO, help=place)
    add('--truth-topics', nargs='+', type=_camera_topic, default=(), metavar='CAMERA=TOPIC')
    add('--truth-taxonomy', default='', help="what its ids mean; default: the model's classes")
    add('--truth-mapping', help="to the model's classes: a shipped mapping, a file, or by_name")
    add('--truth-format', choices=get_args(MaskFormat), default='class_ids', help='of label files')
    add('--reference', default='', metavar='BUNDLE', help='compare with this model, not truth')
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; return 0, 1 with a reason, or 130 when it was interrupted."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    keep_freed_memory()
    given.may_replace = given.output is not None  # what has that name
    given.output = given.output or Path(f'{drive_name(given.inputs[0])}_evaluation')
    return guarded('evaluate_bag', lambda: given.output, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    settle_places(given, _read(given))
    problems: list[str] = []
    places = drive_names(given.inputs)
    check_names(places, _label_places(given))
    frames = _each(places, lambda _, place: open_frames(place, given.topics), problems)
    cameras = _cameras(given, frames)
    latencies_ms = _latencies_ms(given, cameras)
    engine, precision = recorded_engine(
        given.output, given.engine or 'auto', given.precision or 'auto'
    )
    overrides = {
        'bundle': given.bundle,
        'engine': engine if engine != 'auto' else given.engine,
        'precision': precision if precision != 'auto' else given.precision,
        'tta': given.tta,
    }
    params = _at_camera_size(load_params(given.params_file, cameras, overrides))
    predictor = _predictor(given, params)
    try:
        reference = _reference(given, params)
        labels = _label_options(given, predictor.taxonomy)
        named = _each(frames, lambda name, entry: with_labels(entry, labels, name), problems)
        several = len(places) > 1
        source = SeveralSources(named, problems) if several else next(iter(named.values()))
        outputs = chosen_outputs(
            given,
            predictor.taxonomy,
            predictor.cost_table,
            params.overlay_alpha,
        )
        first, *others = named
        title = ', '.join(named) if len(others) < 3 else f'{first} and {len(others)} others'
        evaluation = Evaluation(
            source,
            predictor,
            given.output,
            reference,
            outputs,
            latencies_ms=latencies_ms,
            truth=_named_truth(given),
            title=title,
            num_hard=given.export_hard,
        )
        if not given.may_replace:
            check_place(evaluation)
        return tell(run_with_progress(evaluation, given))
    finally:
        predictor.close()


def _label_places(given: argparse.Namespace) -> list[str | Path | None]:
    """Return where labels are looked for, as far as that was given."""
    return [given.labels_from, None if given.truth in (AUTO, NONE) else given.truth]


def _read(given: argparse.Namespace) -> list[str | Path | None]:
    """Return the places that are read, as far as they were given."""
    latencies = given.latencies and given.latencies / FRAMES
    settings = [given.params_file, given.bundle, given.reference]
    return [*given.inputs, *_label_places(given), latencies, *settings]


def _each(
    drives: Mapping[str, _Given], step: Callable[[str, _Given], Source], problems: list[str]
) -> dict[str, Source]:
    """Return what a step makes of each drive; what is wrong with the others joins the problems."""
    found = {}
    for name, entry in drives.items():
        try:
            found[name] = step(name, entry)
        except (ValueError, OSError) as error:
            # Of several drives, one that is no good does not cost the others.
            if len(drives) == 1:
                raise
            problems.append(str(error))
            logging.error('%s', error)
    if not found:
        raise ValueError('; '.join(dict.fromkeys(problems)))
    return found


def _cameras(given: argparse.Namespace, frames: dict[str, Source]) -> list[str]:
    """Return the names of the cameras; of a remote drive, those of the parameter file."""
    described = [entry.description()['cameras'] for entry in frames.values()]
    names = [name for cameras in described for name in cameras]
    if not all(described):
        names += read_params_file(given.params_file)[1]['cameras']
    return list(dict.fromkeys(names))


def _latencies_ms(
    given: argparse.Namespace, cameras: Sequence[str]
) -> dict[tuple[str, int], float]:
    if given.latencies is None:
        return {}
    if len(given.inputs) > 1:
        raise ValueError('--latencies: got several inputs, expected the one that the node saw')
    found = read_latencies(given.latencies)
    names = sorted({camera for camera, _ in found})
    if not set(names) & set(cameras):
        got = f'labels of {", ".join(names) or "no camera"}'
        expected = f'some of {", ".join(cameras)}'
        fix = 'name the cameras of latency_recorder so'
        raise ValueError(f'{given.latencies}: got {got}, expected {expected}; fix: {fix}')
    return found


def _at_camera_size(params: NodeParams) -> NodeParams:
    """Return parameters with labels as large as the pictures, which truth and pre-labels need."""
    if params.output_size != 'camera':
        logging.info('output_size: got %s, labels are of camera size here', params.output_size)
    return replace(params, output_size='camera')


def _predictor(given: argparse.Namespace, params: NodeParams) -> Predictor:
    costs = cost_overrides(params)
    if given.labels_from is None:
        streams = streams_for_throughput(params.num_threads, params.tta)
        if params.num_streams:
            streams = min(streams, params.num_streams)
        if given.reference:  # of two networks a frame each takes all cores
            streams = 1
        segmenter = open_segmenter(params, costs, streams, for_throughput=True)
        return SegmenterPredictor(segmenter, camera_views(params))
    bundle = Bundle.load(params.bundle)
    description = {
        'model': f'labels of {given.labels_from}, of {bundle.identity}',
        'engine': 'as recorded',
        'options': {},
    }
    return RecordedPredictor(bundle.taxonomy, bundle.taxonomy.cost_table(costs), description)


def _reference(given: argparse.Namespace, params: NodeParams) -> Predictor | None:
    if not given.reference:
        return None
    # As the cameras are mounted: else a turned picture counts as the model's mistake.
    asked = given.engine or 'auto', given.precision or 'auto'
    of_file = params.engine, params.precision
    opened = open_reference(given.reference, given.output, *asked, of_file)
    return SegmenterPredictor(opened, camera_views(params))


def _named_truth(given: argparse.Namespace) -> str:
    """Return where truth was asked for; empty if it is taken where there is some."""
    if given.reference or given.truth == NONE:
        return ''
    topics = ', '.join(topic for _, topic in given.truth_topics)
    return topics if given.truth == AUTO else given.truth


def _label_options(given: argparse.Namespace, classes: Taxonomy) -> LabelOptions:
    truth = TruthOptions(
        given.truth,
        dict(given.truth_topics) or None,
        given.truth_taxonomy,
        given.truth_mapping,
        given.truth_format,
    )
    is_alone = len(given.inputs) == 1
    return LabelOptions(classes, None if given.reference else truth, given.labels_from, is_alone)


if __name__ == '__main__':
    sys.exit(main())
