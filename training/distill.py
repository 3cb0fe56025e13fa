"""Train a student with what teachers know.

    python training/distill.py --config config/distill/falcon_loeo.yaml [section.key=value ...]
    python training/distill.py --config ... --answers-only      # on the machine of the teachers

Writes what training/train.py does, teachers.json with the teachers' scores on the same frames,
teachers.png with both side by side, and the teachers' answers into
distillation.soft_labels.folder.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import shlex
import sys

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.distillation.pictures import write_pictures
from offroad_seg_core.distillation.retention import answer_training_frames, measure_teachers
from offroad_seg_core.distillation.trial import smoke_distillation
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.distributed import is_first_process
from offroad_seg_core.training.failures import TrainingError
from offroad_seg_core.training.recorder import TrainingInterruptedError
from offroad_seg_core.training.run import train


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', type=Path, required=True, help='a file of config/distill')
    parser.add_argument('--resume', action='store_true', help='go on from last.ckpt')
    parser.add_argument('--smoke', action='store_true', help='2 steps on rendered frames')
    parser.add_argument('--answers-only', action='store_true', help='ask the teachers, then end')
    parser.add_argument('overrides', nargs='*', help='section.key=value, applied in order')
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    options = parse_arguments(arguments)
    command = shlex.join([Path(sys.argv[0]).name, *(arguments or sys.argv[1:])])
    student = None
    try:
        config = load_config(TrainConfig, options.config, options.overrides)
        if config.distillation is None:
            raise ConfigError(
                f'{options.config}: has no section distillation; add its teachers, or train '
                'without any by training/train.py'
            )
        if options.smoke:
            config = smoke_distillation(config)
        if options.answers_only:
            answer_training_frames(config)
        else:
            student = train(config, resume=options.resume, command=command).miou_present
        if not is_first_process():
            return 0
        teachers = measure_teachers(config).miou_present
        pictures = student is not None and write_pictures(config, config.folder / 'best.ckpt')
    except (ValueError, TrainingError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except TrainingInterruptedError as interruption:
        if is_first_process():
            print(interruption, file=sys.stderr)
        return 130
    print(f'\nteachers: mIoU {teachers:.4f} over the classes present')
    if student is not None:
        kept = f'; it keeps {student / teachers:.1%} of the teachers' if teachers else ''
        print(f'student {config.folder}: mIoU {student:.4f}{kept}; side by side: {pictures}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
