import pickle

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from offroad_seg_core.datasets.mask_writing import encode_mask
from offroad_seg_core.datasets.masks import DatasetError, MaskReader
from offroad_seg_core.label_mapping import LabelMapping, load_mapping
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

FALCON_RAW = (100, 200, 300, 500, 550, 600, 700, 800, 7100, 10000)


def reader(name, format, **options):
    return MaskReader(load_taxonomy(name), format, **options)


def write(path, array):
    """Write ids, or an RGB picture, as a PNG file."""
    bgr = array[..., ::-1] if array.ndim == 3 else array
    assert cv2.imwrite(str(path), np.ascontiguousarray(bgr))
    return path


class TestRawIds:
    def test_by_hand(self, tmp_path):
        path = write(tmp_path / 'a.png', np.array([[100, 10000, 7100], [550, 600, 800]], 'u2'))
        falcon10 = reader('falcon10', 'raw_ids')
        assert falcon10.read(path).tolist() == [[0, 9, 8], [4, 5, 7]]
        assert falcon10.read(path).dtype == np.uint8
        assert falcon10.read_stored(path).dtype == np.uint16
        assert reader('falcon7', 'raw_ids').read(path).tolist() == [[0, 6, 5], [255, 255, 4]]
        path = write(tmp_path / 'b.png', np.array([[0, 63]], 'u1'))
        assert reader('goose64', 'raw_ids').read(path).tolist() == [[0, 63]]

    def test_ids_with_gaps(self, tmp_path):
        path = write(tmp_path / 'a.png', np.array([[0, 1, 3], [34, 27, 23]], 'u1'))
        assert reader('rellis3d', 'raw_ids').read(path).tolist() == [[255, 0, 1], [18, 15, 14]]

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.sampled_from(FALCON_RAW), min_size=1, max_size=50))
    def test_encode_inverts_the_table(self, values):
        falcon = reader('falcon10', 'raw_ids')
        labels = falcon.encode(np.array([values], np.uint16))
        assert [falcon.source.classes[label].raw_ids[0] for label in labels[0]] == values

    def test_unknown_values_are_named(self):
        mask = np.array([[100, 550, 16], [16, 13, 100]], np.uint16)
        match = (
            r'^frame\.png: got unknown raw ids 13 \(1 px\), 16 \(2 px\); expected those of '
            r"falcon7: 100 Trees, .*10000 Sky, 550 ignored.*unknown to 'ignore'.*ignored_raw_ids$"
        )
        with pytest.raises(DatasetError, match=match):
            reader('falcon7', 'raw_ids').encode(mask, 'frame.png')
        with pytest.raises(DatasetError, match='and 988 more values; expected'):
            reader('falcon7', 'raw_ids').encode(np.arange(11000, 12000, dtype='u2')[None])

    def test_unknown_values_are_void_on_request(self):
        mask = np.array([[100, 550, 16]], np.uint16)
        tolerant = reader('falcon10', 'raw_ids', unknown='ignore')
        assert tolerant.encode(mask).tolist() == [[0, 4, 255]]
        assert tolerant.labels_of(np.array([16, 100])).tolist() == [-1, 0]

    def test_squeezed_to_eight_bits(self, tmp_path):
        raw = np.array([[7100, 10000, 100]], np.uint16)
        path = write(tmp_path / 'a.png', (raw >> 8).astype(np.uint8))
        match = (
            r'a\.png: got unknown raw ids 0 \(1 px\), 27 \(1 px\), 39 \(1 px\);.*the file has 8 '
            r'bits, but falcon10 has raw ids up to 10000: either 16 bits were squeezed into 8 '
            r'\(10000 becomes 39; .*\), or this is a mask of another dataset'
        )
        with pytest.raises(DatasetError, match=match):
            reader('falcon10', 'raw_ids').read(path)

    def test_eight_bits_are_fine_where_the_values_are_known(self, tmp_path):
        path = write(tmp_path / 'a.png', np.array([[100, 200]], np.uint8))
        assert reader('falcon10', 'raw_ids').read(path).tolist() == [[0, 1]]

    def test_class_ids_are_recognised(self):
        with pytest.raises(DatasetError, match="class ids, set the mask format to 'class_ids'"):
            reader('falcon10', 'raw_ids').encode(np.array([[0, 9, 255]], np.uint16))

    def test_grey_in_three_channels_is_read_as_ids(self, tmp_path):
        ids = np.array([[1, 3], [34, 0]], np.uint8)
        for channels in (3, 4):
            picture = np.repeat(ids[..., None], channels, axis=2)
            picture[..., 3:] = 255
            assert cv2.imwrite(str(tmp_path / 'a.png'), picture)
            found = reader('rellis3d', 'raw_ids').read(tmp_path / 'a.png')
            assert found.tolist() == [[0, 1], [18, 255]]

    def test_colours_are_no_ids(self, tmp_path):
        path = write(tmp_path / 'a.png', np.array([[[1, 1, 1], [1, 1, 2]]], np.uint8))
        match = r"a\.png: got a colour picture \(3 channels\), expected ids; set .* to 'colors'"
        with pytest.raises(DatasetError, match=match):
            reader('rellis3d', 'raw_ids').read(path)

    def test_indexed_file_is_no_ids(self, tmp_path):
        path = tmp_path / 'a.png'
        path.write_bytes(encode_mask(np.zeros((2, 2), 'u1'), load_taxonomy('ycor'), 'palette'))
        with pytest.raises(DatasetError, match=r"got an indexed PNG.*'palette' if.*'colors' if"):
            reader('ycor', 'raw_ids').read(path)

    def test_single_bits_are_ambiguous(self, tmp_path):
        Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / 'a.png')
        with pytest.raises(DatasetError, match='got 1 bits a pixel, expected 8 or 16'):
            reader('rellis3d', 'raw_ids').read(tmp_path / 'a.png')

    def test_floats_are_no_ids(self, tmp_path):
        assert cv2.imwrite(str(tmp_path / 'a.tiff'), np.zeros((2, 2), np.float32))
        with pytest.raises(DatasetError, match='got float32 values, expected uint8 or uint16'):
            reader('rellis3d', 'raw_ids').read(tmp_path / 'a.tiff')

    def test_real_masks(self, falcon_root):
        falcon = reader('falcon10', 'raw_ids')
        for path in sorted((falcon_root / 'Segmentation').glob('*.png'))[::40]:
            raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            expected = np.searchsorted(FALCON_RAW, raw)
            np.testing.assert_array_equal(falcon.read(path), expected)


