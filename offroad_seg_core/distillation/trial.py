"""A distillation cut down to see whether its parts work."""

from __future__ import annotations

from dataclasses import replace
import shutil

from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.distributed import is_first_process
from offroad_seg_core.training.run import smoke_run, train


def smoke_distillation(config: TrainConfig) -> TrainConfig:
    """Return a distillation as a trial that needs nothing: no data, no weights, no teachers.

    What ``smoke_run`` leaves stays. Every teacher is the student's own network, which is trained
    for two steps here; layers are matched with themselves; unlabelled frames are rendered ones,
    and every pixel passes their gate.
    """
    settings = config.distillation
    assert settings is not None
    teacher = smoke_run(replace(config, name=f'{config.name}-teacher', distillation=None))
    folder = config.output / f'{config.name}-dev-soft_labels'
    if is_first_process():
        train(teacher)
        shutil.rmtree(folder, ignore_errors=True)
    path = teacher.folder / 'last.ckpt'
    unlabelled = settings.unlabelled
    if unlabelled is not None:
        rendered = config.output / 'smoke_frames' / 'train' / 'images'
        unlabelled = replace(
            unlabelled, path=rendered, pattern='*', topics=(), every=1, confidence=0.0
        )
    trial = replace(
        settings,
        teachers=tuple(replace(entry, path=path, mapping=None) for entry in settings.teachers),
        soft_labels=replace(settings.soft_labels, folder=folder),
        features=tuple(
            replace(entry, teacher_layer=entry.student_layer) for entry in settings.features
        ),
        unlabelled=unlabelled,
    )
    return replace(smoke_run(config), distillation=trial)
