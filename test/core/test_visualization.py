import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.legend import (
    LegendEntry,
    class_legend_entries,
    draw_legend,
    legend_entries,
    render_legend,
)
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.visualization import (
    DEFAULT_ALPHA,
    TRAVERSABILITY_PALETTE_BGR,
    TRAVERSABILITY_PALETTE_RGB,
    colorize,
    contact_sheet,
    overlay,
)

PALETTE = np.random.default_rng(5).integers(0, 256, (256, 3), dtype=np.uint8)
# Machado, Oliveira, Fernandes 2009, severity 1.0, for linear RGB.
COLOR_VISION = {
    'normal': np.eye(3),
    'deuteranopia': [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    'protanopia': [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    'tritanopia': [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen_lab(colors_rgb, vision):
    """Return the CIELAB values, (N, 3), of (N, 3) colours 0-255 for one kind of colour vision."""
    unit = np.asarray(colors_rgb, np.float64) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOR_VISION[vision]).T, 0, 1)
    coded = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(coded[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize('vision', COLOR_VISION)
@pytest.mark.parametrize('ground', [(200, 170, 130), (60, 100, 50), (70, 60, 50)])
def test_free_and_lethal_differ_for_everyone(vision, ground):
    shown = np.array(ground) * (1 - DEFAULT_ALPHA) + TRAVERSABILITY_PALETTE_RGB * DEFAULT_ALPHA
    lab = seen_lab(shown, vision)
    distances = np.linalg.norm(lab[:21, None] - lab[None, 230:255], axis=-1)
    assert distances.min() > 17


def test_cost_palette():
    assert TRAVERSABILITY_PALETTE_RGB.shape == (256, 3)
    np.testing.assert_array_equal(TRAVERSABILITY_PALETTE_RGB[:, ::-1], TRAVERSABILITY_PALETTE_BGR)
    free, middle, lethal = TRAVERSABILITY_PALETTE_RGB[[0, 120, 254]].astype(int)
    assert free[1] > free[0] + 100  # green side
    assert min(middle[:2]) > 200  # yellow
    assert lethal[0] > lethal[1] + 100  # red side
    assert len({tuple(color) for color in TRAVERSABILITY_PALETTE_RGB[:255]}) == 255


def test_colorize_by_hand():
    colored = colorize(np.array([[0, 255], [7, 7]], np.uint8), PALETTE)
    np.testing.assert_array_equal(colored, PALETTE[[[0, 255], [7, 7]]])
    assert colored.dtype == np.uint8


def test_overlay_by_hand():
    palette = np.zeros((256, 3), np.uint8)
    palette[3] = [200, 100, 0]
    palette[255] = [255, 255, 255]
    image = np.full((1, 3, 3), 40, np.uint8)
    tinted = overlay(image, np.array([[3, 0, 255]], np.uint8), palette, alpha=0.25)
    # 40 * 0.75 + color * 0.25; the unknown pixel stays 40.
    np.testing.assert_array_equal(tinted[0], [[80, 55, 30], [30, 30, 30], [40, 40, 40]])
    np.testing.assert_array_equal(image, 40)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20), st.floats(0, 1))
def test_overlay_agrees_with_plain_numpy(seed, height, width, alpha):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = rng.choice(np.array([0, 4, 200, 255], np.uint8), (height, width))
    expected = image * (1 - alpha) + PALETTE[labels] * alpha
    expected[labels == 255] = image[labels == 255]
    out = np.empty_like(image)
    assert overlay(image, labels, PALETTE, alpha, out) is out
    assert np.abs(out - expected).max() <= 1.0 + 1e-9  # two roundings
    np.testing.assert_array_equal(out[labels == 255], image[labels == 255])


def test_overlay_takes_camera_buffers_as_they_come():
    image = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    labels = np.full((6, 7), 30, np.uint8)
    padded = image[:, :7]
    padded.flags.writeable = False
    expected = overlay(np.ascontiguousarray(padded), labels)
    np.testing.assert_array_equal(overlay(padded, labels), expected)


LABELS = np.zeros((4, 5), np.uint8)
IMAGE = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: colorize(LABELS.astype(int), PALETTE), r'label_map: got \(4, 5\) int64'),
        (lambda: colorize(IMAGE, PALETTE), r'label_map: got \(4, 5, 3\) uint8; expected \(4, 5\)'),
        (lambda: colorize(LABELS, PALETTE[:10]), r'palette: got \(10, 3\) uint8'),
        (lambda: colorize(LABELS, PALETTE, IMAGE[:2]), r'out: got \(2, 5, 3\) uint8'),
        (
            lambda: overlay(IMAGE[:3], LABELS),
            r'image: got \(3, 5, 3\) uint8; expected \(4,',
        ),
        (lambda: overlay(LABELS, LABELS), r'image: got \(4, 5\) uint8'),
        (lambda: overlay(IMAGE, LABELS, alpha=45), 'alpha: got 45; expected 0 to 1'),
        (lambda: overlay(IMAGE, LABELS, alpha=float('nan')), 'alpha: got nan'),
        (lambda: overlay(IMAGE, LABELS, out=IMAGE), 'out: got memory of image'),
        (lambda: contact_sheet([], 2), 'got 0 images'),
        (lambda: contact_sheet([IMAGE], 0), '0 columns'),
        (lambda: contact_sheet([IMAGE], 1, ['a', 'b']), 'got 2 captions for 1 images'),
        (
            lambda: draw_legend(IMAGE, (), 'middle'),
            "corner: got 'middle'; expected one of top",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_contact_sheet_places_every_tile():
    colors = [(10, 20, 30), (40, 50, 60), (70, 80, 90)]
    images = [np.full((20, 40, 3), color, np.uint8) for color in colors]
    sheet = contact_sheet(images, columns=2, tile_width=80)
    # Tiles of 40 x 80 with 6 px around: two rows, two columns.
    assert sheet.shape == (6 + 2 * 46, 6 + 2 * 86, 3)
    for color, (top, left) in zip(colors, [(6, 6), (6, 92), (52, 6)], strict=True):
        tile = sheet[top : top + 40, left : left + 80]
        np.testing.assert_array_equal(np.unique(tile.reshape(-1, 3), axis=0), [color])


def test_contact_sheet_keeps_aspects_and_shrinks_captions():
    tall = np.full((300, 30, 3), 200, np.uint8)
    wide = np.full((20, 40, 3), 100, np.uint8)
    sheet = contact_sheet(
        [wide, tall], 2, ['short', 'this caption is a good deal wider than its tile'], 160
    )
    tile = sheet[6:86, 172:332]
    assert (tile == 200).all(axis=(0, 2)).sum() == 8  # 300 x 30 fitted into 80 x 160
    strip = sheet[86:-6, 172:332]
    assert strip.max() > 150
    assert strip[:, -4:].max() == 0  # the text ends before the tile does


def test_legend_entries_name_classes_by_cost():
    entries = legend_entries(load_taxonomy('falcon10'), {'Logs': 230})
    assert [entry.text for entry in entries] == [
        'Landscape 20',
        'Dry Grass 60',
        'Flowers 100',
        'Ground Clutter 120',
        'Dry Bushes 180',
        'Lush Bushes, Logs 230',
        'Trees, Rocks 254',
    ]
    assert entries[0].color == tuple(int(part) for part in TRAVERSABILITY_PALETTE_BGR[20])


def test_legend_entries_of_many_classes_name_groups():
    entries = legend_entries(load_taxonomy('goose64'), palette=TRAVERSABILITY_PALETTE_RGB)
    texts = [entry.text for entry in entries]
    assert texts[:3] == ['smooth 0-80', 'rough 20-60', 'resistant 100-200']
    assert sorted(texts[3:]) == ['hazard 200-254', 'obstacle 230-254', 'water 254']
    assert entries[-1].color == tuple(int(part) for part in TRAVERSABILITY_PALETTE_RGB[254])


@pytest.mark.parametrize(
    ('corner', 'row', 'column'),
    [
        ('top_left', 0, 0),
        ('top_right', 0, -1),
        ('bottom_left', -1, 0),
        ('bottom_right', -1, -1),
    ],
)
def test_draw_legend_into_its_corner(corner, row, column):
    image = np.full((300, 400, 3), 77, np.uint8)
    entries = (LegendEntry('free', (0, 255, 1)), LegendEntry('lethal', (2, 3, 250)))
    assert draw_legend(image, entries, corner) is image
    touched = (image != 77).any(axis=2)
    assert touched[row, column]
    assert not touched[-1 - row, -1 - column]
    assert touched.mean() < 0.05
    for entry in entries:
        assert (image == entry.color).all(axis=2).sum() > 50
    assert (image.min(axis=2) > 200).any()  # white letters


def test_legend_is_rendered_once():
    entries = class_legend_entries(load_taxonomy('falcon10'), PALETTE)
    draw_legend(np.zeros((400, 400, 3), np.uint8), entries, text_height_px=9)
    before = render_legend.cache_info()
    draw_legend(np.zeros((400, 500, 3), np.uint8), entries, text_height_px=9)
    after = render_legend.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)


def test_long_legends_open_columns_and_small_images_cut_them():
    entries = class_legend_entries(load_taxonomy('goose64'), PALETTE)
    assert len(entries) == 64
    patch = render_legend(entries, 8, 300)
    assert patch.shape[0] <= 300
    for entry in entries:
        assert (patch == entry.color).all(axis=2).any()
    tiny = draw_legend(np.zeros((10, 12, 3), np.uint8), entries)
    assert tiny.any()


def test_empty_legend_is_harmless():
    image = draw_legend(np.zeros((100, 100, 3), np.uint8), ())
    assert image.shape == (100, 100, 3)
