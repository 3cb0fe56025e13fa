"""The public datasets with a layout of their own; GOOSE and WildScenes have own files."""

import numpy as np
from PIL import Image
import pytest

from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.datasets.freiburg_forest import FreiburgForestConfig
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.rellis3d import Rellis3dConfig
from offroad_seg_core.datasets.rugd import RugdConfig
from offroad_seg_core.datasets.ycor import YcorConfig
from offroad_seg_core.taxonomy import load_taxonomy


def names(frames):
    return [(item.environment, item.stem) for item in frames.files]


def every_pixel(frames, index=0):
    values = np.unique(frames.read(index)[1])
    assert values.size == 1
    return frames.taxonomy.names[values[0]]


class TestFalconWithoutHoldout:
    def test_all_frames_train(self, falcon_root):
        taxonomy = load_taxonomy('falcon10')
        config = FalconConfig('falcon', falcon_root, None)
        frames = config.frames('train', taxonomy)
        assert len(frames) == 209
        assert {item.environment for item in frames.files} == {'cc', 'w0', 'ww'}
        with pytest.raises(DatasetError, match='no frames for validation, holdout is null; set'):
            config.frames('validation', taxonomy)

    def test_any_environment_can_be_held_out(self, make_tree):
        for stem in ('cc1', 'cc2', 'qx1'):
            make_tree(f'Color_Images/{stem}.jpg')
            root = make_tree(f'Segmentation/{stem}.png', 7100)
        taxonomy = load_taxonomy('falcon10')
        config = FalconConfig('falcon', root, 'qx')
        assert names(config.frames('train', taxonomy)) == [('cc', 'cc1'), ('cc', 'cc2')]
        assert names(config.frames('validation', taxonomy)) == [('qx', 'qx1')]
        with pytest.raises(DatasetError, match="got holdout 'w0', expected one of cc, qx"):
            FalconConfig('falcon', root, 'w0').frames('train', taxonomy)

    def test_validation_in_another_folder(self, make_tree):
        make_tree('train/Color_Images/cc1.jpg')
        root = make_tree('train/Segmentation/cc1.png', 7100)
        make_tree('val/Color_Images/cc2.jpg')
        make_tree('val/Segmentation/cc2.png', 7100)
        config = FalconConfig('falcon', root / 'train', None, root / 'val')
        taxonomy = load_taxonomy('falcon10')
        assert names(config.frames('train', taxonomy)) == [('cc', 'cc1')]
        assert names(config.frames('validation', taxonomy)) == [('cc', 'cc2')]
        with pytest.raises(ValueError, match='expected one of them'):
            FalconConfig('falcon', root, 'cc', root)

    @pytest.fixture
    def drives(self, make_tree):
        for stem in ('cc1', 'cc2', 'cc3', 'cc4', 'cc5', 'w01', 'w02'):
            make_tree(f'Color_Images/{stem}.jpg')
            root = make_tree(f'Segmentation/{stem}.png', 7100)
        return root

    def test_a_block_of_every_environment(self, drives):
        taxonomy = load_taxonomy('falcon10')
        config = FalconConfig('falcon', drives, None, validation_block=0.4)
        train, validation = (names(config.frames(s, taxonomy)) for s in ('train', 'validation'))
        assert [name for _, name in train] == ['cc1', 'cc2', 'cc3', 'w01']
        assert [name for _, name in validation] == ['cc4', 'cc5', 'w02']
        with pytest.raises(ValueError, match='got validation_block and adaptation_frames, expec'):
            FalconConfig('falcon', drives, None, validation_block=0.4, adaptation_frames=1)

    def test_blocks_of_known_and_new_places(self, drives):
        taxonomy = load_taxonomy('falcon10')
        config = FalconConfig('falcon', drives, 'cc', validation_block=0.4)
        train, validation = (names(config.frames(s, taxonomy)) for s in ('train', 'validation'))
        assert [name for _, name in train] == ['w01']
        assert [name for _, name in validation] == ['cc4', 'cc5', 'w02']

    @pytest.mark.parametrize(
        ('count', 'expected'), [(1, ['cc2']), (2, ['cc1', 'cc2']), (9, ['cc1', 'cc2'])]
    )
    def test_a_few_frames_of_the_new_place(self, drives, count, expected):
        taxonomy = load_taxonomy('falcon10')
        config = FalconConfig('falcon', drives, 'cc', adaptation_frames=count)
        train, validation = (names(config.frames(s, taxonomy)) for s in ('train', 'validation'))
        assert [name for _, name in train] == expected
        assert [name for _, name in validation] == ['cc3', 'cc4', 'cc5']
        with pytest.raises(ValueError, match='got adaptation_frames without holdout'):
            FalconConfig('falcon', drives, None, adaptation_frames=count)

    def test_other_taxonomies(self, make_tree):
        make_tree('Color_Images/cc1.JPG')
        root = make_tree('Segmentation/cc1.png', 7100)
        config = FalconConfig('falcon', root, None)
        assert every_pixel(config.frames('train', load_taxonomy('falcon7'))) == 'Landscape'
        with pytest.raises(DatasetError, match='rugd'):
            config.frames('train', load_taxonomy('rugd'))


