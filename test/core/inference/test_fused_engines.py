"""CPU engines run a fused graph for labels and for logits."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('onnx')
pytest.importorskip('torch')

from offroad_seg_core.inference import head_choice, segmenter
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import (
    EngineError,
    LabelEngine,
    create_engine,
)
from offroad_seg_core.inference.export_head import decoded, fuse_bundle
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions
from offroad_seg_core.taxonomy import load_taxonomy

# Ties between upsampled logits are broken by rounding.
ALIKE = 0.999
ENGINES = ('onnxruntime', 'openvino')
HEADS = (
    HeadInputs.of_classes(10, range(10)),
    HeadInputs.of_classes(10, (0, 3, 9)),
    HeadInputs(np.linspace(-1, 1, 10, dtype=np.float32), 2.0),
)


@pytest.fixture(scope='module')
def plain(palette_bundle):
    return Bundle.load(palette_bundle)


@pytest.fixture(scope='module')
def fused(plain, tmp_path_factory):
    return fuse_bundle(plain, tmp_path_factory.mktemp('fused') / 'bundle', 4, {})


@pytest.fixture(scope='module')
def exact(plain, tmp_path_factory):
    """Its labels have the size of the network's input: nothing differs from decoded logits."""
    return fuse_bundle(plain, tmp_path_factory.mktemp('exact') / 'bundle', 1, {})


