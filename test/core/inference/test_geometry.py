"""Nothing moves on the way from the camera to the network and back."""

import numpy as np
import pytest

from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import EngineOutput
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.preprocess import CameraView, Geometry, Preprocessor
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions
from offroad_seg_core.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy('falcon10')
# Between these colours no third class is nearest, so a border has nothing in between.
SKY, ROCKS = TAXONOMY.index('Sky'), TAXONOMY.index('Rocks')
NETWORK, BLOCK = (64, 96), 8  # of the palette bundle
SPEC = InputSpec(size=NETWORK, mean=(127.5,) * 3, std=(127.5,) * 3)
RIGHT, BELOW, NONE = (240, 180), (120, 360), (256, 384)
"""Camera sizes that leave padding there."""


@pytest.fixture(scope='module')
def segmenter(palette_bundle):
    pytest.importorskip('onnxruntime')
    made = Segmenter.open(palette_bundle, 'onnxruntime', 'fp32')
    yield made
    made.close()


def halves(size, axis, border):
    """Return (BGR image, label map): sky before the border along an axis, rocks after it."""
    label_map = np.full(size, ROCKS, np.uint8)
    label_map[(slice(None),) * axis + (slice(border),)] = SKY
    return TAXONOMY.palette_bgr[label_map], label_map


def scale_of(size):
    """Return camera pixels a network pixel."""
    return max(size[0] / NETWORK[0], size[1] / NETWORK[1])


@pytest.mark.parametrize(('classes', 'seed'), [(range(10), 0), ((1, 4, 9), 1), ((3,), 2)])
def test_decoding_equals_torch(classes, seed):
    torch = pytest.importorskip('torch')
    logits = np.random.default_rng(seed).normal(size=(10, 8, 12)).astype(np.float32)
    decoded = Decoder(NETWORK).label_map(EngineOutput(logits[np.newaxis]), tuple(classes))
    kept = torch.from_numpy(logits[list(classes)])[None]
    full = torch.nn.functional.interpolate(kept, NETWORK, mode='bilinear', align_corners=False)
    best, second = full[0].topk(min(2, len(kept[0])), dim=0).values[[0, -1]]
    expected = np.array(classes)[full[0].argmax(0).numpy()]
    tied = ((best - second) < 1e-5).numpy() & (len(classes) > 1)  # rounding decides there
    assert tied.mean() < 0.001
    np.testing.assert_array_equal(decoded[~tied], expected[~tied])


@pytest.mark.parametrize('size', [RIGHT, BELOW, NONE], ids=['right', 'below', 'none'])
def test_padding_is_where_the_cases_say(size):
    height, width = Geometry.fit(size, 0, SPEC).content_size
    assert (height < NETWORK[0], width < NETWORK[1]) == (size == BELOW, size == RIGHT)


@pytest.mark.parametrize('rotation_deg', [0, 90, 180, 270])
@pytest.mark.parametrize('size', [RIGHT, BELOW, NONE], ids=['right', 'below', 'none'])
@pytest.mark.parametrize('axis', [0, 1], ids=['horizontal', 'vertical'])
@pytest.mark.parametrize('block', [1, 2])
def test_edges_come_back_where_they_are(segmenter, size, axis, block, rotation_deg):
    # The border lies between two of the network's blocks: no block mixes both colours.
    scale = scale_of(size)
    border = round(block * BLOCK * scale)
    upright, expected = halves(size, axis, border)
    turns = rotation_deg // 90  # the camera's image is the upright one, turned back
    mounted = np.ascontiguousarray(np.rot90(upright, turns))
    label_map = segmenter.segment(mounted, view=CameraView(rotation_deg)).label_map
    assert label_map.shape == mounted.shape[:2]
    found = np.rot90(label_map, -turns)
    # Padding has a colour of its own, which reaches a block into the content.
    inner = tuple(side - round(1.5 * BLOCK * scale) for side in size)
    wrong = np.argwhere((found != expected)[: inner[0], : inner[1]])
    assert border < inner[axis] - 2 * scale
    if len(wrong):
        assert np.abs(wrong[:, axis] + 0.5 - border).max() <= 2 * scale
    assert {SKY, ROCKS} == set(np.unique(found[: inner[0], : inner[1]]))


def test_a_mirrored_view_adds_nothing_where_the_network_is_symmetric(segmenter):
    image, _ = halves(RIGHT, 1, 90)
    image[60:120, 30:60] = TAXONOMY.palette_bgr[ROCKS]
    plain = segmenter.segment(image).label_map.copy()
    segmenter.options = SegmenterOptions(tta='flip')
    try:
        flipped = segmenter.segment(image)
    finally:
        segmenter.options = SegmenterOptions()
    assert flipped.timings.passes == 2
    assert (flipped.label_map == plain).mean() > 0.999


@pytest.mark.parametrize('axis', [0, 1], ids=['horizontal', 'vertical'])
@pytest.mark.parametrize('period_px', [2, 4])
def test_fine_stripes_average_out(period_px, axis):
    size = (1997, 3494)  # 3.9 times the network's input: finest period that it can show 7.8 px
    spec = SPEC.model_copy(update={'size': (512, 896)})
    stripes = np.zeros((*size, 3), np.uint8)
    stripes[np.indices(size)[axis] // (period_px // 2) % 2 == 0] = 255
    geometry = Geometry.fit(size, 0, spec)
    height, width = geometry.content_size
    content = Preprocessor(spec).prepare(stripes, 'bgr', geometry)[0, :height, :width]
    assert abs(content.mean() - 127.5) < 3
    assert content.std() < 10  # of 127.5
