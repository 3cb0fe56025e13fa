from pathlib import Path

import numpy as np
import pytest

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.procedural import WorldConfig
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.world import DEMO_SEED
from offroad_seg_core.world.identity import StaleDatasetError

SOURCE = {
    'kind': 'world',
    'root': 'x',
    'train_seeds': [1000, 1002],
    'validation_seeds': [500, 501],
}


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        ({'train_seeds': [0, 100]}, f'contains {DEMO_SEED}, the seed of the demo'),
        ({'validation_seeds': [7, 8]}, 'must stay unseen'),
        ({'validation_seeds': [1001, 1003]}, 'overlap'),
        ({'train_seeds': [5, 5]}, 'train_seeds is empty'),
    ],
)
def test_what_is_measured_was_never_trained_on(change, match):
    with pytest.raises(ConfigError, match=match):
        load_config(WorldConfig, {**SOURCE, **change})


@pytest.mark.parametrize('size', [[8, 960], [544, 9000], [-16, 96]])
def test_a_size_that_cannot_be_rendered_is_refused_before_the_folder_is_made(size):
    with pytest.raises(ConfigError, match=r'camera size .* is outside 16\.\.8192 px'):
        load_config(WorldConfig, {**SOURCE, 'size': size})


def test_other_taxonomies_are_refused():
    config = load_config(WorldConfig, SOURCE)
    with pytest.raises(DatasetError, match='no class of falcon10 has the name of one of goose64'):
        config.frames('train', load_taxonomy('goose64'))


def test_renders_what_is_missing_and_nothing_else(tmp_path):
    source = {**SOURCE, 'root': str(tmp_path), 'size': [64, 96], 'frames_per_seed': 1}
    config = load_config(WorldConfig, source, ['num_workers=1', 'cameras=[windshield]'])
    frames = config.frames('validation', load_taxonomy('falcon10'))
    assert len(frames) == 1
    image, label_map = frames.read(0)
    assert image.shape == (64, 96, 3)
    assert len(np.unique(label_map)) > 2
    written = {path: path.stat().st_mtime_ns for path in Path(tmp_path).rglob('*.png')}
    config.frames('validation', load_taxonomy('falcon10'))
    assert written == {path: path.stat().st_mtime_ns for path in Path(tmp_path).rglob('*.png')}
    assert not (tmp_path / 'train').exists()

    other = load_config(WorldConfig, {**source, 'cameras': ['windshield'], 'size': [32, 96]})
    with pytest.raises(StaleDatasetError, match=r'got size \[64, 96\], expected size \[32, 96\]'):
        other.frames('validation', load_taxonomy('falcon10'))