@pytest.mark.parametrize('name', ENGINES)
def test_labels_are_those_of_the_logits(plain, fused, name):
    pytest.importorskip(name)
    engine, reference = (create_engine(bundle, name, 'fp32', 1) for bundle in (fused, plain))
    assert isinstance(engine, LabelEngine)
    assert engine.info.gives_labels
    assert not reference.info.gives_labels
    assert engine.info.num_classes == 10
    for shape in ((1, 64, 96), (2, 96, 64)):
        images = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
        logits = reference.run(images).logits.copy()
        np.testing.assert_allclose(engine.run(images).logits, logits, atol=1e-4)
        for head in HEADS:
            output = engine.run_labels(images, head)
            labels, confidence = decoded(logits, head, (shape[1] // 4, shape[2] // 4))
            assert output.logits is None
            assert (output.label_map == labels).mean() > 0.999
            np.testing.assert_allclose(output.confidence, confidence, atol=1e-4)
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine.run_labels(images, HEADS[0])


def segmenters(plain, exact, name='onnxruntime', head='labels'):
    """Return one that takes labels from the graph, and one that decodes logits."""
    pytest.importorskip(name)
    return (
        Segmenter(exact, create_engine(exact, name, 'fp32', 1), head=head),
        Segmenter(plain, create_engine(plain, name, 'fp32', 1)),
    )


def blocks(seed=0):
    """Return an image of 64x64 blocks in colours of the classes; logits are 16 pixels apart."""
    palette = load_taxonomy('falcon10').palette_bgr[:10]
    ids = np.random.default_rng(seed).integers(0, 10, (4, 6))
    return np.ascontiguousarray(palette[ids.repeat(64, axis=0).repeat(64, axis=1)])


OPTIONS = (
    SegmenterOptions(),
    SegmenterOptions(absent_classes=('Sky', 'Rocks')),
    SegmenterOptions(confidence_threshold=0.6),
)


@pytest.mark.parametrize('name', ENGINES)
def test_the_segmenter_takes_labels_from_the_graph(plain, exact, name, monkeypatch):
    ours, reference = segmenters(plain, exact, name)
    monkeypatch.setattr(ours.engine, 'run', None)  # nothing asks for logits
    image = blocks()
    for options in OPTIONS:
        ours.options = reference.options = options
        result, expected = (s.segment(image, want_confidence=True) for s in (ours, reference))
        assert (result.label_map == expected.label_map).mean() > ALIKE
        sure = expected.confidence_u8 > 0
        difference = result.confidence_u8.astype(int) - expected.confidence_u8
        assert np.abs(difference[sure & (result.confidence_u8 > 0)]).max() <= 1
    absent = [load_taxonomy('falcon10').index(name) for name in ('Sky', 'Rocks')]
    ours.options = OPTIONS[1]
    assert not np.isin(ours.segment(image).label_map, absent).any()


def test_what_needs_logits_gets_them_and_it_is_said(plain, exact, caplog, monkeypatch):
    ours, reference = segmenters(plain, exact)
    caplog.set_level('INFO')
    image = blocks(1)
    ours.options = reference.options = SegmenterOptions(tta='flip')
    assert 'tta flip needs logits' in caplog.text
    monkeypatch.setattr(ours.engine, 'run_labels', None)
    result, expected = ours.segment(image), reference.segment(image)
    np.testing.assert_array_equal(result.label_map, expected.label_map)
    assert result.timings.passes == 2


def test_the_head_is_a_choice(plain, exact, caplog, monkeypatch):
    caplog.set_level('INFO')
    for head in ('logits', 'auto'):
        ours, reference = segmenters(plain, exact, head=head)
        result, expected = ours.segment(blocks()), reference.segment(blocks())
        assert (result.label_map == expected.label_map).mean() > ALIKE
    assert 'to a label map: labels' in caplog.text
    monkeypatch.setattr(segmenter, 'labels_are_faster', lambda *_: False)
    ours, reference = segmenters(plain, exact, head='auto')
    monkeypatch.setattr(ours.engine, 'run_labels', None)
    result, expected = ours.segment(blocks()), reference.segment(blocks())
    np.testing.assert_array_equal(result.label_map, expected.label_map)


def test_coarse_labels_are_right_inside_of_regions(plain, fused):
    ours, reference = segmenters(plain, fused)
    inside = (slice(31, None, 64), slice(31, None, 64))
    label_map, expected = (s.segment(blocks(2)).label_map[inside] for s in (ours, reference))
    np.testing.assert_array_equal(label_map, expected)


@pytest.mark.parametrize('labels_are_faster', [True, False])
def test_what_is_faster_is_measured_once(exact, tmp_path, monkeypatch, labels_are_faster):
    measured, ran = [], []
    monkeypatch.setattr(
        head_choice, '_measure', lambda *_: measured.append(1) or labels_are_faster
    )
    engine = create_engine(exact, 'onnxruntime', 'fp32', 1)
    first, second = (Segmenter(exact, engine, cache_folder=tmp_path) for _ in range(2))
    assert len(measured) == 1
    image = blocks()
    for name in ('run', 'run_labels'):
        monkeypatch.setattr(engine, name, recorded(getattr(engine, name), name, ran))
    for made in (first, second):
        made.segment(image)
    assert ran == ['run_labels' if labels_are_faster else 'run'] * 2


def test_streams_get_their_labels_as_one_does(exact, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(head_choice, '_measure', lambda *_: not measured.append(1))
    engine = create_engine(exact, 'onnxruntime', 'fp32', 1)
    for num_streams in (1, 2):
        monkeypatch.setattr(engine, 'info', replace(engine.info, num_streams=num_streams))
        assert Segmenter(exact, engine, cache_folder=tmp_path).head == 'labels'
    assert len(measured) == 1


def recorded(function, name, calls):
    return lambda *arguments: calls.append(name) or function(*arguments)


def test_logits_are_warm_after_a_start_that_remembers_them(exact, tmp_path, monkeypatch):
    monkeypatch.setattr(head_choice, '_measure', lambda *_: False)
    engine, ran = create_engine(exact, 'onnxruntime', 'fp32', 1), []
    monkeypatch.setattr(engine, 'run', recorded(engine.run, 'run', ran))
    Segmenter(exact, engine, cache_folder=tmp_path)
    assert ran == []  # measuring did it, which is simulated here
    Segmenter(exact, engine, cache_folder=tmp_path)
    assert ran == ['run']
