from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.datasets.copy_paste.pasting import (
    Patch,
    lay_over,
    light_ratio,
    make_patch,
    place_patch,
    relight,
    visible_alpha,
)
from offroad_seg_core.datasets.copy_paste.placement import Ground, Placement, draw_placement
from offroad_seg_core.datasets.copy_paste.transform import (
    CopyPaste,
    CopyPasteConfig,
    PasteConfig,
)

PLAIN = {'feather_px': 0.0, 'harmonize': 0.0, 'size_jitter': 1.0, 'mirror_probability': 0.0}
LIMITS = (0.2, 4.0, 1.0)


@pytest.fixture(scope='module')
def made(tmp_path_factory, scene):
    return scene.make_bank(tmp_path_factory.mktemp('bank'))


@pytest.fixture(scope='module')
def ground(made, scene):
    return Ground('stone', made[1], scene.make_taxonomy())


def paster(made, scene, **options):
    config = CopyPasteConfig(bank=made[1].folder, probability=1.0, **{**PLAIN, **options})
    return CopyPaste(made[1], config, scene.make_taxonomy())


def empty_frame(scene):
    return scene.draw_frame(None)


def test_stones_stand_on_sand_only(ground, scene):
    assert np.flatnonzero(ground.supports).tolist() == [scene.SAND]


def test_plants_support_only_what_stands_on_no_ground(made, scene):
    _, bank = made
    profile = bank.profiles['stone']
    both = {'grass': 0.6, 'sand': 0.36, 'sky': 0.04}
    for support, expected in ((both, [scene.SAND]), ({'grass': 1.0}, [])):
        bank.profiles['stone'] = replace(profile, support=support)
        try:
            supports = Ground('stone', bank, scene.make_taxonomy()).supports
        finally:
            bank.profiles['stone'] = profile
        # Grass is rarer than stones here (it never occurs), so stones may not cover it.
        assert np.flatnonzero(supports).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_feet_are_on_allowed_ground_at_learned_heights(made, ground, scene, seed):
    rng = np.random.default_rng(seed)
    _, labels = empty_frame(scene)
    labels[:, 40:60] = scene.SIGN  # no stone may stand there
    entry = made[1].entries[seed % 3]
    profile = made[1].profiles['stone']
    placement = draw_placement(entry, profile, labels, ground, LIMITS, rng)
    if placement is not None:
        assert labels[placement.row, placement.column] == scene.SAND
        assert 45 <= placement.row <= 69
        assert placement.scale == 1.0  # too few stones to learn a growth, no jitter


def test_size_follows_height(made, ground, scene):
    entry, labels = made[1].entries[0], empty_frame(scene)[1]
    profile = replace(made[1].profiles['stone'], growth=3.0, foot_quantiles=(55 / 79, 55 / 79))
    placement = draw_placement(entry, profile, labels, ground, LIMITS, np.random.default_rng(1))
    assert placement.row == 55
    assert placement.scale == pytest.approx(np.exp(3.0 * (55 - 59) / 79), rel=1e-5)


def test_sizes_out_of_range_are_refused(made, ground, scene):
    entry, labels = made[1].entries[0], empty_frame(scene)[1]
    profile = replace(made[1].profiles['stone'], growth=3.0, foot_quantiles=(55 / 79, 55 / 79))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert draw_placement(entry, profile, labels, ground, (0.9, 4.0, 1.0), rng) is None


def test_no_ground_no_placement(made, ground, scene):
    labels = np.full((80, 120), scene.SKY, np.uint8)
    profile = made[1].profiles['stone']
    rng = np.random.default_rng(0)
    assert draw_placement(made[1].entries[0], profile, labels, ground, LIMITS, rng) is None


def test_pixels_are_exactly_those_of_the_object(made, scene):
    frame = empty_frame(scene)
    entry = made[1].entries[0]
    image, labels, pasted = paster(made, scene).paste(*frame, [entry], np.random.default_rng(3))
    _, (scale, row, column), pixels = pasted[0]
    expected = np.zeros(labels.shape, bool)
    expected[row - 9 : row + 1, column - 6 : column + 6] = True
    assert (scale, pixels) == (1.0, 120)
    np.testing.assert_array_equal(labels == scene.STONE, expected)
    np.testing.assert_array_equal(labels[~expected], frame[1][~expected])
    # Without feather even the stored half pixel of softness is gone: all or nothing.
    np.testing.assert_array_equal((image != frame[0]).any(axis=2), expected)
    assert (image[expected] == scene.COLORS[scene.STONE]).all()


