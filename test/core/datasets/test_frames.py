import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.datasets.folder import FolderConfig
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.taxonomy import load_taxonomy

SIZE = (6, 8)


@pytest.fixture(scope='module')
def taxonomy():
    return load_taxonomy('falcon10')


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def write_frame(root, stem, ids):
    write(root / 'images' / f'{stem}.png', np.zeros((*SIZE, 3), np.uint8))
    write(root / 'labels' / f'{stem}.png', np.full(SIZE, ids, np.uint8))


@pytest.fixture
def falcon(tmp_path):
    raw = np.full(SIZE, 7100, np.uint16)
    raw[0], raw[1, 0] = 10000, 550
    for stem in ('cc0000001', 'cc0000002', 'w0000001', 'ww10000001'):
        write(tmp_path / 'Color_Images' / f'{stem}.png', np.zeros((*SIZE, 3), np.uint8))
        write(tmp_path / 'Segmentation' / f'{stem}.png', raw)
    return tmp_path


class TestFolder:
    def test_pairs_by_stem_in_order(self, tmp_path, taxonomy):
        for split, stems in (('train', 'ba'), ('validation', 'c')):
            for stem in stems:
                write_frame(tmp_path / split, stem, ord(stem) - ord('a'))
        config = FolderConfig('folder', tmp_path)
        frames = config.frames('train', taxonomy)
        assert [files.stem for files in frames.files] == ['a', 'b']
        image, label_map = frames.read(1)
        assert image.shape == (*SIZE, 3)
        assert np.array_equal(label_map, np.full(SIZE, 1))
        assert len(config.frames('validation', taxonomy)) == 1

    def test_missing_partners_are_named(self, tmp_path, taxonomy):
        for stem in 'abc':
            write_frame(tmp_path / 'train', stem, 0)
        (tmp_path / 'train' / 'labels' / 'a.png').unlink()
        (tmp_path / 'train' / 'images' / 'c.png').unlink()
        match = r'1 images have no label: images/a\.png; 1 labels have no image: labels/c\.png'
        with pytest.raises(DatasetError, match=match):
            FolderConfig('folder', tmp_path).frames('train', taxonomy)

    def test_two_pictures_of_one_stem(self, tmp_path, taxonomy):
        write_frame(tmp_path / 'train', 'a', 0)
        write(tmp_path / 'train' / 'images' / 'a.jpg', np.zeros((*SIZE, 3), np.uint8))
        with pytest.raises(
            DatasetError,
            match=r'1 times two files share .*: images/a\.(jpg|png) and images/a\.(jpg|png);',
        ):
            FolderConfig('folder', tmp_path).frames('train', taxonomy)

    def test_empty_and_missing_folders(self, tmp_path, taxonomy):
        config = FolderConfig('folder', tmp_path)
        with pytest.raises(DatasetError, match='images: no such folder'):
            config.frames('train', taxonomy)
        for name in ('images', 'labels'):
            (tmp_path / 'train' / name).mkdir(parents=True)
        with pytest.raises(DatasetError, match='no frames'):
            config.frames('train', taxonomy)

    def test_sizes_must_agree(self, tmp_path, taxonomy):
        write_frame(tmp_path / 'train', 'a', 0)
        write(tmp_path / 'train' / 'labels' / 'a.png', np.zeros((3, 8), np.uint8))
        frames = FolderConfig('folder', tmp_path).frames('train', taxonomy)
        with pytest.raises(DatasetError, match=r'size \(3, 8\), but the image a.png has \(6, 8\)'):
            frames.read(0)

    def test_cache_and_pixel_counts(self, tmp_path, taxonomy):
        for index, stem in enumerate('abc'):
            write_frame(tmp_path / 'train', stem, index)
        frames = FolderConfig('folder', tmp_path).frames('train', taxonomy)
        assert frames.pixel_counts(step=1).tolist() == [48, 48, 48] + [0] * 7
        frame_gb = SIZE[0] * SIZE[1] * 4 / 1e9
        assert frames.cache(2.5 * frame_gb) == 2
        assert frames.read(0)[0] is frames.read(0)[0]
        assert frames.read(2)[0] is not frames.read(2)[0]


class TestFalcon:
    def test_leaves_one_environment_out(self, falcon, taxonomy):
        config = FalconConfig('falcon', falcon, 'cc')
        train, validation = (config.frames(split, taxonomy) for split in ('train', 'validation'))
        assert [files.stem for files in train.files] == ['w0000001', 'ww10000001']
        assert {files.environment for files in validation.files} == {'cc'}
        assert len(validation) == 2

    def test_raw_ids_become_class_ids(self, falcon, taxonomy):
        label_map = FalconConfig('falcon', falcon, 'w0').frames('validation', taxonomy).read(0)[1]
        assert label_map.dtype == np.uint8
        assert label_map[:2, :2].tolist() == [[9, 9], [4, 8]]

    def test_unknown_raw_values_name_file_value_and_count(self, falcon, taxonomy):
        write(falcon / 'Segmentation' / 'w0000001.png', np.full(SIZE, 123, np.uint16))
        frames = FalconConfig('falcon', falcon, 'w0').frames('validation', taxonomy)
        with pytest.raises(DatasetError, match=r'w0000001\.png.*123\D+48'):
            frames.read(0)

    def test_real_frames(self, falcon_root, taxonomy):
        config = FalconConfig('falcon', falcon_root, 'cc')
        train, validation = (config.frames(split, taxonomy) for split in ('train', 'validation'))
        assert (len(train), len(validation)) == (109, 100)
        image, label_map = validation.read(0)
        assert image.shape == (540, 960, 3)
        assert set(np.unique(label_map)) <= set(range(10))
