import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

from offroad_seg_core.config import ConfigError
from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.pairs import PairsConfig
from offroad_seg_core.taxonomy import TaxonomyError, load_taxonomy

CLASSES = """
name: mine
source: here
classes:
  - {id: 0, name: trail, color: '#b2b099', raw_ids: [300], group: rough, cost: 15}
  - {id: 1, name: sky, color: '#0158ff', raw_ids: [7], group: unknown, cost: 255}
"""


@pytest.fixture
def field(make_tree):
    for place, count in (('north', 3), ('south', 2), ('west', 5)):
        for number in range(count):
            make_tree(f'images/{place}/{number}.JPG')
            make_tree(f'masks/{place}/{number}.png', 300)
    return make_tree('my_classes.yaml', CLASSES)


def load(root, **extra):
    config = {
        'kind': 'pairs',
        'root': str(root),
        'images': 'images/**/*.jpg',
        'labels': 'masks/**/*.png',
        'taxonomy': 'my_classes.yaml',
    }
    path = root / 'my_own.yaml'
    path.write_text(yaml.safe_dump({**config, **extra}))
    return load_dataset(path)


def frames_of(root, split='train', **extra):
    config = load(root, **extra)
    return config.frames(split, config.native_taxonomy())


class TestPairs:
    def test_five_lines(self, field):
        frames = frames_of(field)
        assert len(frames) == 10
        assert [item.environment for item in frames.files][:4] == ['north'] * 3 + ['south']
        image, label_map = frames.read(0)
        assert image.shape == (4, 6, 3)
        assert (label_map == 0).all()
        assert frames.weights.tolist() == [1] * 10

    def test_taxonomy_of_elsewhere(self, field, make_tree):
        with pytest.raises(TaxonomyError, match=r'none\.yaml'):
            frames_of(field, taxonomy='none.yaml')
        assert load(field, taxonomy='rugd').native_taxonomy().name == 'rugd'
        assert (
            load(field, taxonomy=str(field / 'my_classes.yaml')).native_taxonomy().name == 'mine'
        )

    def test_unknown_values(self, field, make_tree):
        make_tree('masks/north/0.png', 301)
        with pytest.raises(DatasetError, match=r'north/0\.png.*301'):
            frames_of(field).read(0)
        assert (frames_of(field, unknown='ignore').read(0)[1] == 255).all()

    def test_suffixes(self, make_tree):
        make_tree(['rgb/a_left.png', 'rgb/b_left.png'])
        root = make_tree(['ids/a_gt.png', 'ids/b_gt.png'], 7)
        make_tree('my_classes.yaml', CLASSES)
        patterns = {'images': 'rgb/*.png', 'labels': 'ids/*.png'}
        with pytest.raises(DatasetError, match=r'2 images have no label: rgb/a_left\.png, rgb/b'):
            frames_of(root, **patterns)
        frames = frames_of(root, image_suffix='_left', label_suffix='_gt', **patterns)
        assert [item.label.name for item in frames.files] == ['a_gt.png', 'b_gt.png']
        assert [item.environment for item in frames.files] == [root.name] * 2

    def test_pairs_by_stem_where_folders_differ(self, make_tree):
        make_tree(['images/day1/a.jpg', 'images/day2/b.jpg'])
        root = make_tree(['masks/b.png', 'masks/a.png'], 7)
        make_tree('my_classes.yaml', CLASSES)
        with pytest.raises(DatasetError, match='the folders do not: set pair_by: stem'):
            frames_of(root)
        frames = frames_of(root, pair_by='stem')
        assert [item.stem for item in frames.files] == ['a', 'b']
        assert [item.environment for item in frames.files] == ['day1', 'day2']
        make_tree('images/day2/a.jpg')
        with pytest.raises(DatasetError, match=r'day1/a\.jpg and images/day2/a\.jpg; keep one'):
            frames_of(root, pair_by='stem')

    def test_frames_without_labels(self, field):
        frames = frames_of(field, labels=None)
        assert frames.files[0].label is None
        with pytest.raises(DatasetError, match=r'north/0\.JPG: has no label; leave'):
            frames.read(0)

    def test_left_out_frames(self, field, make_tree):
        assert len(frames_of(field, exclude=['west/*', '*/0'])) == 3
        make_tree('images/east/0.jpg')
        with pytest.raises(DatasetError, match='1 images have no label'):
            frames_of(field)
        assert len(frames_of(field, skip_unlabelled=True)) == 10

    def test_folders_are_left_out_where_pairs_are_by_stem(self, make_tree):
        make_tree(['images/day1/a.jpg', 'images/day2/b.jpg', 'images/day2/a.jpg'])
        root = make_tree(['masks/b.png', 'masks/a.png'], 7)
        make_tree('my_classes.yaml', CLASSES)
        frames = frames_of(root, pair_by='stem', exclude=['day2/*'])
        assert [item.image.as_posix() for item in frames.files] == [f'{root}/images/day1/a.jpg']

    @pytest.mark.parametrize('pair_by', ['path', 'stem'])
    def test_a_glob_that_leaves_nothing_out(self, field, pair_by, make_tree):
        match = r'exclude: nroth/\* fits no frame, expected what .* such as north/0; mend'
        with pytest.raises(DatasetError, match=match):
            frames_of(field, exclude=['west/*', 'nroth/*'], pair_by=pair_by)
        make_tree('masks/north/9.png', 300)  # a label alone may be left out too
        assert len(frames_of(field, exclude=['north/9'])) == 10

    def test_nothing_fits(self, field):
        with pytest.raises(DatasetError, match=r'no file fits images/\*\*/\*\.png'):
            frames_of(field, images='images/**/*.png', labels=None)


