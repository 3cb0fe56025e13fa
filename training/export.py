"""Write a checkpoint as a model bundle.

    python training/export.py --checkpoint runs/demo_desert/best.ckpt --output models/demo_desert
        [--fuse] [--data config/data/falcon.yaml] [--frames 0]

The ONNX file is compared with PyTorch first; nothing is written where they differ. With --fuse the
graph also gives labels, as coarse as costs at most 0.3 points of mIoU and 1 point of boundary F1
on the validation frames.

The bundle takes two validation pictures along that `check_engine` compares engines on. Their
dataset's licence holds for them: `--frames 0` leaves them out.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import sys
import tempfile

from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.evaluation.label_stride import LabelStrideLimits, choose_label_stride
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.export_head import fuse_bundle
from offroad_seg_core.places import local_path, output_place
from offroad_seg_core.quantization.accuracy import validation_frames
from offroad_seg_core.training.bundle_export import export_checkpoint
from offroad_seg_core.training.bundle_frames import frames_to_check
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.weights_license import check_license


def parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition('x')
    if not (height.isdecimal() and width.isdecimal()):
        raise ValueError(f'--input-size: got {text!r}, expected HEIGHTxWIDTH such as 384x672')
    return int(height), int(width)


def _export(options: argparse.Namespace) -> Bundle:
    options.output = output_place(options.output)
    checkpoint = load_checkpoint(options.checkpoint)
    check_license(checkpoint, options.license)
    size = parse_size(options.input_size)
    data = load_dataset(options.data) if options.data else None
    along = frames_to_check(checkpoint, data, options.frames)
    if not options.fuse:
        return export_checkpoint(checkpoint, options.output, options.license, size, along)
    # Elsewhere first, so that what is there stays if the labels cannot be measured.
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / options.output.name
        bundle = export_checkpoint(checkpoint, plain, options.license, size, along)
        frames = validation_frames(data, bundle, options.max_frames)
        stride, report = choose_label_stride(bundle, frames, LabelStrideLimits())
        bundle = fuse_bundle(bundle, options.output, stride, report)
    print(f'labels of {stride}x{stride} pixels, measured on {len(frames)} frames')
    return bundle


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.WARNING, format='%(levelname)s %(message)s')
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', type=Path, required=True)
    parser.add_argument('--output', type=local_path, required=True, help='folder of the bundle')
    parser.add_argument('--input-size', help='HxW on the robot, e.g. 384x672; default: as trained')
    parser.add_argument('--fuse', action='store_true', help='labels and confidence in the graph')
    parser.add_argument('--data', type=Path, help='labelled frames; default: as trained')
    parser.add_argument('--max-frames', type=int, default=200, help='of --fuse; 0 for all')
    parser.add_argument('--frames', type=int, default=2, help='pictures that go along; 0 for none')
    parser.add_argument('--license', help='of the weights (SPDX); default: Apache-2.0')
    options = parser.parse_args(arguments)
    try:
        bundle = _export(options)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    size_mb = sum(path.stat().st_size for path in bundle.path.rglob('*') if path.is_file()) / 1e6
    parity = bundle.manifest.provenance['export']['parity']
    print(
        f'{bundle.path}: {size_mb:.1f} MB; against PyTorch: largest relative error '
        f'{parity["max_rel_error"]:.1e}, same label on {parity["label_agreement"]:.4%} of pixels'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
