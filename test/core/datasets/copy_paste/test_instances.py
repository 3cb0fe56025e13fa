from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.datasets.copy_paste.instances import (
    Instance,
    InstanceRules,
    count_beneath,
    cut_out,
    find_instances,
    look_around,
    texture_of,
)

RULES = InstanceRules(min_area_px=6, max_area_share=0.5)


def draw_labels():
    labels = np.zeros((20, 30), np.uint8)
    labels[2:6, 3:8] = 1  # 4 x 5, free
    labels[10:13, 0:4] = 1  # cut off by the left rim
    labels[15:17, 20:22] = 1  # 4 pixels: a crumb
    return labels


def boxes(found):
    return [instance.box for instance in found]


def test_regions_of_a_class_are_its_objects():
    found = find_instances(draw_labels(), 1, RULES)
    assert boxes(found) == [(2, 3, 6, 8)]
    assert (found[0].area_px, found[0].solidity, found[0].truncated) == (20, 1.0, False)


def test_objects_at_the_rim_are_flagged_if_kept():
    rules = InstanceRules(min_area_px=6, keep_truncated=True)
    found = find_instances(draw_labels(), 1, rules)
    assert [(item.box, item.truncated) for item in found] == [
        ((2, 3, 6, 8), False),
        ((10, 0, 13, 4), True),
    ]


def test_large_objects_are_left_out():
    assert (
        find_instances(draw_labels(), 1, InstanceRules(min_area_px=6, max_area_share=0.03)) == []
    )


def test_instance_ids_part_what_touches_and_join_what_is_apart():
    labels = draw_labels()
    ids = np.zeros(labels.shape, np.uint16)
    ids[2:6, 3:5] = 40000  # left part of the free object
    ids[2:6, 5:8] = 7  # right part ...
    labels[8:10, 5:8] = 1
    ids[8:10, 5:8] = 7  # ... and the same object again below a gap
    ids[0:2] = 7  # other classes of that id do not count
    rules = InstanceRules(min_area_px=6, min_compactness=0)
    assert boxes(find_instances(labels, 1, rules, ids)) == [(2, 3, 6, 5), (2, 5, 10, 8)]


def test_pixels_without_an_instance_id_are_found_as_regions():
    ids = np.zeros((20, 30), np.uint8)
    assert boxes(find_instances(draw_labels(), 1, RULES, ids)) == [(2, 3, 6, 8)]


def test_ragged_objects_are_left_out():
    labels = np.zeros((40, 40), np.uint8)
    labels[5:25, 5] = 1  # a thin L: 39 pixels of a hull of over 200
    labels[24, 5:25] = 1
    assert find_instances(labels, 1, InstanceRules(min_area_px=6, min_compactness=0)) == []
    loose = InstanceRules(min_area_px=6, min_solidity=0, min_compactness=0)
    assert find_instances(labels, 1, loose)[0].area_px == 39
    threads = InstanceRules(min_area_px=6, min_solidity=0, min_compactness=0.1)
    assert find_instances(labels, 1, threads) == []


def test_cut_out_shows_nothing_of_its_old_place():
    image = np.full((20, 30, 3), 9, np.uint8)
    image[2:6, 3:8] = (200, 100, 50)
    rgba = cut_out(image, find_instances(draw_labels(), 1, RULES)[0], 3)
    assert rgba.shape == (10, 11, 4)
    assert (rgba[..., :3] == (200, 100, 50)).all()
    inside = np.zeros((10, 11), bool)
    inside[3:7, 3:8] = True
    np.testing.assert_array_equal(rgba[..., 3] > 127, inside)
    assert rgba[0, 0, 3] == 0
    assert 0 < rgba[2, 5, 3] <= 127  # a soft edge


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_alpha_tells_the_mask_of_any_shape(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 9)) < 0.4
    mask[3, 4] = True
    image = rng.integers(0, 256, (7, 9, 3), np.uint8)
    rgba = cut_out(image, Instance(1, (0, 0, 7, 9), mask, 1.0, True), 2)
    np.testing.assert_array_equal(rgba[2:-2, 2:-2, 3] > 127, mask)
    np.testing.assert_array_equal(rgba[2:-2, 2:-2, :3][mask], image[mask])


def test_labels_beneath_are_counted_per_column():
    labels = draw_labels()
    labels[6, 3:5] = 5
    labels[7, 4] = 255
    counts = count_beneath(labels, find_instances(labels, 1, RULES)[0])
    # Two rows below five columns: 2 pixels of label 5, one ignored, 7 of label 0.
    assert {i: int(n) for i, n in enumerate(counts) if n} == {0: 7, 5: 2}


def test_beneath_the_last_row_there_is_nothing():
    labels = np.zeros((8, 8), np.uint8)
    labels[5:8, 2:5] = 1
    rules = InstanceRules(min_area_px=6, max_area_share=1, keep_truncated=True)
    assert count_beneath(labels, find_instances(labels, 1, rules)[0]).sum() == 0


def test_texture_is_the_spread_of_brightness_on_the_object():
    image = np.zeros((20, 30, 3), np.uint8)
    image[2:4, 3:8] = 100
    assert texture_of(image, find_instances(draw_labels(), 1, RULES)[0]) == 50.0


def test_surroundings_leave_out_the_object_and_the_sky():
    image = np.full((20, 30, 3), (10, 20, 30), np.uint8)
    labels = np.zeros((20, 30), np.uint8)
    labels[:5] = 3
    image[:5] = 255
    labels[8:12, 10:15] = 1
    image[8:12, 10:15] = 200
    lit = np.zeros(256, np.uint8)
    lit[:2] = 1
    box, mask = (8, 10, 12, 15), np.ones((4, 5), bool)
    assert look_around(image, labels, box, lit, mask) == ((10.0, 20.0, 30.0), 0.0)
    assert look_around(image, labels, box, lit).contrast > 0


@pytest.mark.parametrize('option', [{'min_area_px': 0}, {'max_area_share': 2}, {'padding_px': 1}])
def test_bad_rules_are_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        InstanceRules(**option)