class TestEnvironment:
    def test_regular_expression(self, field):
        frames = frames_of(field, environment='images/(n|s|w)')
        assert {item.environment for item in frames.files} == {'n', 's', 'w'}
        with pytest.raises(
            DatasetError, match=r"'images/\(n\)' is not found in 7 paths: images/s"
        ):
            frames_of(field, environment='images/(n)')

    @pytest.mark.parametrize(
        ('regex', 'match'),
        [('images/.*', 'has 0 groups, expected 1'), ('(', 'no regular expression')],
    )
    def test_bad_expressions(self, field, regex, match):
        with pytest.raises(ConfigError, match=match):
            load(field, environment=regex)


class TestValidation:
    def test_none(self, field):
        with pytest.raises(
            DatasetError, match='no frames for validation; set validation to globs'
        ):
            frames_of(field, 'validation')

    def test_globs(self, field, caplog):
        frames = frames_of(field, 'validation', validation=['images/south/*'])
        assert {item.environment for item in frames.files} == {'south'}
        assert len(frames_of(field, validation=['images/south/*'])) == 8
        assert 'alike' not in caplog.text
        frames_of(field, validation=['images/south/0.*'])
        assert 'train and validation share the environments south' in caplog.text
        match = r'validation: images/x/\* fits no image; paths look like images/north/0\.JPG'
        with pytest.raises(DatasetError, match=match):
            frames_of(field, validation=['images/south/*', 'images/x/*'])

    def test_globs_below_the_working_directory(self, field, monkeypatch):
        monkeypatch.chdir(field)
        config = PairsConfig(
            'pairs', Path('.'), 'images/**/*.jpg', None, 'rugd', validation=('images/south/*',)
        )
        assert len(config.frames('validation', config.native_taxonomy())) == 2

    @pytest.mark.parametrize(('share', 'count'), [(0.2, 2), (0.3, 3), (0.5, 5), (0.8, 8)])
    def test_share_is_of_whole_environments(self, field, share, count, caplog):
        with caplog.at_level(logging.INFO):
            validation = frames_of(field, 'validation', validation=share)
        train = frames_of(field, validation=share)
        places = [{item.environment for item in part.files} for part in (train, validation)]
        assert not places[0] & places[1]
        assert places[0] | places[1] == {'north', 'south', 'west'}
        assert len(train) + len(validation) == 10
        assert abs(len(validation) - count) <= 2
        assert f'{len(validation)} of 10 frames to validate on' in caplog.text

    def test_share_of_one_environment(self, field):
        with pytest.raises(DatasetError, match='all frames are of images; set environment so'):
            frames_of(field, validation=0.2, environment='^(images)')

    @pytest.mark.parametrize('share', [0.0, 1.0, 20.0])
    def test_impossible_shares(self, field, share):
        with pytest.raises(ConfigError, match='expected one between 0 and 1'):
            load(field, validation=share)


def test_subset_keeps_order_and_weights(field):
    frames = frames_of(field)
    frames.weights[:] = np.arange(10)
    part = frames.subset([7, 2])
    assert [item.image for item in part.files] == [frames.files[i].image for i in (7, 2)]
    assert part.weights.tolist() == [7, 2]
    assert part.reader is frames.reader
    assert part.read(0)[0].shape == (4, 6, 3)
    with pytest.raises(DatasetError, match='no frames'):
        frames.subset([])


def test_config_is_frozen(field):
    config = PairsConfig('pairs', field, 'a/*', None, 'rugd')
    with pytest.raises(AttributeError):
        config.images = 'b/*'
    assert config.native_taxonomy() == load_taxonomy('rugd')
