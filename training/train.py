"""Train a model.

    python training/train.py --config config/train/demo_desert.yaml [section.key=value ...]
    python training/train.py --config ... --devices 4 loader.batch_size=2    # 4 GPUs, step of 8
    torchrun --nproc-per-node 4 training/train.py --config ... --devices 4
    srun python training/train.py --config ... --devices 4 --num-nodes 2     # 8 tasks

Writes runs/<name>/: best.ckpt, last.ckpt, config.yaml, steps.csv, validation.jsonl, result.json;
with --report also report/index.html, which training/make_report.py makes later.
"""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path
import shlex
import sys

from offroad_seg_core.config import load_config
from offroad_seg_core.evaluation.predictions import PredictionOptions
from offroad_seg_core.evaluation.report.report import write_report
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.distributed import is_first_process
from offroad_seg_core.training.failures import TrainingError
from offroad_seg_core.training.recorder import TrainingInterruptedError
from offroad_seg_core.training.run import fast_dev_run, smoke_run, train


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', type=Path, required=True, help='a file of config/train')
    parser.add_argument('--resume', action='store_true', help='go on from last.ckpt')
    parser.add_argument('--fast-dev-run', action='store_true', help='2 steps, to see if it runs')
    parser.add_argument('--smoke', action='store_true', help='2 steps on rendered frames')
    parser.add_argument('--devices', type=int, metavar='N', help='GPUs, or processes, a machine')
    parser.add_argument('--report', action='store_true', help='end with figures: report/')
    parser.add_argument('--num-nodes', type=int, metavar='N', help='machines that train together')
    parser.add_argument('overrides', nargs='*', help='section.key=value, applied in order')
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    options = parse_arguments(arguments)
    for name in ('devices', 'num_nodes'):
        if getattr(options, name) is not None:
            options.overrides.append(f'distributed.{name}={getattr(options, name)}')
    command = shlex.join([Path(sys.argv[0]).name, *(arguments or sys.argv[1:])])
    try:
        config = load_config(TrainConfig, options.config, options.overrides)
        if options.smoke:
            config = smoke_run(config)
        elif options.fast_dev_run:
            config = fast_dev_run(config)
        scores = train(config, resume=options.resume, command=command)
        if not is_first_process():
            return 0
        print(f'\n{config.folder}: mIoU {scores.miou_present:.4f} over the classes present')
        for name, iou in scores.iou.items():
            print(f'  {name:16} {"absent" if math.isnan(iou) else f"{iou:.4f}"}')
        if options.report:
            print(write_report([config.folder], config.folder / 'report', PredictionOptions()))
    except (ValueError, TrainingError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except TrainingInterruptedError as interruption:
        if is_first_process():
            print(interruption, file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
