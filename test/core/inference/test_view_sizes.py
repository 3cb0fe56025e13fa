"""The input sizes of test-time augmentation are opened once, also those that fail."""

from pathlib import Path
import sys

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_engines import FakeEngine

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.inference.engines.base import EngineStoppedError
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions

SMALL, LARGE = (64, 64), (64, 128)
IMAGE = np.zeros((64, 96, 3), np.uint8)


class Recording(FakeEngine):
    """Refuses the inputs of `errors`."""

    def __init__(self):
        super().__init__('tensorrt', 0.0, 'fp16', 'gpu')
        self.sizes, self.errors = [], {}

    def run(self, images):
        size = images.shape[1:3]
        self.sizes.append(size)
        if size in self.errors:
            raise self.errors[size]
        return super().run(images)


@pytest.fixture
def engine():
    return Recording()


def made(palette_bundle, engine, tta):
    return Segmenter(Bundle.load(palette_bundle), engine, SegmenterOptions(tta=tta))


def test_they_can_be_opened_before_the_first_frame(palette_bundle, engine):
    segmenter = made(palette_bundle, engine, 'flip_scales')
    assert engine.sizes == []
    segmenter.open_views()
    assert set(engine.sizes) == {SMALL, LARGE}
    engine.sizes.clear()
    segmenter.open_views()
    assert engine.sizes == []
    made(palette_bundle, engine, 'flip').open_views()
    assert engine.sizes == []


@pytest.mark.parametrize('error', [EngineError('no plan'), RuntimeError('no plan')])
def test_one_that_failed_is_not_built_again_at_every_frame(palette_bundle, engine, error):
    engine.errors = {SMALL: error}
    segmenter = made(palette_bundle, engine, 'flip_scales')
    for _ in range(3):
        with pytest.raises(EngineError, match='no plan'):
            segmenter.segment(IMAGE)
    assert engine.sizes == [SMALL]
    for tta in ('off', 'flip_scales'):  # the way to try it again
        segmenter.options = SegmenterOptions(tta=tta)
    engine.errors = {}
    assert segmenter.segment(IMAGE).timings.passes == 6


def test_one_that_was_stopped_is_opened_later(palette_bundle, engine):
    engine.errors = {SMALL: EngineStoppedError('stopped')}
    segmenter = made(palette_bundle, engine, 'flip_scales')
    with pytest.raises(EngineStoppedError):
        segmenter.segment(IMAGE)
    engine.errors = {}
    assert segmenter.segment(IMAGE).timings.passes == 6
