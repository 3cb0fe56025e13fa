"""Quantise a bundle to int8, unless that costs too much accuracy.

    python training/quantize.py --bundle my_bundle --output my_bundle_int8 \
        --calibration drive.mcap [--data config/data/falcon.yaml]

Ranges are measured on calibration frames, accuracy on validation frames. Refused, with the classes
by name, where mIoU falls by more than 1 point or a class of lethal cost by more than 3.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import shlex
import sys

from offroad_seg_core.config import load_config
from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.places import local_path, output_place
from offroad_seg_core.quantization.accuracy import AccuracyLimits, validation_frames
from offroad_seg_core.quantization.calibration import load_calibration
from offroad_seg_core.quantization.quantize import (
    QuantizeOptions,
    installed_engines,
    quantize_bundle,
    summary,
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    add = parser.add_argument
    add('--bundle', type=Path, required=True)
    add('--output', type=local_path, required=True, help='folder of the new bundle')
    add('--calibration', type=Path, required=True, help='folder of pictures, or a rosbag2')
    add('--topics', nargs='+', default=(), help='of the bag; default: every camera')
    add('--calibration-frames', type=int, default=128)
    add('--data', type=Path, help='labelled frames, of config/data; default: as trained')
    add('--max-frames', type=int, default=200, help='labelled frames at most; 0 for all')
    add('--max-miou-drop', type=float, default=0.01, help='0.01 is one point')
    add('--max-dangerous-drop', type=float, default=0.03, help='of a class of lethal cost')
    add('--int8-only', action='store_true', help='without the fp32 file: no PyTorch, no GPU')
    add('--record', type=Path, help='JSON file for the confusion matrices')
    add('--threads', type=int, default=0, help='CPU threads of the engines')
    options = parser.parse_args(arguments)
    options.command = shlex.join(['quantize.py', *(arguments or sys.argv[1:])])
    return options


def run(options: argparse.Namespace) -> None:
    options.output = output_place(options.output)
    bundle, data = Bundle.load(options.bundle), options.data and load_dataset(options.data)
    frames = validation_frames(data, bundle, options.max_frames)
    calibration = load_calibration(
        options.calibration, bundle.manifest.input, options.calibration_frames, options.topics
    ).held_against(frames, bundle.manifest.input)
    names = ('max_miou_drop', 'max_dangerous_drop')
    settings = QuantizeOptions(
        load_config(AccuracyLimits, {name: getattr(options, name) for name in names}),
        installed_engines(),
        keeps_source=not options.int8_only,
        num_threads=options.threads,
        record=options.record,
        command=options.command,
    )
    print(summary(quantize_bundle(bundle, options.output, calibration, frames, settings)))


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    try:
        run(parse_arguments(arguments))
    except (ValueError, EngineError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
