from pathlib import Path
import pickle

import numpy as np
import pytest

from offroad_seg_core.config import ConfigError, load_config, read_yaml
from offroad_seg_core.datasets import DatasetConfig, load_dataset
from offroad_seg_core.datasets.label_source import find_mapping
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.mixed import MixedConfig
from offroad_seg_core.taxonomy import TaxonomyError, load_taxonomy

EXAMPLES = Path(__file__).parents[3] / 'config' / 'data'


@pytest.fixture
def sources(make_tree, tmp_path):
    """Return three sources: 1 frame of cc, 4 of w0 and 2 of RELLIS-3D's 00000."""
    for name, stems in (('one', ['cc1']), ('four', ['cc1', 'w01', 'w02', 'w03'])):
        make_tree([f'Color_Images/{stem}.png' for stem in stems], root=tmp_path / name)
        make_tree([f'Segmentation/{stem}.png' for stem in stems], 7100, tmp_path / name)
    for stem in 'ab':
        make_tree(f'00000/pylon_camera_node/{stem}.jpg', root=tmp_path / 'rellis')
        make_tree(f'00000/pylon_camera_node_label_id/{stem}.png', 7, tmp_path / 'rellis')
    return [
        {'dataset': {'kind': 'falcon', 'root': str(tmp_path / 'one'), 'holdout': None}},
        {'dataset': {'kind': 'falcon', 'root': str(tmp_path / 'four'), 'holdout': None}},
        {
            'dataset': {
                'kind': 'rellis3d',
                'root': str(tmp_path / 'rellis'),
                'validation': [],
                'mapping': 'rellis3d_to_falcon10',
            }
        },
    ]


def mixed(sources, **extra):
    return load_config(
        MixedConfig, {'kind': 'mixed', 'taxonomy': 'falcon10', 'sources': sources, **extra}
    )


class TestMixed:
    def test_shares_do_not_depend_on_sizes(self, sources):
        sources[1]['weight'] = 2
        frames = mixed(sources).frames('train', load_taxonomy('falcon10'))
        weights = frames.weights
        assert len(frames) == 7
        assert weights.sum() == pytest.approx(7)
        assert weights[0] == pytest.approx(7 / 4)
        assert weights[1:5].tolist() == pytest.approx([7 * 2 / 4 / 4] * 4)
        assert weights[5:].tolist() == pytest.approx([7 / 4 / 2] * 2)

    def test_every_source_has_its_reader(self, sources):
        frames = mixed(sources).frames('train', load_taxonomy('falcon10'))
        names = frames.taxonomy.names
        label_maps = [frames.read(index)[1] for index in range(7)]
        assert {names[np.unique(m).item()] for m in label_maps[:5]} == {'Landscape'}
        assert {names[np.unique(m).item()] for m in label_maps[5:]} == {'Sky'}
        assert frames.reader_of(1).source.name == 'falcon10'
        assert frames.reader_of(6).source.name == 'rellis3d'
        with pytest.raises(DatasetError, match='the labels are read in several ways'):
            _ = frames.reader
        assert frames.subset([5, 6]).reader.source.name == 'rellis3d'

    def test_equal_environments_are_told_apart(self, sources):
        frames = mixed(sources).frames('train', load_taxonomy('falcon10'))
        places = [item.environment for item in frames.files]
        assert places == ['falcon-1/cc', 'falcon-2/cc', 'w0', 'w0', 'w0', '00000', '00000']
        sources[0]['name'] = 'canyon'
        frames = mixed(sources).frames('train', load_taxonomy('falcon10'))
        assert frames.files[0].environment == 'canyon/cc'

    def test_validation_is_of_every_source_that_has_some(self, sources):
        taxonomy = load_taxonomy('falcon10')
        sources[1]['dataset']['holdout'] = 'w0'
        sources[2]['dataset']['validation'] = ['00000']
        with pytest.raises(DatasetError, match='no frames for validation, holdout is null'):
            mixed(sources).frames('validation', taxonomy)
        sources[0]['splits'] = ['train']
        frames = mixed(sources).frames('validation', taxonomy)
        assert [item.environment for item in frames.files] == ['w0'] * 3 + ['00000'] * 2
        for source in sources:
            source['splits'] = ['train']
        with pytest.raises(DatasetError, match='no source has the split validation'):
            mixed(sources).frames('validation', taxonomy)

    def test_survives_pickling(self, sources):
        frames = mixed(sources).frames('train', load_taxonomy('falcon10'))
        again = pickle.loads(pickle.dumps(frames))
        assert again.files == frames.files
        assert np.array_equal(again.read(6)[1], frames.read(6)[1])
        with pytest.raises(DatasetError, match='several ways'):
            _ = again.reader

    def test_target_is_one(self, sources):
        with pytest.raises(DatasetError, match='mixed in falcon10, not in rugd; set the same'):
            mixed(sources).frames('train', load_taxonomy('rugd'))

    @pytest.mark.parametrize(
        ('change', 'match'),
        [
            ({'weight': 0}, r'sources\.0\.weight: got 0'),
            ({'weight': float('nan')}, r'sources\.0\.weight: got nan'),
            ({'name': 'falcon-2'}, "two sources are named 'falcon-2'"),
            ({'splits': []}, r'sources\.0\.splits'),
            ({'dataset': {'kind': 'mixed', 'sources': []}}, r'sources\.0\.dataset'),
            ({'dataset': {'kind': 'rugd', 'rot': 'x'}}, "unknown key; did you mean 'root'"),
        ],
    )
    def test_bad_sources(self, sources, change, match):
        sources[0] |= change
        with pytest.raises(ConfigError, match=match):
            mixed(sources)

    def test_no_sources(self):
        with pytest.raises(ConfigError, match='sources'):
            mixed([])


