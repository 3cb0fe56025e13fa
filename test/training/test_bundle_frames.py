"""Pictures that a bundle takes along: which, how large, and none where there are none."""

from dataclasses import replace
import logging

import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.folder import FolderConfig
from offroad_seg_core.datasets.masks import DatasetError, read_image
from offroad_seg_core.datasets.mixed import MixedConfig, MixedSource
from offroad_seg_core.datasets.procedural import WorldConfig
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.bundle_frames import MAX_BYTES, frames_to_check, write_pictures
from offroad_seg_core.training.checkpoint import Checkpoint

EARTH_RGB = (150, 110, 70)


def trained_with(config, dataset):
    config = replace(config, dataset=dataset)
    return Checkpoint(config.folder / 'best.ckpt', config, load_taxonomy('falcon10'), {}, {})


@pytest.fixture
def checkpoint(make_config):
    config = make_config()
    return trained_with(config, config.dataset)


def folder_of(root, sizes):
    """Write labelled validation frames of noise in these sizes."""
    rng = np.random.default_rng(0)
    for name in ('images', 'labels'):
        (root / 'validation' / name).mkdir(parents=True)
    for index, size in enumerate(sizes):
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        cv2.imwrite(str(root / 'validation' / 'images' / f'{index}.png'), image)
        cv2.imwrite(str(root / 'validation' / 'labels' / f'{index}.png'), image[..., 0] % 10)
    return FolderConfig(kind='folder', root=root)


def test_they_are_spread_over_the_validation_split(checkpoint, tmp_path):
    data = folder_of(tmp_path / 'data', [(16, 16)] * 7)
    for count, expected in ((1, '0'), (2, '04'), (3, '036'), (9, '0123456')):
        frames = frames_to_check(checkpoint, data, count)
        assert ''.join(file.stem for file in frames.files) == expected
    assert [file.stem for file in frames_to_check(checkpoint, None, 2).files] == ['f0', 'f1']
    assert frames_to_check(checkpoint, data, 0) is None


def test_a_dataset_that_is_not_there_is_told_unless_it_was_asked_for(checkpoint, tmp_path, caplog):
    gone = FolderConfig(kind='folder', root=tmp_path / 'gone')
    world = WorldConfig('world', tmp_path / 'world', (0, 5), (10, 15))
    mixed = MixedConfig(
        'mixed', (MixedSource(checkpoint.config.dataset), MixedSource(world)), 'falcon10'
    )
    (tmp_path / 'empty').mkdir()
    empty = FolderConfig(kind='folder', root=tmp_path / 'empty')
    for dataset in (gone, world, mixed, empty):
        caplog.clear()
        assert frames_to_check(trained_with(checkpoint.config, dataset), None, 2) is None
        assert 'no frames to check engines on' in caplog.text
        assert str(tmp_path) in caplog.text
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert not world.root.exists()
    with pytest.raises(DatasetError, match='gone'):
        frames_to_check(checkpoint, gone, 2)


def test_pictures_are_as_they_were_or_smaller(checkpoint, tmp_path):
    data = folder_of(tmp_path / 'data', [(64, 96), (600, 960)])
    earth = np.full((64, 96, 3), EARTH_RGB[::-1], np.uint8)
    cv2.imwrite(str(data.root / 'validation' / 'images' / '0.png'), earth)
    frames = frames_to_check(checkpoint, data, 2).subset([1, 0])
    written = write_pictures(frames, tmp_path)
    assert list(written) == ['frames/00.jpg', 'frames/01.jpg']
    large, small = (read_image(path) for path in written.values())
    sizes_bytes = [path.stat().st_size for path in written.values()]
    assert max(sizes_bytes) <= MAX_BYTES
    assert sizes_bytes[0] > MAX_BYTES / 2
    assert large.shape[0] < 600
    assert large.shape[1] / large.shape[0] == pytest.approx(1.6, abs=0.02)
    assert small.shape == (64, 96, 3)
    np.testing.assert_allclose(small, np.broadcast_to(EARTH_RGB, small.shape), atol=3)