def test_rarer_classes_and_ignored_pixels_stay(made, ground, scene):
    image, labels = empty_frame(scene)
    labels[46:50, 50:54] = scene.SIGN
    labels[46:50, 54:58] = 255
    image[46:50, 50:58] = 7
    before = image.copy()
    rgba, entry = made[1].read(made[1].entries[0]), made[1].entries[0]
    colors, alpha = make_patch(rgba, entry, 1.0, 1.0, False)
    patch = place_patch(colors, alpha, Placement(1.0, 52, 54), labels.shape, ground)
    pasted = labels.copy()
    labelled = lay_over(image, pasted, patch)
    assert np.count_nonzero(labelled) == 120 - 32
    np.testing.assert_array_equal(pasted[46:50, 50:58], labels[46:50, 50:58])
    np.testing.assert_array_equal(image[46:50, 50:58], before[46:50, 50:58])


def test_what_reaches_further_down_hides_the_object(made, scene):
    """A bush in front covers the object's left half; a bush behind is covered."""
    bank = made[1]
    pixels = bank.class_pixels.copy()
    bank.class_pixels[scene.GRASS] = 10**6  # frequent: stones may cover it
    try:
        ground = Ground('stone', bank, scene.make_taxonomy())
    finally:
        bank.class_pixels[:] = pixels
    labels = np.full((20, 20), scene.SAND, np.uint8)
    labels[5:12, 6:10] = scene.GRASS  # begins above, ends below the foot in row 9
    labels[4:8, 12:15] = scene.GRASS  # ends above the foot: stands behind
    alpha = np.full((6, 10), 255, np.uint8)
    patch = Patch(np.zeros((6, 10, 3), np.uint8), alpha, 4, 6, 9, ground)
    visible = visible_alpha(labels, patch) > 127
    expected = np.ones((6, 10), bool)
    expected[1:, 0:4] = False
    np.testing.assert_array_equal(visible, expected)


def test_soft_edges_blend_and_do_not_label(made, ground, scene):
    image, labels = empty_frame(scene)
    sand, stone = (np.array(scene.COLORS[c], float) for c in (scene.SAND, scene.STONE))
    colors, alpha = make_patch(made[1].read(made[1].entries[0]), made[1].entries[0], 1, 2.0, False)
    patch = place_patch(colors, alpha, Placement(1.0, 55, 60), labels.shape, ground)
    before = labels.copy()
    lay_over(image, labels, patch)
    rim = image[46 + 5, 60 - 6 - 1].astype(float)  # one pixel left of the object
    assert before[51, 53] == labels[51, 53] == scene.SAND
    share = (rim - sand) / (stone - sand)
    assert np.ptp(share) < 0.03
    assert 0.2 < share.mean() < 0.5


@pytest.mark.parametrize('zoom', [0.25, 0.5, 2.0, 4.0])
def test_zoom_scales_the_object(made, zoom):
    entry = made[1].entries[0]
    _, alpha = make_patch(made[1].read(entry), entry, zoom, 0.0, False)
    rows, columns = np.nonzero(alpha > 127)
    assert np.ptp(rows) + 1 == pytest.approx(10 * zoom, abs=1)
    assert np.ptp(columns) + 1 == pytest.approx(12 * zoom, abs=1)


def test_mirroring(made):
    entry = made[1].entries[0]
    rgba = made[1].read(entry).copy()
    rgba[:, :10, :3] = 0
    plain, mirrored = (make_patch(rgba, entry, 1.0, 0.0, mirror)[0] for mirror in (False, True))
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])


def test_objects_that_stick_out_are_cut(ground):
    colors, alpha = np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 255, np.uint8)
    patch = place_patch(colors, alpha, Placement(1.0, 3, 1), (20, 20), ground)
    assert (patch.top, patch.left, patch.alpha.shape) == (0, 0, (4, 5))
    assert place_patch(colors, alpha, Placement(1.0, 3, -9), (20, 20), ground) is None


