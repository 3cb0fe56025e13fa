import os
from unittest import mock

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
import numpy as np
from PIL import Image
import pytest

from offroad_seg_core.datasets.mask_writing import encode_mask, write_mask
from offroad_seg_core.datasets.masks import DatasetError, MaskReader
from offroad_seg_core.taxonomy import Taxonomy, list_taxonomies, load_taxonomy

FORMATS = ('class_ids', 'raw_ids', 'colors', 'palette')
CASES = [
    (name, format)
    for name in list_taxonomies()
    for format in FORMATS
    if not (format == 'palette' and name.startswith('falcon'))  # their raw ids exceed 8 bits
]


def void_is_stored(taxonomy, format):
    if format == 'colors':
        return bool(taxonomy.ignored_colors)
    return format == 'class_ids' or bool(taxonomy.ignored_raw_ids)


@pytest.mark.parametrize(('name', 'format'), CASES)
def test_round_trip(tmp_path, name, format):
    taxonomy = load_taxonomy(name)
    labels = [*range(taxonomy.num_classes), *([255] if void_is_stored(taxonomy, format) else [])]
    reader = MaskReader(taxonomy, format)
    path = tmp_path / 'mask.png'
    shapes = arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)

    @settings(max_examples=10, deadline=None)
    @given(arrays.arrays(np.uint8, shapes, elements=st.sampled_from(labels)))
    def check(label_map):
        path.write_bytes(encode_mask(label_map, taxonomy, format))
        again = reader.read(path)
        assert again.dtype == np.uint8
        np.testing.assert_array_equal(again, label_map)

    check()


def test_falcon_is_sixteen_bits(tmp_path):
    path = tmp_path / 'predictions' / 'a.png'
    write_mask(path, np.array([[0, 8], [9, 4]], np.uint8), load_taxonomy('falcon10'), 'raw_ids')
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert stored.tolist() == [[100, 7100], [10000, 550]]
    assert [entry.name for entry in path.parent.iterdir()] == ['a.png']


def test_goose_is_eight_bits_and_rellis_keeps_its_gaps(tmp_path):
    path = tmp_path / 'a_labelids.png'
    write_mask(path, np.array([[17, 0]], np.uint8), load_taxonomy('goose64'), 'raw_ids')
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint8
    assert stored.tolist() == [[17, 0]]
    write_mask(path, np.array([[0, 1, 18, 255]], np.uint8), load_taxonomy('rellis3d'), 'raw_ids')
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tolist() == [[1, 3, 34, 0]]


def test_colors_are_rgb(tmp_path):
    path = tmp_path / 'a.png'
    label_map = np.array([[0, 5], [23, 255]], np.uint8)
    write_mask(path, label_map, load_taxonomy('rugd'), 'colors')
    rgb = np.asarray(Image.open(path))
    assert rgb.tolist() == [[[108, 64, 20], [0, 128, 255]], [[114, 85, 47], [0, 0, 0]]]


def test_palette_holds_ids_and_colours(tmp_path):
    path = tmp_path / 'labels.png'
    write_mask(path, np.array([[0, 7, 255]], np.uint8), load_taxonomy('ycor'), 'palette')
    picture = Image.open(path)
    assert picture.mode == 'P'
    assert np.asarray(picture).tolist() == [[1, 8, 0]]
    assert np.asarray(picture.convert('RGB')).tolist() == [
        [[178, 176, 153], [1, 88, 255], [255, 255, 255]]
    ]
    colors = MaskReader(load_taxonomy('ycor'), 'colors')
    assert colors.read(path).tolist() == [[0, 7, 255]]


def test_first_raw_id_and_first_ignored_value_are_written():
    data = load_taxonomy('falcon7').to_dict()
    data['classes'][0]['raw_ids'] = [44, 100]
    taxonomy = Taxonomy.from_dict({**data, 'ignored_raw_ids': [9, 550], 'ignored_colors': []})
    stored = encode_mask(np.array([[0, 255]], np.uint8), taxonomy, 'raw_ids')
    pixels = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.tolist() == [[44, 9]]


@pytest.mark.parametrize(
    ('name', 'format', 'labels', 'match'),
    [
        ('falcon10', 'raw_ids', [[255, 255]], r'2 pixels without a label \(255\), but falcon10'),
        ('falcon7', 'colors', [[0, 255]], 'add one to its ignored_raw_ids or ignored_colors'),
        ('falcon10', 'class_ids', [[3, 10]], r'got labels 10 \(1 px\); expected 0 to 9 of falcon'),
        ('rugd', 'colors', [[24, 254]], r'labels 24 \(1 px\), 254 \(1 px\); expected 0 to 23'),
        ('falcon10', 'palette', [[0]], r'raw ids up to 10000; an indexed PNG.*write .raw_ids'),
    ],
)
def test_refuses_labels(tmp_path, name, format, labels, match):
    path = tmp_path / 'a.png'
    with pytest.raises(DatasetError, match=match):
        write_mask(path, np.array(labels, np.uint8), load_taxonomy(name), format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'label_map',
    [np.zeros((2, 2), np.int64), np.zeros((2, 2, 3), np.uint8), np.zeros((0, 2), 'u1')],
)
def test_refuses_other_arrays(label_map):
    with pytest.raises(DatasetError, match=r'expected a label map .H, W. uint8'):
        encode_mask(label_map, load_taxonomy('rugd'), 'raw_ids')


def test_refuses_ids_above_those_of_a_palette():
    classes = [
        {
            'id': i,
            'name': f'c{i}',
            'color': f'#00000{i}',
            'raw_ids': ids,
            'group': 'rough',
            'cost': 20,
        }
        for i, ids in enumerate(([1, 300], [2]))
    ]
    taxonomy = Taxonomy.from_dict({'name': 'wide', 'source': 'a test', 'classes': classes})
    with pytest.raises(DatasetError, match=r"wide has raw ids up to 300; an .* write 'raw_ids'"):
        encode_mask(np.zeros((2, 2), np.uint8), taxonomy, 'palette')


def test_refuses_lossy_files(tmp_path):
    with pytest.raises(DatasetError, match=r'a\.jpg: expected a name that ends in \.png'):
        write_mask(tmp_path / 'a.jpg', np.zeros((2, 2), 'u1'), load_taxonomy('rugd'), 'raw_ids')


@pytest.mark.parametrize('failing', ['write', 'replace'])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, failing):
    path = tmp_path / 'a.png'
    rugd = load_taxonomy('rugd')
    write_mask(path, np.zeros((4, 4), np.uint8), rugd, 'raw_ids')
    before = path.read_bytes()
    full = OSError(28, 'No space left on device')
    target = 'pathlib.Path.write_bytes' if failing == 'write' else 'os.replace'
    with mock.patch(target, side_effect=full), pytest.raises(OSError, match='No space left'):
        write_mask(path, np.ones((4, 4), np.uint8), rugd, 'raw_ids')
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['a.png']


def test_real_masks_come_back_pixel_for_pixel(falcon_root, tmp_path):
    reader = MaskReader(load_taxonomy('falcon10'), 'raw_ids')
    for path in sorted((falcon_root / 'Segmentation').glob('*.png'))[::70]:
        write_mask(tmp_path / path.name, reader.read(path), reader.source, 'raw_ids')
        stored = reader.read_stored(tmp_path / path.name)
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(stored, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
