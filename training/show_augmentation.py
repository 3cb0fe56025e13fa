"""Show what augmentations do to frames and their labels, as one contact sheet each.

    python training/show_augmentation.py --data config/data/falcon.yaml --output /tmp/sheets \
        falcon_domain_gap field_conditions my_augment.yaml

Each row is a frame: as it is, then random variants, each above its labels. An augmentation is a
preset's name or a YAML file with the content of a training configuration's ``augment``.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
import sys

import cv2
import numpy as np

from offroad_seg_core.config import load_config
from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.datasets.augmentation import AugmentConfig, create_augmentation
from offroad_seg_core.datasets.augmentation.presets import preset_names
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.files import atomic_path
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.places import local_path
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.visualization import contact_sheet, overlay


def parse_arguments(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('augmentations', nargs='*', help='presets or files; default: all presets')
    parser.add_argument('--data', type=Path, required=True, help='a file of config/data')
    parser.add_argument('--set', nargs='*', default=[], metavar='KEY=VALUE', help='override it')
    parser.add_argument('--split', choices=['train', 'validation'], default='train')
    parser.add_argument('--taxonomy', default='falcon10', help='name or file')
    parser.add_argument('--crop-size', type=int, nargs=2, default=(512, 896), metavar=('H', 'W'))
    parser.add_argument('--frames', type=int, default=4, help='rows')
    parser.add_argument('--variants', type=int, default=5, help='columns beside the frame itself')
    parser.add_argument('--tile-width', type=int, default=400, help='px')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--output', type=local_path, required=True, help='folder of the PNG files')
    return parser.parse_args(arguments)


def draw_sheet(name: str, frames: FrameSet, options: Namespace) -> np.ndarray:
    """Return a contact sheet; the variant in row r, column c is drawn from (seed, r, c)."""
    preset = {'kind': 'pipeline', 'preset': name}
    config = load_config(AugmentConfig, preset if name in preset_names() else name)
    spec = InputSpec(size=tuple(options.crop_size), mean=(124, 116, 104), std=(1, 1, 1), stride=1)
    augmentation = create_augmentation(config, spec.size, spec)
    tiles, captions = [], []
    for row, place in enumerate(np.linspace(0, len(frames) - 1, options.frames)):
        frame = frames.read(round(place))
        rngs = [np.random.default_rng((options.seed, row, n)) for n in range(options.variants)]
        for view in [frame, *(augmentation(*frame, rng) for rng in rngs)]:
            tiles.append(np.vstack([view[0], overlay(*view, frames.taxonomy.palette_rgb, 0.6)]))
        captions.append(frames.files[round(place)].image.name)
        captions += [f'{Path(name).stem} {n + 1}' for n in range(options.variants)]
    return contact_sheet(tiles, 1 + options.variants, captions, options.tile_width)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        taxonomy = load_taxonomy(options.taxonomy)
        frames = load_dataset(options.data, options.set).frames(options.split, taxonomy)
        options.output.mkdir(parents=True, exist_ok=True)
        for name in options.augmentations or preset_names():
            sheet = cv2.cvtColor(draw_sheet(name, frames, options), cv2.COLOR_RGB2BGR)
            path = options.output / f'{Path(name).stem}.png'
            with atomic_path(path) as partial:
                partial.write_bytes(cv2.imencode('.png', sheet)[1])
            print(path)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
