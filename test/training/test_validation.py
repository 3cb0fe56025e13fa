"""Whole frames through a model whose answers are known."""

import numpy as np
import pytest
import torch

from offroad_seg_core.metrics.meter import SegmentationMeter
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.validation import confusion_matrices, measure

ROCKS, LANDSCAPE = 7, 8


def model(images):
    """Call dark pixels Rocks and others Landscape, with a confidence of 0.75."""
    logits = torch.full((len(images), 10, *images.shape[1:3]), -100.0)
    is_dark = images[..., 0] < 128
    logits[:, ROCKS] = torch.where(is_dark, np.log(3.0), 0.0)
    logits[:, LANDSCAPE] = torch.where(is_dark, 0.0, np.log(3.0))
    return logits


def frame(environment, **extra):
    image = torch.zeros((8, 8, 3), dtype=torch.uint8)
    image[:, 4:] = 255
    image[6:] = 255  # padding below: no part of the frame
    target = np.full((6, 8), LANDSCAPE, np.uint8)
    target[:, :4] = ROCKS
    target[0, :] = 255
    return {
        'image': image,
        'target': target,
        'content_size': (6, 8),
        'environment': environment,
        **extra,
    }


def test_measured_frames():
    frames = [frame('east', name='first'), frame('west')]
    frames[1]['target'][1:, :2] = LANDSCAPE
    meter = SegmentationMeter(load_taxonomy('falcon10'))
    measure(model, frames, meter)
    report = meter.to_dict()
    assert report['environments']['east']['scores']['pixel_accuracy'] == 1
    assert report['environments']['west']['scores']['pixel_accuracy'] == pytest.approx(3 / 4)
    ece = report['environments']['east']['calibration']['ece']
    assert ece == pytest.approx(0.25, abs=1 / 510)
    assert [entry['frame'] for entry in report['together']['images']['frames']] == ['', 'first']
    matrices = confusion_matrices(model, frames, 10)
    for name, tally in meter.tallies.items():
        np.testing.assert_array_equal(matrices[name].counts, tally.matrix.counts)