class TestClassIds:
    def test_values(self, tmp_path):
        ids = np.array([[0, 9, 255]], np.uint8)
        path = write(tmp_path / 'a.png', ids)
        assert np.array_equal(reader('falcon10', 'class_ids').read(path), ids)
        path = write(tmp_path / 'a.png', ids.astype(np.uint16))
        assert np.array_equal(reader('falcon10', 'class_ids').read(path), ids)

    def test_unknown_ids_are_named(self, tmp_path):
        path = write(tmp_path / 'a.png', np.array([[0, 10, 255], [10, 200, 9]], np.uint8))
        match = (
            r'a\.png: got unknown class ids 10 \(2 px\), 200 \(1 px\); expected those of '
            r"falcon10: 0 to 9, or 255; if these are raw ids, set the mask format to 'raw_ids'"
        )
        with pytest.raises(DatasetError, match=match):
            reader('falcon10', 'class_ids').read(path)

    def test_every_byte_may_be_a_class(self):
        """255 classes leave no byte that could mark unknown values."""
        ground = {'group': 'rough', 'cost': 20}
        classes = [
            {'id': i, 'name': str(i), 'color': [0, 0, i], 'raw_ids': [i], **ground}
            for i in range(255)
        ]
        full = Taxonomy.from_dict({'name': 'full', 'source': 'a test', 'classes': classes})
        ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
        assert np.array_equal(MaskReader(full, 'class_ids').encode(ids), ids)
        with pytest.raises(DatasetError, match=r'unknown raw ids 255 \(1 px\)'):
            MaskReader(full, 'raw_ids').encode(ids)


