"""The row and the counts of one frame, by hand."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.evaluation.counting import FrameCounter
from offroad_seg_core.evaluation.predictors import Prediction
from offroad_seg_core.evaluation.sources.frame import Frame
from offroad_seg_core.metrics.meter import MeterConfig
from offroad_seg_core.taxonomy import load_taxonomy

LABELS = np.array([[8, 8, 9, 255], [8, 9, 9, 255]], np.uint8)
TARGET = np.array([[8, 9, 9, 9], [8, 255, 9, 255]], np.uint8)


def count(confidence, target, labels=LABELS):
    taxonomy = load_taxonomy('falcon10')
    counter = FrameCounter(taxonomy, taxonomy.cost_table(), MeterConfig(boundary=None))
    image = CameraImage(np.zeros((*labels.shape, 3), np.uint8), 'bgr')
    frame = Frame('left', 'a', 1, 2, lambda: image)
    return counter(frame, image, Prediction(labels, confidence), target)


@pytest.mark.parametrize('target', [TARGET, None], ids=['truth', 'no truth'])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_shares_and_confidence_are_those_of_the_prediction(dtype, target):
    levels = np.array([[255, 51, 255, 0], [204, 255, 0, 0]], np.uint8)
    confidence = levels if dtype == np.uint8 else np.float32(levels / 255)
    row, tally = count(confidence, target)
    # (1 + 0.2 + 1 + 0.8 + 1 + 0) / 6: the two pixels without label claim nothing.
    assert row['mean_confidence'] == pytest.approx(4 / 6, abs=1e-6)
    assert row['unlabeled_share'] == 0.25
    assert (row['share_Landscape'], row['share_Sky'], row['share_Trees']) == (0.375, 0.375, 0)
    assert (tally is None) == (target is None)


def test_counts_are_those_of_pixels_with_truth():
    row, tally = count(np.full((2, 4), 255, np.uint8), TARGET)
    counts = tally.matrix.counts
    # Landscape: 2 right. Sky: 2 right, 1 called Landscape, 1 without label. Two have no truth.
    assert counts[8, 8] == counts[9, 9] == 2
    assert counts[9, 8] == counts[9, 10] == 1
    assert counts.sum() == 6
    assert row['iou_Landscape'] == pytest.approx(2 / 3, abs=1e-6)
    assert row['iou_Sky'] == pytest.approx(2 / 4, abs=1e-6)
    # Five pixels with label and truth: four right, one wrong, all sure.
    assert tally.calibration.counts[:, :, 255].sum(axis=0).tolist() == [1, 4]
    assert tally.calibration.counts.sum() == 5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 0.3, 0.9]))
def test_rows_of_bytes_and_of_floats_agree(seed, unlabeled):
    rng = np.random.default_rng(seed)
    labels, target = rng.integers(0, 10, (2, 12, 12), np.uint8)
    labels[rng.random(labels.shape) < unlabeled] = 255
    labels[0, 0] = 0
    levels = rng.integers(0, 256, labels.shape, np.uint8)
    row, tally = count(levels, target, labels)
    expected = levels[labels != 255].mean() / 255
    assert row.pop('mean_confidence') == pytest.approx(expected, abs=1e-6)
    # Floats are counted in several passes, bytes in one.
    float_row, float_tally = count(levels / 255, target, labels)
    assert float_row.pop('mean_confidence') == pytest.approx(expected, abs=1e-6)
    assert row == float_row
    np.testing.assert_array_equal(tally.matrix.counts, float_tally.matrix.counts)
    np.testing.assert_array_equal(tally.calibration.counts, float_tally.calibration.counts)


def test_nothing_labelled_has_no_confidence():
    taxonomy = load_taxonomy('falcon10')
    counter = FrameCounter(taxonomy, taxonomy.cost_table(), MeterConfig(boundary=None))
    image = CameraImage(np.zeros((2, 4, 3), np.uint8), 'bgr')
    nothing = Prediction(np.full((2, 4), 255, np.uint8), np.zeros((2, 4), np.uint8))
    row, _ = counter(Frame('left', 'a', 1, 2, lambda: image), image, nothing, None)
    assert row['mean_confidence'] is None
    assert row['unlabeled_share'] == 1
