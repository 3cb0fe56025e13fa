import logging

import numpy as np
import pytest

from offroad_seg_core.datasets.faults import known_faults
from offroad_seg_core.datasets.goose import GooseConfig
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.taxonomy import load_taxonomy

FAULT = '2023-05-17_neubiberg_sunny'
SNOW, COBBLE = 2, 3


@pytest.fixture(scope='module')
def taxonomy():
    return load_taxonomy('goose64')


def frame(make_tree, split, scenario, base, camera='windshield_vis', value=SNOW):
    make_tree(f'images/{split}/{scenario}/{base}_{camera}.png')
    root = make_tree(f'labels/{split}/{scenario}/{base}_labelids.png', value)
    color = load_taxonomy('goose64').classes[value].color_rgb
    return make_tree(f'labels/{split}/{scenario}/{base}_color.png', color, root)


@pytest.fixture
def goose(make_tree):
    frame(make_tree, 'train', 's2', 'b')
    frame(make_tree, 'train', 's1', 'a__0001_17', value=COBBLE)
    make_tree('labels/train/s1/a__0001_17_instanceids.png', 7)
    make_tree('images/train/s1/a__0001_17_windshield_nir.png')
    return frame(make_tree, 'val', 's3', 'c')


class TestGoose:
    def test_frames(self, goose, taxonomy):
        frames = GooseConfig('goose', goose).frames('train', taxonomy)
        assert [item.environment for item in frames.files] == ['s1', 's2']
        first = frames.files[0]
        assert first.image == goose / 'images/train/s1/a__0001_17_windshield_vis.png'
        assert first.label == goose / 'labels/train/s1/a__0001_17_labelids.png'
        assert first.instances == goose / 'labels/train/s1/a__0001_17_instanceids.png'
        assert frames.files[1].instances is None
        assert frames.read(0)[1].tolist() == np.full((4, 6), COBBLE).tolist()
        validation = GooseConfig('goose', goose).frames('validation', taxonomy)
        assert [item.environment for item in validation.files] == ['s3']

    def test_colour_masks(self, goose, taxonomy):
        frames = GooseConfig('goose', goose, mask_format='color').frames('train', taxonomy)
        assert frames.files[0].label.name == 'a__0001_17_color.png'
        assert (frames.read(0)[1] == COBBLE).all()

    def test_several_robots_in_one_folder(self, goose, make_tree, taxonomy, caplog):
        frame(make_tree, 'train', 'alice_scenario01', 'alice_0003_16', 'camera_left')
        frame(make_tree, 'train', 'spot_scenario06', 'spot_0000_17', 'realsense')
        assert len(GooseConfig('goose_ex', goose).frames('train', taxonomy)) == 4
        with caplog.at_level(logging.INFO):
            frames = GooseConfig('goose', goose, ('camera_left', 'front')).frames(
                'train', taxonomy
            )
        assert [item.environment for item in frames.files] == ['alice_scenario01']
        assert '3 frames of other cameras left out' in caplog.text

    def test_faults_are_left_out_and_counted(self, goose, make_tree, taxonomy, caplog):
        for base in ('a', 'b'):
            frame(make_tree, 'val', FAULT, base)
        (goose / f'labels/val/{FAULT}/a_labelids.png').unlink()  # not even pairs are wanted
        with caplog.at_level(logging.INFO):
            frames = GooseConfig('goose', goose).frames('validation', taxonomy)
        assert [item.environment for item in frames.files] == ['s3']
        assert '2 files left out (labels do not fit' in caplog.text
        assert 'goose_dataset/issues/12' in caplog.text
        with pytest.raises(DatasetError, match=rf'1 images have no label: images/val/{FAULT}/a_'):
            GooseConfig('goose', goose, exclude_faults=False).frames('validation', taxonomy)

    def test_every_fault_has_a_source(self):
        assert f'val/{FAULT}/*' in known_faults('goose')
        assert all('https://' in why for why in known_faults('goose').values())

    def test_own_exclusions(self, goose, taxonomy):
        frames = GooseConfig('goose', goose, exclude=('train/s1/*',)).frames('train', taxonomy)
        assert [item.environment for item in frames.files] == ['s2']

    def test_one_label_for_two_cameras(self, goose, make_tree, taxonomy):
        make_tree('images/train/s1/a__0001_17_front.png')
        match = '1 frames have images of several cameras but one label: train/s1/a__0001_17; name'
        with pytest.raises(DatasetError, match=match):
            GooseConfig('goose', goose).frames('train', taxonomy)
        config = GooseConfig('goose', goose, ('windshield_vis',))
        assert len(config.frames('train', taxonomy)) == 2

    @pytest.mark.parametrize(
        ('path', 'match'),
        [
            (
                'images/train/s1/x_rear.png',
                r'1 images are of no known camera: .*x_rear\.png; expe',
            ),
            (
                'labels/train/s1/x_ids.png',
                r'1 label files are of no known kind: .*x_ids\.png; exp',
            ),
            ('images/train/s1/x_front.png', r'1 images have no label: .*x_front\.png'),
            ('labels/train/s1/x_labelids.png', r'1 labels have no image: .*x_labelids\.png'),
        ],
    )
    def test_strange_files(self, goose, make_tree, taxonomy, path, match):
        make_tree(path)
        with pytest.raises(DatasetError, match=match):
            GooseConfig('goose', goose).frames('train', taxonomy)

    def test_no_frames_of_a_camera(self, goose, taxonomy):
        with pytest.raises(DatasetError, match=r'\(train\): no frames'):
            GooseConfig('goose', goose, ('front',)).frames('train', taxonomy)
