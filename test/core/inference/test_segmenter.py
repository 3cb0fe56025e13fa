"""The segmenter on a model whose answers are known: each block's nearest taxonomy colour."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from offroad_seg_core.inference import tta
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import create_engine
from offroad_seg_core.inference.preprocess import CameraView, ImageError
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions
from offroad_seg_core.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy('falcon10')
SKY, ROCKS, LANDSCAPE = (TAXONOMY.index(name) for name in ('Sky', 'Rocks', 'Landscape'))


@pytest.fixture(scope='module', params=['onnxruntime', 'openvino'])
def segmenter(request, palette_bundle):
    pytest.importorskip(request.param)
    made = Segmenter.open(palette_bundle, request.param, 'fp32')
    yield made
    made.close()


@pytest.fixture(autouse=True)
def default_options(request):
    yield
    if 'segmenter' in request.fixturenames:
        request.getfixturevalue('segmenter').options = SegmenterOptions()


def paint(size, regions, color_order='bgr'):
    """Return (image, label_map) of Landscape with rectangles (class, rows, columns)."""
    label_map = np.full(size, LANDSCAPE, np.uint8)
    for class_id, rows, columns in regions:
        label_map[slice(*rows), slice(*columns)] = class_id
    palette = TAXONOMY.palette_rgb if color_order == 'rgb' else TAXONOMY.palette_bgr
    return palette[label_map], label_map


def inner(label_map, margin):
    """True where no other class is within margin pixels."""
    kernel = np.ones((2 * margin + 1,) * 2, np.uint8)
    return cv2.dilate(label_map, kernel) == cv2.erode(label_map, kernel)


# Edges lie on the model's 8 px blocks (16 px in a 128x192 image): no block mixes two colours.
SCENE = [(SKY, (0, 64), (0, 192)), (ROCKS, (80, 112), (112, 160))]


def test_labels_come_back_at_camera_geometry(segmenter):
    image, expected = paint((128, 192), SCENE)
    result = segmenter.segment(image)
    assert result.label_map.dtype == np.uint8
    assert result.label_map.shape == (128, 192)
    sure = inner(expected, 12)
    np.testing.assert_array_equal(result.label_map[sure], expected[sure])
    assert (result.label_map == expected).mean() > 0.9


@pytest.mark.parametrize('order', ['bgr', 'rgb', 'bgra', 'rgba'])
def test_color_orders_agree(segmenter, order):
    image, _ = paint((128, 192), SCENE)
    expected = segmenter.segment(image).label_map.copy()
    code = {'rgb': cv2.COLOR_BGR2RGB, 'bgra': cv2.COLOR_BGR2BGRA, 'rgba': cv2.COLOR_BGR2RGBA}
    converted = cv2.cvtColor(image, code[order]) if order in code else image
    np.testing.assert_array_equal(segmenter.segment(converted, order).label_map, expected)


def test_mono_is_grey(segmenter):
    grey = np.full((64, 96), 128, np.uint8)
    assert np.unique(segmenter.segment(grey, 'mono').label_map).tolist() == [ROCKS]


def test_padded_rows_are_read_in_place(segmenter):
    image, _ = paint((128, 192), SCENE)
    padded = np.zeros((128, 200, 3), np.uint8)
    padded[:, :192] = image
    np.testing.assert_array_equal(
        segmenter.segment(padded[:, :192]).label_map, segmenter.segment(image).label_map
    )


@pytest.mark.parametrize('size', [(64, 96), (100, 300), (300, 100), (61, 77), (1200, 1920)])
def test_letterbox_is_undone_for_any_aspect(segmenter, size):
    half = size[0] // 2
    image, expected = paint(size, [(SKY, (0, half), (0, size[1]))])
    label_map = segmenter.segment(image).label_map
    assert label_map.shape == size
    away = np.abs(np.arange(size[0]) - half) > max(8, 12 * max(size[0] / 64, size[1] / 96))
    np.testing.assert_array_equal(label_map[away], expected[away])


@pytest.mark.parametrize('rotation_deg', [90, 180, 270])
def test_rotation_is_undone(segmenter, rotation_deg):
    upright, expected = paint((128, 192), SCENE)
    turns = rotation_deg // 90  # the camera's image is the upright one, turned back
    mounted = np.ascontiguousarray(np.rot90(upright, turns))
    label_map = segmenter.segment(mounted, view=CameraView(rotation_deg)).label_map
    np.testing.assert_array_equal(label_map, np.rot90(segmenter.segment(upright).label_map, turns))
    assert label_map.shape == mounted.shape[:2]
    assert (np.rot90(label_map, -turns) == expected).mean() > 0.9


def test_ego_pixels_are_unlabeled_and_of_unknown_cost(segmenter):
    image, _ = paint((128, 192), SCENE)
    ego = np.zeros((128, 192), bool)
    ego[100:, :] = True
    result = segmenter.segment(image, view=CameraView(ego_mask=ego), want_confidence=True)
    assert (result.label_map[ego] == 255).all()
    assert (result.label_map[~ego] != 255).all()
    assert (result.cost[ego] == 255).all()
    assert (result.confidence_u8[ego] == 0).all()


def test_ego_mask_of_another_size_names_both(segmenter):
    image, _ = paint((128, 192), [])
    view = CameraView(ego_mask=np.zeros((64, 96), bool))
    with pytest.raises(ImageError, match=r'\(64, 96\).*\(128, 192\)'):
        segmenter.segment(image, view=view)


def test_cost_follows_the_taxonomy_and_overrides(segmenter):
    image, _ = paint((128, 192), SCENE)
    result = segmenter.segment(image)
    assert result.cost[100, 144] == 254  # rock
    assert result.cost[10, 10] == 255  # sky says nothing about ground
    assert result.cost[120, 20] == 20  # bare ground
    segmenter.options = SegmenterOptions(cost_overrides={'Rocks': 90})
    assert segmenter.segment(image).cost[100, 144] == 90


def test_absent_classes_leave_the_runner_up(segmenter):
    image, _ = paint((128, 192), SCENE)
    segmenter.options = SegmenterOptions(absent_classes=('Rocks',))
    label_map = segmenter.segment(image).label_map
    assert ROCKS not in label_map
    grey = TAXONOMY.palette_rgb[ROCKS].astype(int)
    distances = ((TAXONOMY.palette_rgb[:10].astype(int) - grey) ** 2).sum(axis=1)
    distances[ROCKS] = distances.max() + 1
    assert label_map[96, 144] == np.argmin(distances)


def test_confidence_and_threshold(segmenter):
    image, _ = paint((128, 192), SCENE)
    soil, grass = (TAXONOMY.palette_bgr[TAXONOMY.index(n)] for n in ('Landscape', 'Dry Grass'))
    image[64:128, 0:64] = (soil.astype(int) + grass) // 2  # could be either
    assert segmenter.segment(image).confidence_u8 is None
    result = segmenter.segment(image, want_confidence=True)
    assert result.confidence_u8[10, 10] > 250
    segmenter.options = SegmenterOptions(confidence_threshold=0.9)
    cut = segmenter.segment(image, want_confidence=True)
    unsure = result.confidence_u8 < round(0.9 * 255)
    assert 0 < unsure.sum() < unsure.size // 2
    assert (cut.label_map[unsure] == 255).all()
    np.testing.assert_array_equal(cut.label_map[~unsure], result.label_map[~unsure])


@pytest.mark.parametrize(
    ('output_size', 'expected'),
    [('camera', (120, 240)), ('engine', (48, 96)), ((60, 90), (60, 90))],
)
def test_output_size(segmenter, output_size, expected):
    image, _ = paint((120, 240), [(SKY, (0, 60), (0, 240))])
    segmenter.options = SegmenterOptions(output_size=output_size)
    result = segmenter.segment(image, want_confidence=True)
    assert result.label_map.shape == result.confidence_u8.shape == expected
    assert result.label_map[0, 0] == SKY
    assert result.label_map[-1, -1] == LANDSCAPE


def test_labels_are_written_into_the_given_buffer(segmenter):
    image, _ = paint((128, 192), SCENE)
    out = np.empty((128, 192), np.uint8)
    result = segmenter.segment(image, out=out)
    assert result.label_map is out or np.shares_memory(result.label_map, out)


@pytest.mark.parametrize(('tta', 'passes'), [('off', 1), ('flip', 2), ('flip_scales', 6)])
def test_views_agree_with_a_single_pass(segmenter, tta, passes):
    image, expected = paint((128, 192), SCENE)
    segmenter.options = SegmenterOptions(tta=tta)
    result = segmenter.segment(image)
    assert result.timings.passes == passes
    sure = inner(expected, 16)
    np.testing.assert_array_equal(result.label_map[sure], expected[sure])


def test_auto_uses_all_views_when_there_is_time_and_one_when_there_is_none(segmenter):
    image, _ = paint((128, 192), SCENE)
    segmenter.options = SegmenterOptions(tta='auto', deadline_ms=10_000)
    assert segmenter.segment(image).timings.passes == 6
    assert segmenter.segment(image, elapsed_ms=20_000).timings.passes == 1
    segmenter.options = replace(segmenter.options, deadline_ms=0.001)
    assert segmenter.segment(image).timings.passes == 1


def test_one_hiccup_does_not_end_augmentation_for_good(monkeypatch):
    now_s, slow_pass, passes_run = [0.0], [0], [0]

    def run(images):
        passes_run[0] += 1
        now_s[0] += 0.12 if passes_run[0] == slow_pass[0] else 0.002
        return np.zeros((1, 2, 4, 4), np.float32)

    monkeypatch.setattr(tta, 'time', SimpleNamespace(perf_counter=lambda: now_s[0]))
    images = np.zeros((1, 32, 32, 3), np.uint8)
    views = tta.ViewRunner(run, 32)
    assert views(images, 'auto', 60.0)[1] == 6
    slow_pass[0] = passes_run[0] + 2  # the second pass of this frame is slow
    assert views(images, 'auto', 60.0)[1] == 2
    passes = [views(images, 'auto', 60.0)[1] for _ in range(30)]
    assert passes[0] == 1  # the burst counts at once
    assert passes[-1] == 6  # and is forgiven


def test_size_may_change_between_frames(segmenter):
    for size in [(64, 96), (128, 192), (90, 60), (64, 96)]:
        image, _ = paint(size, [])
        label_map = segmenter.segment(image).label_map
        assert label_map.shape == size
        content = label_map[: size[0] * 3 // 4, : size[1] * 3 // 4]  # padding mixes at the rim
        assert np.unique(content).tolist() == [LANDSCAPE]


@pytest.mark.parametrize(
    ('image', 'order', 'message'),
    [
        (np.zeros((0, 5, 3), np.uint8), 'bgr', 'empty'),
        (np.zeros((4, 5), np.uint8), 'bgr', r'expected uint8 with 3 channel'),
        (np.zeros((4, 5, 3), np.float32), 'bgr', 'float32'),
        (np.zeros((4, 5, 3), np.uint8), 'hsv', 'expected one of'),
    ],
)
def test_bad_images_are_refused(segmenter, image, order, message):
    with pytest.raises(ImageError, match=message):
        segmenter.segment(image, order)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'tta': 'mirror'}, 'expected one of'),
        ({'confidence_threshold': 1.5}, '0 to 1'),
        ({'deadline_ms': 0.0}, 'above 0'),
        ({'output_size': 'big'}, 'camera, engine'),
        ({'output_size': (0, 5)}, 'camera, engine'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SegmenterOptions(**options)


def test_options_are_checked_against_the_taxonomy_before_they_apply(segmenter):
    before = segmenter.options
    with pytest.raises(ValueError, match='Rokcs'):
        segmenter.options = SegmenterOptions(absent_classes=('Rokcs',))
    with pytest.raises(ValueError, match='leave one'):
        segmenter.options = SegmenterOptions(absent_classes=TAXONOMY.names)
    with pytest.raises(ValueError, match='Rokcs'):
        segmenter.options = SegmenterOptions(cost_overrides={'Rokcs': 3})
    assert segmenter.options is before


def test_bgr_bundles_see_bgr(tmp_path, make_palette_bundle):
    # Colours are mirrored in the model's eyes: red and blue swapped both ways cancel out only
    # if the segmenter honours the manifest.
    folder = make_palette_bundle(tmp_path / 'bgr', color_order='bgr')
    bundle = Bundle.load(folder)
    segmenter = Segmenter(bundle, create_engine(bundle, 'onnxruntime'))
    image, expected = paint((64, 96), [(SKY, (0, 32), (0, 96))], 'rgb')
    # An image declared BGR whose bytes are RGB is what an RGB-trained model in a BGR bundle reads.
    assert (segmenter.segment(image, 'bgr').label_map == expected).mean() > 0.95


def test_stretch_fills_the_network_input(tmp_path, make_palette_bundle):
    segmenter = Segmenter.open(
        make_palette_bundle(tmp_path / 'stretch', resize='stretch'), 'onnxruntime'
    )
    image, expected = paint((64, 300), [(SKY, (0, 64), (0, 150))])
    segmenter.options = SegmenterOptions(output_size='engine')
    assert segmenter.segment(image).label_map.shape == (64, 96)
    segmenter.options = SegmenterOptions()
    assert (segmenter.segment(image).label_map == expected).mean() > 0.9
