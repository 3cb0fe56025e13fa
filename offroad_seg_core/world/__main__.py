"""Write a dataset of procedural drives: ``python -m offroad_seg_core.world --output DIR``."""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from offroad_seg_core.places import local_path
from offroad_seg_core.world.dataset import DatasetOptions, write_dataset


def _seeds(text: str) -> range:
    first, separator, last = text.partition(':')
    if not first.isdecimal() or (separator and not last.isdecimal()):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not FIRST:END such as 1000:1200, or one seed'
        )
    return range(int(first), int(last) if separator else int(first) + 1)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition('x')
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f'{text!r} is not HEIGHTxWIDTH such as 544x960')
    return int(height), int(width)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m offroad_seg_core.world',
        description='Write pictures of procedural drives with exact label maps.',
    )
    parser.add_argument('--output', type=local_path, required=True, help='folder to fill')
    parser.add_argument('--seeds', type=_seeds, default=range(1000, 1010), help='FIRST:END')
    parser.add_argument('--frames-per-seed', type=int, default=6, help='frames of each camera')
    parser.add_argument('--size', type=_size, default=(544, 960), help='HEIGHTxWIDTH in pixels')
    parser.add_argument('--cameras', default='windshield,left', help='names, comma-separated')
    parser.add_argument('--format', choices=('jpg', 'png'), default='jpg', help='of the pictures')
    parser.add_argument('--workers', type=int, default=1, help='processes')
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Write the dataset; return 0, 2 for bad arguments or a stale folder, 130 after Ctrl-C."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        options = DatasetOptions(
            given.output,
            given.seeds,
            given.frames_per_seed,
            given.size,
            tuple(given.cameras.split(',')),
            f'.{given.format}',
        )
        options.claim()
    except ValueError as error:
        parser.error(str(error))
    total = len(options.seeds) * options.frames_per_seed * len(options.cameras)
    try:
        with tqdm(total=total, unit='frame', smoothing=0.05) as progress:
            for done in write_dataset(options, given.workers):
                progress.update(done)
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
