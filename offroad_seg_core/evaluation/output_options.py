"""What every command that evaluates may be asked to write, and where."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
import os
from pathlib import Path

import numpy as np

from offroad_seg_core.evaluation.outputs.label_bag import LabelBag
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.outputs.overlay_video import OverlayVideo
from offroad_seg_core.evaluation.outputs.report_frames import ReportFrames
from offroad_seg_core.evaluation.outputs.sink import Sink
from offroad_seg_core.evaluation.parts import check_free
from offroad_seg_core.label_names import label_names_json
from offroad_seg_core.legend import legend_entries
from offroad_seg_core.mining.signals import FrameSignals
from offroad_seg_core.places import check_writable, local_path, output_place
from offroad_seg_core.taxonomy import Taxonomy
from offroad_seg_core.visualization import DEFAULT_ALPHA

LABELS = ('png', 'bag', 'both', 'none')


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is written."""
    add = parser.add_argument
    add('--output', type=local_path, metavar='DIR', help='folder of the result')
    add('--labels', choices=LABELS, default='png', help='how label maps are written')
    add('--video', action='store_true', help='also write overlay videos')
    add('--mcap', type=local_path, metavar='FILE', help='also write a file for Foxglove')
    add(
        '--pictures-every',
        type=int,
        default=1,
        metavar='N',
        help='of the report: every Nth frame has a picture; 0: none',
    )
    add(
        '--export-hard',
        type=int,
        default=0,
        metavar='N',
        help='also write N frames worth labelling, with pre-labels, for CVAT and COCO tools',
    )
    add('--restart', action='store_true', help='forget an unfinished result')
    add(
        '--ray',
        nargs='?',
        const=os.environ.get('RAY_ADDRESS', 'local'),
        metavar='ADDRESS',
        help='do it on a Ray cluster: host:port or auto; alone: on all cores of this machine',
    )
    add(
        '--chunks',
        default='',
        metavar='PLACE',
        help='of --ray: folder or URL that keeps finished pieces for later runs, too',
    )


def settle_places(given: argparse.Namespace, inputs: Iterable[str | Path | None]) -> None:
    """Follow the links of output and mcap, before any work.

    Args:
        given: See add_output_options; its places are replaced.
        inputs: What is read, by path, URL or name.

    Raises:
        OutputError: Nothing can be written there, or what is read would be lost.
    """
    inputs = list(inputs)
    given.output = output_place(given.output, inputs)
    check_writable(given.output)
    check_free(given.output)
    if given.mcap:
        given.mcap = output_place(given.mcap, inputs, '--mcap')
        if not given.mcap.is_relative_to(given.output):  # an older one need not be writable
            check_writable(given.mcap, '--mcap')


def chosen_outputs(
    given: argparse.Namespace,
    taxonomy: Taxonomy,
    cost_table: np.ndarray,
    alpha: float = DEFAULT_ALPHA,
) -> tuple[Sink, ...]:
    """Return what writes the outputs that were asked for.

    Args:
        given: See add_output_options.
        taxonomy: Of the labels.
        cost_table: ``(256,)`` uint8, class id -> cost.
        alpha: Share of the colour in overlays.

    Raises:
        ValueError: A number that cannot be.
    """
    if given.pictures_every < 0:
        got = f'--pictures-every: got {given.pictures_every}'
        raise ValueError(f'{got}; expected 0 or more; 1 takes every frame')
    if given.export_hard < 0:
        raise ValueError(f'--export-hard: got {given.export_hard}; expected 1 or more, 0 for none')
    sinks: list[Sink] = []
    if given.labels in ('png', 'both'):
        sinks.append(LabelFiles())
    if given.labels in ('bag', 'both'):
        names = label_names_json(taxonomy, cost_table)
        sinks.append(LabelBag(cost_table, names, alpha))
    if given.video:
        costs = {entry.name: int(cost_table[entry.id]) for entry in taxonomy.classes}
        sinks.append(OverlayVideo(cost_table, legend_entries(taxonomy, costs), alpha))
    if given.mcap:
        from offroad_seg_core.evaluation.outputs.foxglove import FoxgloveFile  # needs mcap

        sinks.append(FoxgloveFile(given.mcap, cost_table, alpha, given.output))
    if given.pictures_every:
        sinks.append(ReportFrames(given.pictures_every))
    if given.export_hard:
        sinks.append(FrameSignals())
    return tuple(sinks)
