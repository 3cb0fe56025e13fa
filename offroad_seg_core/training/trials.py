"""A run cut down to see whether its parts work, or whether they can learn at all."""

from __future__ import annotations

from dataclasses import replace
import shutil

from offroad_seg_core.datasets.augmentation import ViewsConfig
from offroad_seg_core.datasets.augmentation.photometric import PhotometricConfig
from offroad_seg_core.datasets.label_source import BY_GROUP, BY_NAME
from offroad_seg_core.datasets.procedural import WORLD_TAXONOMY, WorldConfig
from offroad_seg_core.datasets.sampling import SamplingConfig
from offroad_seg_core.label_mapping import list_mappings
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.distributed import is_first_process


def fast_dev_run(config: TrainConfig) -> TrainConfig:
    """Return the run cut down to 2 steps and 2 validation frames, in a folder of its own."""
    folder = replace(config, name=f'{config.name}-dev').folder
    if is_first_process():
        shutil.rmtree(folder, ignore_errors=True)
    return replace(
        config,
        name=folder.name,
        optimizer=replace(config.optimizer, max_steps=2, warmup_steps=0),
        validate_every=2,
        max_validation_frames=2,
        loader=replace(config.loader, cache_gb=0.0),
    )


def smoke_run(config: TrainConfig) -> TrainConfig:
    """Return the run as a trial of its parts that needs nothing: no data, no weights, no GPU.

    Model (but for what ``model.smoke`` replaces), losses, augmentation, sampling and optimizer
    stay; the frames are a few procedural ones, small, the weights are random, and there are 2
    steps of 2 small views.
    """
    rendered = WorldConfig(
        kind='world',
        root=config.output / 'smoke_frames',
        train_seeds=(9100, 9102),
        validation_seeds=(9110, 9111),
        frames_per_seed=1,
        size=(192, 320),
        mapping=_mapping_of_world(config),
    )
    smoke = config.model.smoke
    options = {**config.model.options, **smoke.options}
    return replace(
        fast_dev_run(config),
        dataset=rendered,
        model=replace(config.model, options=options, input_size=smoke.input_size, weights=None),
        optimizer=replace(
            config.optimizer, max_steps=2, warmup_steps=0, freeze_encoder_steps=0, accumulate=1
        ),
        loader=replace(
            config.loader,
            batch_size=2,
            crop_size=smoke.input_size,
            num_workers=0,
            cache_gb=0.0,
        ),
        copy_paste=None,
        init_checkpoint=None,
        precision='fp32',
    )


def _mapping_of_world(config: TrainConfig) -> str | None:
    """Return how the classes of procedural frames become those of a run."""
    if getattr(config.dataset, 'mapping', None) == BY_GROUP:
        return BY_GROUP
    if config.taxonomy == WORLD_TAXONOMY:
        return None
    shipped = f'{WORLD_TAXONOMY}_to_{config.taxonomy}'
    return shipped if shipped in list_mappings() else BY_NAME


def without_variation(config: TrainConfig) -> TrainConfig:
    """Return the run with plain views of every frame, each drawn as often as the others.

    Where ``loader.crop_size`` is ``model.input_size``, all views of a frame are one.
    """
    plain = ViewsConfig(
        scale_range=(1.0, 1.0),
        rotation_deg=0.0,
        flip_probability=0.0,
        max_class_share=1.0,
        photometric=PhotometricConfig(strength=0.0),
    )
    return replace(
        config,
        augment=plain,
        mix=None,
        copy_paste=None,
        sampling=SamplingConfig(),
        loader=replace(config.loader, crop_scale_range=(1.0, 1.0)),
    )
