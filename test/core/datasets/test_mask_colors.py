import itertools

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
import numpy as np
from PIL import Image
import pytest

from offroad_seg_core.datasets.mask_writing import encode_mask
from offroad_seg_core.datasets.masks import DatasetError, MaskReader, count_values
from offroad_seg_core.taxonomy import load_taxonomy


def reader(name, format, **options):
    return MaskReader(load_taxonomy(name), format, **options)


def write(path, array):
    """Write ids, or an RGB picture, as a PNG file."""
    bgr = array[..., ::-1] if array.ndim == 3 else array
    assert cv2.imwrite(str(path), np.ascontiguousarray(bgr))
    return path


class TestColors:
    def test_by_hand(self, tmp_path):
        rgb = np.array([[[108, 64, 20], [0, 0, 255]], [[0, 0, 0], [114, 85, 47]]], np.uint8)
        path = write(tmp_path / 'a.png', rgb)
        rugd = reader('rugd', 'colors')
        assert rugd.read(path).tolist() == [[0, 6], [255, 23]]
        assert rugd.read_stored(path).tolist() == [[0x6C4014, 0x0000FF], [0, 0x72552F]]

    def test_alpha_is_left_out(self, tmp_path):
        rgba = np.array([[[108, 64, 20, 255], [0, 0, 255, 0]]], np.uint8)
        Image.fromarray(rgba).save(tmp_path / 'a.png')
        assert reader('rugd', 'colors').read(tmp_path / 'a.png').tolist() == [[0, 6]]

    def test_unknown_colours_are_named(self, tmp_path):
        rgb = np.array([[[108, 64, 20], [1, 2, 3]], [[1, 2, 3], [255, 254, 0]]], np.uint8)
        path = write(tmp_path / 'a.png', rgb)
        match = (
            r'a\.png: got unknown colours #010203 \(2 px\), #fffe00 \(1 px\); expected those of '
            r'rugd: #6c4014 dirt, .*#72552f picnic-table, #000000 ignored; .*ignored_colors$'
        )
        with pytest.raises(DatasetError, match=match):
            reader('rugd', 'colors').read(path)
        assert reader('rugd', 'colors', unknown='ignore').read(path).tolist() == [
            [0, 255],
            [255, 255],
        ]

    def test_void_must_be_in_the_taxonomy(self):
        with pytest.raises(DatasetError, match=r'unknown colours #000000 \(4 px\)'):
            reader('falcon10', 'colors').encode(np.zeros((2, 2), np.uint32))

    def test_grey_and_deep_pictures_are_refused(self, tmp_path):
        path = write(tmp_path / 'a.png', np.zeros((2, 2), np.uint8))
        with pytest.raises(DatasetError, match=r"got a grey picture.*'raw_ids' or 'class_ids'"):
            reader('rugd', 'colors').read(path)
        path = write(tmp_path / 'a.png', np.zeros((2, 2, 3), np.uint16))
        with pytest.raises(DatasetError, match='got 16 bits a channel, expected 8'):
            reader('rugd', 'colors').read(path)

    def test_real_masks(self, falcon_root):
        folder = falcon_root.parent / 'rugd_sample' / 'annotations'
        paths = sorted(folder.glob('*.png'))
        if not paths:
            pytest.skip(f'{folder} is not there')
        rugd = reader('rugd', 'colors')
        for path in paths[::6]:
            label_map = rugd.read(path)
            rgb = cv2.imread(str(path))[..., ::-1]
            assert np.array_equal(rugd.source.palette_rgb[label_map], rgb)  # void is black too


class TestPalette:
    @pytest.mark.parametrize('bits', [2, 4, 8])
    def test_indices_are_raw_ids(self, tmp_path, bits):
        picture = Image.fromarray(np.array([[1, 3], [0, 2]], np.uint8), 'P')
        picture.putpalette([0, 9, 9] * 4)  # equal colours: only the indices can tell
        picture.save(tmp_path / 'a.png', bits=bits)
        stored = reader('ycor', 'palette').read_stored(tmp_path / 'a.png')
        assert stored.tolist() == [[1, 3], [0, 2]]
        assert reader('ycor', 'palette').read(tmp_path / 'a.png').tolist() == [[0, 2], [255, 1]]

    def test_other_files_are_refused(self, tmp_path):
        path = write(tmp_path / 'a.png', np.zeros((2, 2), np.uint8))
        with pytest.raises(DatasetError, match=r"not an indexed PNG file.*'raw_ids' if"):
            reader('ycor', 'palette').read(path)

    def test_damage_is_refused(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 8, (64, 64)).astype(np.uint8)
        data = bytearray(encode_mask(noise, load_taxonomy('ycor'), 'palette'))
        data[-300] ^= 0x55
        (tmp_path / 'a.png').write_bytes(data)
        with pytest.raises(DatasetError, match=r'a\.png: got a broken PNG file'):
            reader('ycor', 'palette').read(tmp_path / 'a.png')


class TestCountValues:
    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from([np.uint8, np.uint16, np.uint32]).flatmap(
            lambda dtype: arrays.arrays(
                dtype,
                arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=12),
                elements=st.sampled_from([0, 1, 7, 200, 255]),
            )
        )
    )
    def test_equals_numpy(self, stored):
        values, counts = count_values(stored)
        expected = np.unique(stored, return_counts=True)
        assert values.dtype == counts.dtype == np.int64
        assert np.array_equal(values, expected[0])
        assert np.array_equal(counts, expected[1])

    def test_large_values(self):
        stored = np.array([[0xFFFFFF, 0xFFFFFF], [0x010000, 0]], np.uint32)
        assert [array.tolist() for array in count_values(stored)] == [
            [0, 0x10000, 0xFFFFFF],
            [1, 1, 2],
        ]


def test_looking_up_equals_a_loop_over_values():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 10, (27, 48))
    label_map = np.kron(coarse, np.ones((20, 20), int)).astype(np.uint8)  # 540 x 960
    falcon, rugd = load_taxonomy('falcon10'), load_taxonomy('rugd')
    raw = np.array([entry.raw_ids[0] for entry in falcon.classes], np.uint16)[label_map]
    rgb = rugd.palette_rgb[label_map]
    packed = (rgb @ np.array([65536, 256, 1])).astype(np.uint32)

    def loop_over_ids():
        found = np.full(raw.shape, 255, np.uint8)
        for entry, value in itertools.product(falcon.classes, np.unique(raw)):
            if value in entry.raw_ids:
                found[raw == value] = entry.id
        return found

    def loop_over_colors():
        found = np.full(raw.shape, 255, np.uint8)
        for entry in rugd.classes:
            found[(rgb == entry.color_rgb).all(-1)] = entry.id
        return found

    ids, colors = MaskReader(falcon, 'raw_ids'), MaskReader(rugd, 'colors')
    assert np.array_equal(loop_over_ids(), label_map)
    assert np.array_equal(ids.encode(raw), label_map)
    assert np.array_equal(loop_over_colors(), label_map)
    assert np.array_equal(colors.encode(packed), label_map)
