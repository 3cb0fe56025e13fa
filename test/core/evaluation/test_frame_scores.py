import numpy as np
import pytest

from offroad_seg_core.evaluation.frame_scores import TILE_WIDTH_PX, FrameScores
from offroad_seg_core.evaluation.predictors import Prediction

IMAGE = np.full((20, 40, 3), 100, np.uint8)


def frame(num_wrong, size=(10, 20)):
    """Return a prediction with ``num_wrong`` pixels of class 1, and a truth of class 0."""
    label_map = np.zeros(size, np.uint8)
    label_map.ravel()[:num_wrong] = 1
    confidence = np.full(size, 0.75, np.float32)
    return Prediction(label_map, confidence), np.zeros(size, np.uint8)


def filled(wrong, **options):
    scores = FrameScores(3, **options)
    for index, number in enumerate(wrong):
        scores.add(f'f{index}', 'ab'[index % 2], IMAGE, *frame(number))
    return scores


def test_scores_of_frames_and_counts_of_environments():
    scores = filled([0, 50, 200])
    assert [f.miou for f in scores.frames] == [1.0, 0.75, 0.0]
    assert [f.micro_iou for f in scores.frames] == [1.0, 150 / 250, 0.0]
    assert [f.accuracy for f in scores.frames] == [1.0, 0.75, 0.0]
    assert scores.matrices['a'].counts[0].tolist() == [200, 200, 0, 0]
    assert scores.matrices['b'].counts[0].tolist() == [150, 50, 0, 0]


def test_confidence_is_held_against_what_is_right():
    scores = filled([0, 50, 200]).calibration.scores(num_bins=5)
    assert scores.bin_pixels.tolist() == [0, 0, 0, 600, 0]
    assert scores.bin_accuracy[3] == pytest.approx(350 / 600)
    assert scores.ece == pytest.approx(0.75 - 350 / 600, abs=0.002)  # in steps of 1 / 255


def test_best_and_worst_in_order_and_ties_by_position():
    scores = filled([20, 0, 10, 0, 30, 30, 5], num_extremes=3)
    assert [p.score.name for p in scores.best] == ['f1', 'f3', 'f6']
    assert [p.score.name for p in scores.worst] == ['f4', 'f5', 'f0']


def test_frames_without_labels_are_neither_best_nor_worst():
    scores = filled([0])
    empty = np.full((10, 20), 255, np.uint8)
    scores.add('empty', 'a', IMAGE, frame(0)[0], empty)
    assert np.isnan(scores.frames[1].miou)
    assert [p.score.name for p in scores.best] == ['f0']


def test_memory_is_bounded_by_the_pictures_that_are_shown():
    scores = filled(range(0, 200, 2), num_extremes=5, gallery_indices={0, 50, 99})
    assert (len(scores.frames), len(scores.best), len(scores.worst)) == (100, 5, 5)
    assert [p.score.name for p in scores.gallery] == ['f0', 'f50', 'f99']


def test_pictures_are_small_and_count_their_errors():
    scores = FrameScores(3)
    prediction, target = frame(0, (840, 1680))
    prediction.label_map[:, :2] = 1  # half of the first small column, which is 4 px wide
    scores.add('big', 'a', np.zeros((420, 840, 3), np.uint8), prediction, target)
    picture = scores.best[0]
    assert picture.image.shape == (210, TILE_WIDTH_PX, 3)
    assert picture.target.shape == picture.label_map.shape == (210, TILE_WIDTH_PX)
    assert picture.wrong[:, 0] == pytest.approx(0.5)
    assert not picture.wrong[:, 1:].any()
