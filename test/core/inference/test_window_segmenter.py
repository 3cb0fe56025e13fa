"""The segmenter with windows, on a model that sees blocks alone: the labels stay the same."""

from dataclasses import asdict

import numpy as np
import pytest

from offroad_seg_core.inference.bundle import Bundle, write_bundle
from offroad_seg_core.inference.engines import EngineError, create_engine
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions
from offroad_seg_core.inference.sliding_window import SlidingWindow
from offroad_seg_core.taxonomy import load_taxonomy

onnx = pytest.importorskip('onnx')
TAXONOMY = load_taxonomy('falcon10')
WINDOWS = SlidingWindow((64, 96), (32, 64), frame_size=(128, 192))


@pytest.fixture(scope='module')
def segmenter(palette_bundle):
    made = Segmenter.open(palette_bundle, 'onnxruntime', 'fp32')
    yield made
    made.close()


@pytest.fixture(scope='module')
def large(make_palette_bundle, tmp_path_factory):
    """The same model with the windows' frame size as its input size."""
    path = make_palette_bundle(tmp_path_factory.mktemp('large') / 'palette', size=[128, 192])
    made = Segmenter.open(path, 'onnxruntime', 'fp32')
    yield made
    made.close()


def painted(seed, size, block=16):
    """Return an image of blocks in the colours of classes, ``(H, W, 3)`` BGR.

    Blocks of 16 px are two of the network's wide: in their middle nothing is interpolated.
    """
    rows, columns = size[0] // block, size[1] // block
    ids = np.random.default_rng(seed).integers(0, TAXONOMY.num_classes, (rows, columns))
    return TAXONOMY.palette_bgr[np.kron(ids, np.ones((block, block), int))].copy()


@pytest.mark.parametrize('tta', ['off', 'flip_scales'])
def test_windows_give_the_labels_of_whole_frames(segmenter, large, tta):
    image = painted(0, (128, 192))
    segmenter.options = SegmenterOptions(tta=tta, sliding_window=WINDOWS)
    large.options = SegmenterOptions(tta=tta)
    found = segmenter.segment(image, want_confidence=True)
    expected = large.segment(image, want_confidence=True)
    np.testing.assert_array_equal(found.label_map, expected.label_map)
    difference = found.confidence_u8.astype(int) - expected.confidence_u8
    assert np.abs(difference).max() <= 1
    assert found.timings.passes == expected.timings.passes


def test_frames_keep_what_a_small_input_loses(segmenter, large):
    # Fitted into 64 x 96, two colours of 8 px become one block of 8 px.
    image = painted(1, (128, 192), block=8)
    segmenter.options = SegmenterOptions()
    small = segmenter.segment(image).label_map
    segmenter.options = SegmenterOptions(sliding_window=WINDOWS)
    found = segmenter.segment(image).label_map
    large.options = SegmenterOptions()
    np.testing.assert_array_equal(found, large.segment(image).label_map)
    assert (found != small).mean() > 0.3
    segmenter.options = SegmenterOptions()
    np.testing.assert_array_equal(segmenter.segment(image).label_map, small)


def test_frames_of_another_shape_are_padded(segmenter):
    image = painted(2, (64, 192))
    segmenter.options = SegmenterOptions(sliding_window=WINDOWS)
    found = segmenter.segment(image).label_map
    assert found.shape == (64, 192)
    assert (TAXONOMY.palette_bgr[found[8::16, 8::16]] == image[8::16, 8::16]).all()


def test_a_twin_has_the_same_windows(segmenter):
    segmenter.options = SegmenterOptions(sliding_window=WINDOWS)
    image = painted(3, (128, 192))
    expected = segmenter.segment(image).label_map
    np.testing.assert_array_equal(segmenter.twin().segment(image).label_map, expected)
    assert asdict(segmenter.twin().options)['sliding_window']['stride'] == (32, 64)


def test_sizes_must_fit_the_stride_and_change_nothing_if_not(segmenter):
    segmenter.options = SegmenterOptions(sliding_window=WINDOWS)
    with pytest.raises(ValueError, match=r'window: got \(60, 96\).* of 32, .*fix: \(64, 96\)'):
        segmenter.options = SegmenterOptions(sliding_window=SlidingWindow((60, 96), (32, 32)))
    assert segmenter.options.sliding_window == WINDOWS


def test_a_bundle_of_one_input_size(palette_bundle, tmp_path):
    bundle = Bundle.load(palette_bundle)
    model = onnx.load(bundle.model_file('fp32'))
    for dimension, value in zip(
        model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 64, 96), strict=True
    ):
        dimension.ClearField('dim_param')
        dimension.dim_value = value
    onnx.save(model, tmp_path / 'model.onnx')
    manifest = bundle.manifest.model_dump(mode='json', exclude={'files'})
    write_bundle(tmp_path / 'fixed', manifest, {'model.onnx': tmp_path / 'model.onnx'})
    segmenter = Segmenter.open(tmp_path / 'fixed', 'onnxruntime', 'fp32')
    image = painted(4, (128, 192))
    segmenter.options = SegmenterOptions(sliding_window=WINDOWS)
    found = segmenter.segment(image).label_map
    assert (TAXONOMY.palette_bgr[found[8::16, 8::16]] == image[8::16, 8::16]).all()
    segmenter.options = SegmenterOptions(
        sliding_window=SlidingWindow((96, 96), (32, 32), frame_size=(128, 192))
    )
    fix = r'(?s)one fixed input size, fix: sliding_window.window: \[64, 96\], batch_size: 1'
    with pytest.raises(EngineError, match=fix):
        segmenter.segment(image)
    segmenter.close()


def test_labels_cannot_be_blended(palette_bundle, tmp_path):
    bundle = Bundle.load(palette_bundle)
    manifest = bundle.manifest.model_dump(mode='json', exclude={'files'})
    manifest['outputs'] |= {'kind': 'labels', 'stride': 8}
    write_bundle(tmp_path / 'labels', manifest, {'model.onnx': bundle.path / 'model.onnx'})
    labels = Bundle.load(tmp_path / 'labels')
    engine = create_engine(bundle, 'onnxruntime', 'fp32')
    with pytest.raises(ValueError, match=r'sliding_window .*need logits, but it outputs labels'):
        Segmenter(labels, engine, SegmenterOptions(sliding_window=WINDOWS))