class TestMapping:
    def test_equal_classes_need_none(self):
        taxonomy = load_taxonomy('rugd')
        assert find_mapping(taxonomy, taxonomy, None) is None

    def test_nothing_vanishes_silently(self):
        rellis, rugd = load_taxonomy('rellis3d'), load_taxonomy('rugd')
        with pytest.raises(DatasetError) as caught:
            find_mapping(rellis, rugd, None)
        message = str(caught.value)
        assert 'classes of rellis3d are not in rugd: ' in message
        for name in set(rellis.names) - set(rugd.names):
            assert name in message
        assert 'set mapping to rellis3d_to_rugd, or set mapping to by_name to ignore' in message
        mapping = find_mapping(rellis, rugd, 'by_name')
        assert mapping.pairs['grass'] == 'grass'
        assert {name for name, goal in mapping.pairs.items() if goal is None} == set(
            rellis.names
        ) - set(rugd.names)

    def test_no_name_in_common(self):
        source, target = load_taxonomy('ycor'), load_taxonomy('falcon10')
        with pytest.raises(DatasetError, match='no class of ycor has the name of one of falcon10'):
            find_mapping(source, target, 'by_name')

    def test_files(self, tmp_path):
        rellis, rugd = load_taxonomy('rellis3d'), load_taxonomy('rugd')
        assert find_mapping(rellis, rugd, 'rellis3d_to_rugd').target_names == rugd.names
        with pytest.raises(TaxonomyError, match='rellis3d_to_ruqd'):
            find_mapping(rellis, rugd, 'rellis3d_to_ruqd')
        with pytest.raises(TaxonomyError, match='target'):
            find_mapping(rellis, load_taxonomy('goose64'), 'rellis3d_to_rugd')


class TestExamples:
    @pytest.mark.parametrize(
        ('name', 'kind'),
        [
            ('falcon', 'falcon'),
            ('goose', 'goose'),
            ('rugd', 'rugd'),
            ('rellis3d', 'rellis3d'),
            ('my_own', 'pairs'),
            ('mixed', 'mixed'),
        ],
    )
    def test_load(self, name, kind):
        config = load_dataset(EXAMPLES / f'{name}.yaml')
        assert config.kind == kind

    def test_every_example_is_tested(self):
        names = {path.stem for path in EXAMPLES.glob('*.yaml') if 'kind' in read_yaml(path)}
        assert names == {'falcon', 'goose', 'rugd', 'rellis3d', 'my_own', 'mixed'}

    def test_overrides(self, tmp_path):
        config = load_dataset(EXAMPLES / 'goose.yaml', [f'root={tmp_path}', 'cameras=[front]'])
        assert config.root == tmp_path
        assert config.cameras == ('front',)

    def test_own_frames(self, make_tree):
        make_tree('images/a/1.jpg')
        root = make_tree('masks/a/1.png', 4)
        classes = EXAMPLES / 'my_classes.yaml'
        config = load_dataset(EXAMPLES / 'my_own.yaml', [f'root={root}', f'taxonomy={classes}'])
        frames = config.frames('train', config.native_taxonomy())
        assert frames.taxonomy.names[frames.read(0)[1][0, 0]] == 'sky'

    def test_mixture_finds_its_mappings(self):
        config = load_dataset(EXAMPLES / 'mixed.yaml')
        target = config.native_taxonomy()
        for source in config.sources:
            find_mapping(source.dataset.native_taxonomy(), target, source.dataset.mapping)

    def test_mistakes_are_named(self, tmp_path):
        (tmp_path / 'd.yaml').write_text('kind: gose\nroot: x\n')
        with pytest.raises(ConfigError, match=r"d\.yaml.*'gose'.*'goose'"):
            load_dataset(tmp_path / 'd.yaml')
        (tmp_path / 'd.yaml').write_text('kind: goose\nrot: x\ncameras: [rear]\n')
        with pytest.raises(ConfigError) as caught:
            load_config(DatasetConfig, tmp_path / 'd.yaml')
        message = str(caught.value)
        assert "rot: unknown key; did you mean 'root'?" in message
        assert "cameras.0: got 'rear'" in message