def patch_of(value, ground):
    colors = np.full((4, 4, 3), value, np.uint8)
    return Patch(colors, np.full((4, 4), 255, np.uint8), 0, 0, 3, ground)


def test_light_multiplies_colours(ground):
    ratio = light_ratio(np.array([50.0] * 3), np.array([100.0] * 3))
    assert (relight(patch_of(80, ground), ratio, 1.0).colors == 40).all()
    assert (relight(patch_of(80, ground), ratio, 0.0).colors == 80).all()
    assert (relight(patch_of(80, ground), ratio, 0.5).colors == round(80 * 0.5**0.5)).all()


def test_tint_is_bounded_and_nothing_is_lit_up(ground):
    tinted = relight(patch_of(100, ground), np.array([2.0, 1.0, 0.5]), 1.0).colors[0, 0]
    assert tinted.tolist() == [125, 100, 80]
    assert relight(patch_of(200, ground), np.array([2.0] * 3), 1.0).colors.max() == 245
    # What is bright already keeps its brightness.
    assert relight(patch_of(250, ground), np.array([2.0] * 3), 1.0).colors.max() == 250


def test_other_light_refuses_the_object(made, scene):
    image, labels = empty_frame(scene)
    dark = (image // 4).astype(np.uint8)
    entries, rng = [made[1].entries[0]], np.random.default_rng(1)
    assert paster(made, scene).paste(dark, labels, entries, rng)[2] == []
    tolerant = paster(made, scene, max_light_ratio=5.0)
    assert len(tolerant.paste(dark, labels, entries, rng)[2]) == 1


def test_far_haze_refuses_the_object(made, scene):
    bank = made[1]
    profile = bank.profiles['stone']
    bank.profiles['stone'] = replace(profile, min_contrast=0.1)
    try:
        rng = np.random.default_rng(1)
        pasted = paster(made, scene).paste(*empty_frame(scene), [bank.entries[0]], rng)[2]
    finally:
        bank.profiles['stone'] = profile
    assert pasted == []


def test_nearer_objects_come_last(made, scene):
    frame = empty_frame(scene)
    rng = np.random.default_rng(5)
    _, labels, pasted = paster(made, scene).paste(*frame, list(made[1].entries) * 4, rng)
    rows = [item.placement.row for item in pasted]
    assert rows == sorted(rows)
    assert sum(item.pixels for item in pasted) == np.count_nonzero(labels == scene.STONE)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_paste_depends_on_the_generator_alone_and_writes_to_nothing(made, scene, seed):
    frame = scene.draw_frame(scene.STONES[0], with_sign=True)
    kept = [array.copy() for array in frame]
    for array in frame:
        array.flags.writeable = False
    results = [
        paster(made, scene, feather_px=0.8, size_jitter=2.0)(*frame, np.random.default_rng(seed))
        for _ in range(2)
    ]
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)
    for array, before in zip(frame, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    labels = results[0][1]
    changed = labels != kept[1]
    assert (labels[changed] == scene.STONE).all()
    assert not np.isin(kept[1][changed], [scene.SIGN, 255]).any()


def test_probability_zero_returns_the_frame_itself(made, scene):
    frame = empty_frame(scene)
    never = CopyPasteConfig(bank=made[1].folder, probability=0.0)
    result = CopyPaste.from_config(never, scene.make_taxonomy())(*frame, np.random.default_rng(0))
    assert result[0] is frame[0]
    assert result[1] is frame[1]


def test_a_paste_config_says_not_how_often(made, scene):
    paste = CopyPaste(made[1], PasteConfig(), scene.make_taxonomy())
    with pytest.raises(TypeError, match='expected a CopyPasteConfig'):
        paste(*empty_frame(scene), np.random.default_rng(0))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({}, 'bank: missing'),
        ({'bank': 'x', 'probability': 1.5}, 'probability: got 1.5'),
        ({'bank': 'x', 'scale_range': [4, 0.2]}, 'expected 0 < low <= high'),
        ({'bank': 'x', 'feather': 1}, "did you mean 'feather_px'"),
        ({'bank': 'x', 'max_instances': 0}, 'max_instances: got 0'),
    ],
)
def test_bad_configurations(content, message):
    with pytest.raises(ConfigError, match=message):
        load_config(CopyPasteConfig, content)