class TestRugd:
    @pytest.fixture
    def rugd(self, make_tree):
        taxonomy = load_taxonomy('rugd')
        sky = taxonomy.classes[taxonomy.index('sky')].color_rgb
        for sequence in ('trail', 'trail-5', 'park-8', 'creek'):
            stem = f'{sequence}/{sequence}_00001'
            make_tree(f'RUGD_frames-with-annotations/{stem}.png')
            root = make_tree(f'RUGD_annotations/{stem}.png', sky)
        make_tree('RUGD_annotations/RUGD_annotation-colormap.txt', '0 void 0 0 0')
        return root

    def test_published_split(self, rugd):
        config, taxonomy = RugdConfig('rugd', rugd), load_taxonomy('rugd')
        assert names(config.frames('train', taxonomy)) == [('trail', 'trail_00001')]
        validation = config.frames('validation', taxonomy)
        assert names(validation) == [('park-8', 'park-8_00001'), ('trail-5', 'trail-5_00001')]
        assert every_pixel(validation) == 'sky'

    def test_other_splits(self, rugd):
        config = RugdConfig('rugd', rugd, validation=('creek',), test=(), exclude=('park-8/*',))
        taxonomy = load_taxonomy('rugd')
        assert names(config.frames('validation', taxonomy)) == [('creek', 'creek_00001')]
        assert len(config.frames('train', taxonomy)) == 2
        with pytest.raises(
            ValueError, match="RUGD has no sequence 'crek'; expected some of creek"
        ):
            RugdConfig('rugd', rugd, validation=('crek',))

    def test_neither_layout(self, tmp_path):
        with pytest.raises(DatasetError, match='holds neither of RUGD_frames-with-annotations'):
            RugdConfig('rugd', tmp_path).frames('train', load_taxonomy('rugd'))

    def test_real_sample(self, rugd_root):
        config, taxonomy = RugdConfig('rugd', rugd_root, test=()), load_taxonomy('rugd')
        train, validation = (config.frames(split, taxonomy) for split in ('train', 'validation'))
        assert (len(train), len(validation)) == (24, 2)
        for index in (0, 12, 23):
            image, label_map = train.read(index)
            assert image.shape == (550, 688, 3)
            assert (label_map < taxonomy.num_classes).mean() > 0.9
        assert train.files[0].environment == 'creek'


