"""Print what a network costs: parameters and FLOPs of its parts, for one image.

    python training/benchmark.py --model upernet_flash_intern_image --options size=l \
        [--size 1024 2048] [--classes 64] [--json PATH]

Nothing is computed and nothing is timed: how long a network takes on a robot, engine by engine, is
measured by training/select_student.py.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
from pathlib import Path
import sys
from typing import Any

from offroad_seg_core.config import load_config
from offroad_seg_core.files import atomic_path
from offroad_seg_core.models import create_model
from offroad_seg_core.models.flops import PartCost, count_costs
from offroad_seg_core.training.config import ModelConfig


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--model', required=True, help='a name of offroad_seg_core.models.MODELS')
    add('--options', nargs='*', default=(), metavar='KEY=VALUE', help='of the model, in YAML')
    add('--size', nargs=2, type=int, default=(512, 896), metavar=('HEIGHT', 'WIDTH'))
    add('--classes', type=int, default=64, help='channels of the logits')
    add('--json', type=Path, help='also write the numbers here')
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    overrides = [f'options.{option}' for option in options.options]
    config = load_config(ModelConfig, {'name': options.model}, overrides)
    model = create_model(config.name, options.classes, **config.options)
    parts = count_costs(model, tuple(options.size))
    return {
        'model': config.name,
        'options': config.options,
        'classes': options.classes,
        'size': list(options.size),
        'parameters': sum(part.parameters for part in parts),
        'flops': sum(part.flops for part in parts),
        'parts': [asdict(part) for part in parts],
    }


def as_table(result: dict[str, Any]) -> str:
    parts = [PartCost(**part) for part in result['parts']]
    rows = [*parts, PartCost('total', result['parameters'], result['flops'])]
    lines = [f'{"part":20}{"parameters":>14}{"GFLOP":>12}']
    lines += [f'{row.name:20}{row.parameters:>14,}{row.flops / 1e9:>12.3f}' for row in rows]
    return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        result = measure(options)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{result["model"]} {result["options"]}, {result["classes"]} classes, '
          f'{options.size[0]}x{options.size[1]} px')  # fmt: skip
    print(as_table(result))
    if options.json:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(result, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