class TestFiles:
    @pytest.mark.parametrize('format', ['class_ids', 'raw_ids', 'colors', 'palette'])
    def test_broken_files(self, tmp_path, format):
        broken = reader('ycor', format)
        path = tmp_path / 'a.png'
        with pytest.raises(DatasetError, match=r'a\.png: no such file'):
            broken.read(path)
        path.touch()
        with pytest.raises(DatasetError, match=r'empty file \(0 bytes\)'):
            broken.read(path)
        data = encode_mask(np.zeros((40, 40), 'u1'), broken.source, format)
        path.write_bytes(data[:-20])
        with pytest.raises(DatasetError, match='PNG file without its end'):
            broken.read(path)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / 'a.jpg')
        with pytest.raises(DatasetError, match='got a JPEG file, which changes values'):
            broken.read(tmp_path / 'a.jpg')

    def test_turned_masks_are_refused(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / 'a.png', exif=exif)
        with pytest.raises(DatasetError, match='EXIF orientation 3'):
            reader('ycor', 'raw_ids').read(tmp_path / 'a.png')

    @pytest.mark.parametrize(
        ('format', 'stored'),
        [
            ('raw_ids', np.zeros((2, 2, 3), np.uint8)),
            ('raw_ids', np.zeros((2, 2), np.int32)),
            ('class_ids', np.zeros(4, np.uint16)),
            ('colors', np.zeros((2, 2), np.uint8)),
        ],
    )
    def test_other_arrays_are_refused(self, format, stored):
        with pytest.raises(DatasetError, match=r'expected .H, W. uint.*read_stored'):
            reader('rugd', format).encode(stored)

    @pytest.mark.parametrize(
        ('format', 'dtype'), [('raw_ids', 'u1'), ('raw_ids', 'u2'), ('colors', 'u4')]
    )
    def test_no_pixels(self, format, dtype):
        label_map = reader('rugd', format).encode(np.zeros((0, 5), dtype))
        assert label_map.shape == (0, 5)
        assert label_map.dtype == np.uint8


class TestMapping:
    def test_label_maps_are_of_the_target(self):
        rugd, goose = load_taxonomy('rugd'), load_taxonomy('goose64')
        mapped = MaskReader(rugd, 'raw_ids', load_mapping('rugd_to_goose64', rugd, goose))
        assert mapped.target_names == goose.names
        stored = np.array([[1, 3, 0, 21]], np.uint8)  # dirt, grass, void, rock
        expected = [[goose.index('soil'), 255, 255, goose.index('rock')]]
        assert mapped.encode(stored).tolist() == expected
        assert mapped.labels_of(np.array([1, 3, 0, 99])).tolist() == [31, 255, 255, -1]
        with pytest.raises(DatasetError, match=r'unknown raw ids 99 \(1 px\); expected .* rugd'):
            mapped.encode(np.array([[99]], np.uint8))

    def test_of_another_source_is_refused(self):
        mapping = LabelMapping.by_name(load_taxonomy('falcon10'), load_taxonomy('falcon7'))
        with pytest.raises(DatasetError, match='falcon10 to falcon7: its source classes are not'):
            MaskReader(load_taxonomy('rugd'), 'raw_ids', mapping)

    def test_readers_travel_to_workers_without_tables(self):
        rugd = reader('rugd', 'colors')
        stored = np.array([[0x6C4014, 0]], np.uint32)
        expected = rugd.encode(stored)
        data = pickle.dumps(rugd)
        assert len(data) < 50_000
        again = pickle.loads(data)
        assert again == rugd
        assert np.array_equal(again.encode(stored), expected)
