from dataclasses import replace
from pathlib import Path

import pytest

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.datasets.acquisition.archives import ArchiveError
from offroad_seg_core.datasets.acquisition.goose_config import ArchiveConfig, GooseDownloadConfig
from offroad_seg_core.datasets.acquisition.goose_layout import combined_path, describe
from offroad_seg_core.datasets.goose import GooseConfig
from offroad_seg_core.taxonomy import load_taxonomy

SHIPPED = Path(__file__).parents[4] / 'config' / 'data' / 'goose_download.yaml'


class TestLayout:
    @pytest.mark.parametrize(
        ('member', 'path'),
        [
            ('images/train/s/a_front.png', 'images/train/s/a_front.png'),
            ('./top/labels/val/s/a_color.png', 'labels/val/s/a_color.png'),
            ('LICENSE', 'about/goose_2d_val/LICENSE'),
            ('docs/images.txt', 'about/goose_2d_val/docs/images.txt'),
            ('__MACOSX/images/train/s/._a.png', None),
            ('images/train/s/.DS_Store', None),
        ],
    )
    def test_combined_path(self, member, path):
        assert combined_path(member, 'goose_2d_val.tar.gz') == path

    @pytest.mark.parametrize(
        'member',
        ['images/a.png', 'images/train/a.png', 'images/night/s/a.png', 'images/train/s/x/a'],
    )
    def test_other_layouts_are_refused(self, member):
        with pytest.raises(ArchiveError, match='expected images/<split>/<scenario>/<file>'):
            combined_path(member, 'goose_2d_val.zip')

    def test_describe(self):
        file = describe('images/val/s/base_1_camera_left.png')
        assert file == ('images', 'val', 's', 'base_1', 'camera_left')
        assert describe('labels/val/s/base_1_labelids.png').part == 'labelids'
        assert describe('images/val/s/base.png') == ('images', 'val', 's', 'base', 'other')
        assert describe('about/goose/LICENSE') is None


def test_the_dataset_finds_its_frames_in_the_tree(goose, tmp_path):
    for archive, files in goose.tiny_goose().items():
        for member, content in files.items():
            path = tmp_path / combined_path(member, archive)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    taxonomy = load_taxonomy('goose64')
    files = GooseConfig(kind='goose', root=tmp_path).frames('train', taxonomy).files
    assert [f.environment for f in files] == ['2022-08-30_feldwege', 'alice_scenario01']
    assert files[1].image.name == f'{goose.EX_TRAIN}_camera_left.png'
    assert files[1].label.name == f'{goose.EX_TRAIN}_labelids.png'


class TestConfig:
    def test_the_shipped_file(self):
        config = load_config(GooseDownloadConfig, SHIPPED)
        assert len(config.archives) == 6
        assert all(a.url == f'https://goose-dataset.de/storage/{a.name}' for a in config.archives)
        assert all(a.sha256 is None and a.size_bytes is None for a in config.archives)

    @pytest.mark.parametrize(
        ('archive', 'problem'),
        [
            ({'name': '../a.zip', 'url': 'https://host/a.zip'}, 'expected a file name'),
            ({'name': 'a.zip', 'url': 'file:///a.zip'}, 'expected an http'),
            ({'name': 'a.zip', 'url': 'https://host/a', 'sha256': 'ABC'}, 'expected 64 digits'),
        ],
    )
    def test_bad_archives(self, archive, problem):
        with pytest.raises(ConfigError, match=problem):
            load_config(GooseDownloadConfig, {'root': 'x', 'archives': [archive]})

    def test_names(self):
        archive = ArchiveConfig(name='goose_2d_train.zip', url='https://host/a.zip')
        config = GooseDownloadConfig(root=Path('data'), archives=(archive,))
        assert config.only(['goose_2d_train.zip'] * 2) == config
        with pytest.raises(ValueError, match=r'typo\.zip: no such archive; known: goose_2d_train'):
            config.only(['typo.zip'])
        with pytest.raises(ValueError, match='goose_2d_train is listed twice'):
            replace(config, archives=config.archives[:1] * 2)
        with pytest.raises(ValueError, match='got none'):
            replace(config, archives=())