class TestRellis3d:
    @pytest.fixture
    def rellis(self, make_tree):
        for frame in ('00000/a', '00000/b', '00003/c', '00004/d'):
            sequence, stem = frame.split('/')
            make_tree(f'{sequence}/pylon_camera_node/{stem}.jpg')
            make_tree(f'{sequence}/os1_cloud_node_kitti_bin/{stem}.bin', 'points')
            root = make_tree(f'{sequence}/pylon_camera_node_label_id/{stem}.png', 3)
        return root

    def write_list(self, folder, file_name, frames):
        lines = [
            f'{s}/pylon_camera_node/{n}.jpg {s}/pylon_camera_node_label_id/{n}.png'
            for s, n in (frame.split('/') for frame in frames)
        ]
        (folder / file_name).write_text('\n'.join(lines) + '\n')

    def test_published_lists(self, rellis, caplog):
        self.write_list(rellis, 'train.lst', ['00000/a', '00004/d'])
        self.write_list(rellis, 'val.lst', ['00003/c'])
        config, taxonomy = Rellis3dConfig('rellis3d', rellis), load_taxonomy('rellis3d')
        train = config.frames('train', taxonomy)
        assert names(train) == [('00000', 'a'), ('00004', 'd')]
        assert every_pixel(train) == 'grass'
        assert names(config.frames('validation', taxonomy)) == [('00003', 'c')]
        assert 'share the sequences' not in caplog.text
        self.write_list(rellis, 'val.lst', ['00000/b'])
        config.frames('validation', taxonomy)
        assert 'train and validation share the sequences 00000' in caplog.text

    def test_bad_lists(self, rellis):
        config, taxonomy = Rellis3dConfig('rellis3d', rellis), load_taxonomy('rellis3d')
        with pytest.raises(DatasetError, match=r'train\.lst: no such file; put the published'):
            config.frames('train', taxonomy)
        self.write_list(rellis, 'train.lst', ['00000/a', '00000/z'])
        self.write_list(rellis, 'val.lst', ['00000/a'])
        with pytest.raises(DatasetError, match='1 frames are in both lists: 00000/a'):
            config.frames('train', taxonomy)
        self.write_list(rellis, 'val.lst', ['00003/c'])
        with pytest.raises(DatasetError, match='1 listed frames are not there: 00000/z; unpack'):
            config.frames('train', taxonomy)
        (rellis / 'val.lst').write_text('a.jpg a.png')
        with pytest.raises(DatasetError, match=r"val\.lst: got 'a\.jpg', expected <sequence>/"):
            config.frames('train', taxonomy)

    def test_held_out_sequences(self, rellis, make_tree):
        taxonomy = load_taxonomy('rellis3d')
        config = Rellis3dConfig('rellis3d', rellis, validation=('00004',))
        assert names(config.frames('validation', taxonomy)) == [('00004', 'd')]
        assert len(config.frames('train', taxonomy)) == 3
        with pytest.raises(
            DatasetError, match='no frames of 00007 to validate on; there are 00000'
        ):
            Rellis3dConfig('rellis3d', rellis, ('00007',)).frames('train', taxonomy)
        make_tree('00000/pylon_camera_node/e.jpg')
        with pytest.raises(DatasetError, match=r'1 images have no label: 00000/.*/e\.jpg'):
            config.frames('train', taxonomy)
        config = Rellis3dConfig('rellis3d', rellis, ('00004',), skip_unlabelled=True)
        assert len(config.frames('train', taxonomy)) == 3

    def test_real_frame(self, rellis3d_root, tmp_path):
        stem = 'frame000104-1581624663_149'
        for folder, suffix in (
            ('pylon_camera_node', 'jpg'),
            ('pylon_camera_node_label_id', 'png'),
        ):
            (tmp_path / '00000' / folder).mkdir(parents=True)
            link = tmp_path / '00000' / folder / f'{stem}.{suffix}'
            link.symlink_to(rellis3d_root / link.name)
        taxonomy = load_taxonomy('rellis3d')
        frames = Rellis3dConfig('rellis3d', tmp_path, ()).frames('train', taxonomy)
        image, label_map = frames.read(0)
        assert image.shape == (1200, 1920, 3)
        found = {taxonomy.names[value] for value in np.unique(label_map) if value != 255}
        assert {'grass', 'sky', 'tree'} <= found


class TestYcor:
    @pytest.fixture
    def ycor(self, make_tree, tmp_path):
        for frame, index in (('train/iid2', 2), ('train/iid1', 8), ('valid/iid1', 1)):
            make_tree(f'{frame}/rgb.jpg')
            mask = Image.fromarray(np.full((4, 6), index, np.uint8), 'P')
            mask.putpalette([255, 255, 255] + [10, 20, 30] * 8)
            mask.save(tmp_path / frame / 'labels.png')
        return tmp_path

    def test_folders_are_the_names(self, ycor):
        config, taxonomy = YcorConfig('ycor', ycor), load_taxonomy('ycor')
        train = config.frames('train', taxonomy)
        assert [item.image.parent.name for item in train.files] == ['iid1', 'iid2']
        assert [item.label.parent.name for item in train.files] == ['iid1', 'iid2']
        assert [every_pixel(train, index) for index in (0, 1)] == ['sky', 'traversable grass']
        assert every_pixel(config.frames('validation', taxonomy)) == 'smooth trail'

    def test_missing_partner(self, ycor):
        (ycor / 'train/iid2/labels.png').unlink()
        with pytest.raises(DatasetError, match=r'1 images have no label: train/iid2/rgb\.jpg'):
            YcorConfig('ycor', ycor).frames('train', load_taxonomy('ycor'))
        config = YcorConfig('ycor', ycor, exclude=('train/iid2',))
        assert len(config.frames('train', load_taxonomy('ycor'))) == 1


class TestFreiburgForest:
    def test_endings_differ(self, make_tree):
        taxonomy = load_taxonomy('freiburg_forest')
        trail, grass = (entry.color_rgb for entry in taxonomy.classes[:2])
        make_tree(['train/rgb/b1-1_Clipped.jpg', 'test/rgb/b1-2_Clipped.jpg'])
        make_tree('train/nir_color/b1-1.png')
        make_tree('train/GT_color/b1-1_mask.png', trail)
        root = make_tree('test/GT_color/b1-2_Clipped.png', grass)
        config = FreiburgForestConfig('freiburg_forest', root)
        train, test = (config.frames(split, taxonomy) for split in ('train', 'validation'))
        assert every_pixel(train) == taxonomy.names[0]
        assert every_pixel(test) == taxonomy.names[1]
        make_tree('train/GT_color/b1-7_mask.png', trail)
        with pytest.raises(DatasetError, match='1 labels have no image: train/GT_color/b1-7_mask'):
            config.frames('train', taxonomy)
