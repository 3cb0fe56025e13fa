import os
from pathlib import Path

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.label_mapping import LabelMapping, RawValueError, encode_raw
from offroad_seg_core.taxonomy import TaxonomyError, load_taxonomy

FALCON_RAW = (100, 200, 300, 500, 550, 600, 700, 800, 7100, 10000)


def test_by_name():
    mapping = LabelMapping.by_name(load_taxonomy('falcon10'), load_taxonomy('falcon7'))
    assert list(mapping.table[:11]) == [0, 1, 2, 3, 255, 255, 255, 4, 5, 6, 255]
    assert mapping.table.shape == (256,)
    labels = np.array([[9, 4], [255, 7]], np.uint8)
    np.testing.assert_array_equal(mapping.apply(labels), [[6, 255], [255, 4]])
    out = np.empty_like(labels)
    assert mapping.apply(labels, out) is out


def test_categories_of_goose():
    goose = load_taxonomy('goose64')
    nine = LabelMapping.to_categories(goose, 'challenge9')
    # undefined, traffic_cone, snow, cobble, ..., car, person, bush, sky, military_vehicle
    assert [nine.table[i] for i in (0, 1, 2, 3, 12, 14, 17, 53, 63)] == [0, 4, 3, 2, 5, 7, 6, 8, 5]
    twelve = LabelMapping.to_categories(goose, 'categories12')
    assert [twelve.table[i] for i in (0, 8, 56)] == [255, 255, 255]
    assert [twelve.table[i] for i in (33, 54, 23, 13)] == [0, 10, 7, 9]
    assert LabelMapping.to_categories(goose, 'categories12', ignored=()).table[0] == 11
    with pytest.raises(TaxonomyError, match=r"'challenge'.*did you mean 'challenge9'"):
        LabelMapping.to_categories(goose, 'challenge')
    with pytest.raises(TaxonomyError, match=r"ignored: got 'void'.*did you mean 'Void'"):
        LabelMapping.to_categories(goose, 'categories12', ignored=['void'])


def write_mapping(path, **changes):
    ten, seven = load_taxonomy('falcon10'), load_taxonomy('falcon7')
    lines = {name: name if name in seven.names else None for name in ten.names}
    lines.update(changes)
    text = '\n'.join(f'  {name}: {target or "null"}' for name, target in lines.items())
    path.write_text(f'source: falcon10\ntarget: falcon7\nclasses:\n{text}\n')
    return path, ten, seven


def test_load(tmp_path):
    path, ten, seven = write_mapping(tmp_path / 'm.yaml', Logs='Rocks')
    mapping = LabelMapping.load(path, ten, seven)
    assert list(mapping.table[:10]) == [0, 1, 2, 3, 255, 255, 4, 4, 5, 6]


def test_load_refuses(tmp_path):
    path, ten, seven = write_mapping(tmp_path / 'm.yaml', Logs='Rock')
    with pytest.raises(TaxonomyError, match=r"m\.yaml: target: got 'Rock'.*'Rocks'"):
        LabelMapping.load(path, ten, seven)
    with pytest.raises(
        TaxonomyError, match=r"m\.yaml: source: got 'falcon10'; expected 'goose64'"
    ):
        LabelMapping.load(path, load_taxonomy('goose64'), seven)
    path, ten, seven = write_mapping(tmp_path / 'm.yaml', Lava='Rocks')
    with pytest.raises(TaxonomyError, match=r"m\.yaml: source: got 'Lava'"):
        LabelMapping.load(path, ten, seven)
    path.write_text(path.read_text().replace('  Sky: Sky\n', '').replace('  Lava: Rocks\n', ''))
    with pytest.raises(TaxonomyError, match='got nothing for Sky'):
        LabelMapping.load(path, ten, seven)


def test_encode_raw_by_hand():
    mask = np.array([[100, 10000, 7100], [550, 600, 800]], np.uint16)
    falcon10 = encode_raw(mask, load_taxonomy('falcon10'))
    np.testing.assert_array_equal(falcon10, [[0, 9, 8], [4, 5, 7]])
    assert falcon10.dtype == np.uint8
    falcon7 = encode_raw(mask, load_taxonomy('falcon7'))
    np.testing.assert_array_equal(falcon7, [[0, 6, 5], [255, 255, 4]])
    goose = encode_raw(np.array([[0, 63]], np.uint8), load_taxonomy('goose64'))
    np.testing.assert_array_equal(goose, [[0, 63]])


def test_encode_raw_refuses_unknown_values():
    mask = np.array([[100, 550, 16], [16, 0, 100]], np.uint16)
    message = (
        r'frame\.png: got unknown raw values 0 \(1 px\), 16 \(2 px\); .*100 Trees.*550 ignored'
    )
    with pytest.raises(RawValueError, match=message):
        encode_raw(mask, load_taxonomy('falcon7'), 'frame.png')
    with pytest.raises(RawValueError, match='and 988 more values'):
        encode_raw(np.arange(11000, 12000, dtype=np.uint16)[None], load_taxonomy('falcon7'))


@pytest.mark.parametrize(
    'mask', [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.int32), np.zeros(4, np.uint16)]
)
def test_encode_raw_refuses_other_arrays(mask):
    with pytest.raises(RawValueError, match=r'expected .H, W. uint8 or uint16.*IMREAD_UNCHANGED'):
        encode_raw(mask, load_taxonomy('falcon10'))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(FALCON_RAW), min_size=1, max_size=50))
def test_encode_raw_inverts_the_table(values):
    taxonomy = load_taxonomy('falcon10')
    labels = encode_raw(np.array([values], np.uint16), taxonomy)
    assert [taxonomy.classes[label].raw_ids[0] for label in labels[0]] == values


def test_real_masks_are_covered():
    root = Path(__file__).parents[2]
    data = Path(os.environ.get('OFFROAD_SEG_DATA', root.parent / 'shared' / 'data'))
    masks = sorted((data / 'falcon_desert' / 'Segmentation').glob('*.png'))[::40]
    if not masks:
        pytest.skip('no Falcon masks; set OFFROAD_SEG_DATA to the folder that has falcon_desert/')
    for path in masks:
        raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        labels = encode_raw(raw, load_taxonomy('falcon10'), str(path))
        assert np.count_nonzero(labels == 255) == 0
