"""Make a trained network smaller, and say what that really saves on this machine.

    python training/prune.py --checkpoint runs/student/best.ckpt --output runs/pruned \
        --channels 0.3 --weights 0.2 --parts pyramid head

Writes pruned.ckpt (channels are gone, the tensors are smaller) with finetune.yaml, the training
that goes on with it, and sparse.ckpt (weights are zero, the tensors are as large as before);
pruning.json says what each saves. Then:

    python training/train.py --config runs/pruned/finetune.yaml [optimizer.max_steps=600 ...]
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
import logging
from pathlib import Path
import sys

import yaml

from offroad_seg_core.config import dump_config
from offroad_seg_core.distillation.pruning import fine_tuning, prune_channels, zero_weights
from offroad_seg_core.distillation.pruning_report import conclusions, measure_pruning
from offroad_seg_core.files import atomic_path
from offroad_seg_core.places import local_path
from offroad_seg_core.training.checkpoint import load_checkpoint


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--checkpoint', type=Path, required=True)
    add('--output', type=local_path, required=True, help='folder')
    add('--channels', type=float, metavar='SHARE', help='of the channels that go')
    add('--weights', type=float, metavar='SHARE', help='of the weights that become zero')
    add('--parts', nargs='+', default=(), help='of --weights; default: all but the encoder')
    add('--threads', type=int, default=0, help='CPU threads of the measured engines')
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    if options.channels is None and options.weights is None:
        raise ValueError('nothing to do: give --channels SHARE, --weights SHARE, or both')
    checkpoint = load_checkpoint(options.checkpoint)
    networks = {'full': checkpoint}
    if options.channels is not None:
        networks['pruned'] = pruned = prune_channels(checkpoint, options.channels)
        file = options.output / 'pruned.ckpt'
        pruned.save(file)
        config = fine_tuning(pruned, file, f'{checkpoint.config.name}_pruned')
        with atomic_path(options.output / 'finetune.yaml') as temporary:
            temporary.write_text(yaml.safe_dump(dump_config(config), sort_keys=False))
    if options.weights is not None:
        networks['sparse'] = zero_weights(checkpoint, options.weights, options.parts)
        networks['sparse'].save(options.output / 'sparse.ckpt')
    costs = measure_pruning(networks, num_threads=options.threads)
    with atomic_path(options.output / 'pruning.json') as temporary:
        temporary.write_text(json.dumps([asdict(cost) for cost in costs], indent=1))
    print('\n'.join(conclusions(costs)))


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.WARNING, format='%(levelname)s %(message)s')
    try:
        run(parse_arguments(arguments))
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
